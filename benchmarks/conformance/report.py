"""What was found, kept as JSON and shown as Markdown: what each server passed, its figures, every failure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from benchmarks.conformance.suite import Row
from benchmarks.page import BadPage

WITH_FIGURES = ("behaviour", "under load")
SHOWN = {"passed": "{}", "failed": "**{}**", "not offered": "not offered: {}"}
NOT_LOOKED_AT = "-"

Key = tuple[str, str]
"""Group and name of a check."""


@dataclass(frozen=True)
class Examination:
    """What is known of one server; `reason` says why it did not come up."""

    title: str
    examined_at: str
    machine: str
    rows: Sequence[Row]
    reason: str | None = None

    def found(self) -> dict[Key, Row]:
        return {(row.group, row.name): row for row in self.rows}


def save(found: Examination, path: Path) -> None:
    """Write it; rows of an earlier run that this one did not look at are kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    earlier = load(path).found() if path.exists() else {}
    whole = replace(found, rows=list((earlier | found.found()).values()))
    path.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=1))


def load(path: Path) -> Examination:
    """Read what `save` wrote; raises BadPage when it is something else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Examination)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BadPage(f"{path}: {error}") from error


def markdown(examinations: Sequence[Examination], keys: Sequence[Key]) -> str:
    """Return the tables of those that came up, in the order of `keys`, and why the others did not."""
    shown = [each for each in examinations if each.reason is None and each.rows]
    found = [each.found() for each in shown]
    parts: list[str] = []
    if shown:
        groups = list(
            dict.fromkeys(group for group, _ in keys if any(group == seen[0] for rows in found for seen in rows))
        )
        parts.append(_table(shown, [[group, *(_passed(rows, keys, group) for rows in found)] for group in groups]))
        for group in (each for each in groups if each in WITH_FIGURES):
            parts.append(f"### {group.capitalize()}")
            parts.append(_table(shown, _cells(found, (key for key in keys if key[0] == group))))
        failures = _cells(found, (key for key in keys if key[0] not in WITH_FIGURES and _failed(found, key)))
        if failures:
            parts += ["### Attacks that one of them failed", _table(shown, failures)]
        parts.append("\n".join(f"- {each.title}: {each.examined_at}; {each.machine}" for each in shown))
    parts += [f"- {each.title} was not examined: {each.reason}" for each in examinations if each.reason is not None]
    return "\n\n".join(parts) + "\n"


def _table(shown: Sequence[Examination], lines: Sequence[Sequence[str]]) -> str:
    head = ["", *(each.title for each in shown)]
    return "\n".join(map(_line, [head, ["---"] * len(head), *lines]))


def _passed(rows: dict[Key, Row], keys: Sequence[Key], group: str) -> str:
    verdicts = [rows[key].verdict for key in keys if key[0] == group and key in rows]
    offered = [verdict for verdict in verdicts if verdict != "not offered"]
    without = f", {len(verdicts) - len(offered)} not offered" if len(offered) < len(verdicts) else ""
    return f"{offered.count('passed')} of {len(offered)}{without}" if verdicts else NOT_LOOKED_AT


def _failed(found: Sequence[dict[Key, Row]], key: Key) -> bool:
    return any(key in rows and rows[key].verdict == "failed" for rows in found)


def _cells(found: Sequence[dict[Key, Row]], keys: Iterable[Key]) -> list[list[str]]:
    """One line a check that was looked at, with what each server showed."""
    return [[key[1], *(_cell(rows, key) for rows in found)] for key in keys if any(key in rows for rows in found)]


def _cell(rows: dict[Key, Row], key: Key) -> str:
    return SHOWN[rows[key].verdict].format(rows[key].seen) if key in rows else NOT_LOOKED_AT


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
