"""Pages of the docs with a place for tables, between two markers that name their subject."""

from pathlib import Path

from benchmarks.errors import BenchError


class BadPage(BenchError):
    """The page has no place for the tables."""


def check_place(page: Path, subject: str) -> None:
    """Raise BadPage where there is none for `subject`: before a long run, better than after it."""
    _around(page, *_markers(subject))


def write_into(page: Path, text: str, subject: str) -> None:
    """Put `text` between the markers of `subject` on `page`; raises BadPage where they are not."""
    opening, closing = _markers(subject)
    before, after = _around(page, opening, closing)
    page.write_text(f"{before}{opening}\n{text}{closing}{after}", encoding="utf-8")


def _markers(subject: str) -> tuple[str, str]:
    return f"<!-- {subject}:begin -->", f"<!-- {subject}:end -->"


def _around(page: Path, opening: str, closing: str) -> tuple[str, str]:
    before, begin, rest = page.read_text(encoding="utf-8").partition(opening)
    _, end, after = rest.partition(closing)
    if not (begin and end):
        raise BadPage(f"{page}: there is no {opening} ... {closing} to write into")
    return before, after
