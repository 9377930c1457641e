"""What visitors of interleaved rankings prefer, for people: first a sentence, then the numbers."""

from collections.abc import Iterator
from datetime import UTC, datetime

from monitoring import page
from monitoring.intervals import CONFIDENCE
from monitoring.preference import Preference

HEAD = ("VISITORS", "CONTROL", "TREATMENT", "UNDECIDED", "TREATMENT'S SHARE")
HALF = 0.5


def says(found: Preference) -> str:
    """What to make of it, for somebody who decides and does not calculate."""
    value, low, high = found.share
    if not found.share.is_known:
        return "Nobody has clicked more on the picks of one model than on those of the other: nothing can be said yet."
    of = f"Of the visitors who prefer one of the models {value:.1%} prefer treatment ({low:.1%} to {high:.1%}): "
    if low > HALF:
        return of + "treatment is better."
    if high < HALF:
        return of + "treatment is worse."
    return of + "a difference that chance can explain."


def rows(found: Preference) -> Iterator[tuple[str, ...]]:
    """A table, with a head."""
    yield HEAD
    counts = (found.visitors, found.control, found.treatment, found.undecided)
    part = "{:.4f} ({:.4f} to {:.4f})".format(*found.share) if found.share.is_known else "unknown"
    yield (*(f"{count:,}" for count in counts), part)


def facts(found: Preference) -> Iterator[str]:
    """What the numbers rest on."""
    first, last = (f"{datetime.fromtimestamp(at / 1e3, UTC):%Y-%m-%d %H:%M}" for at in (found.first_at, found.last_at))
    yield f"Experiment {found.experiment}: {found.rankings:,} interleaved rankings from {first} to {last} UTC."
    yield "A visitor prefers the model whose picks won more of the rankings that the visitor clicked on."
    yield f"Intervals hold the true value with {CONFIDENCE:.0%} confidence when looked at once, at an end fixed before."


def html(found: Preference) -> str:
    """The page."""
    head, *body = rows(found)
    parts = [page.headline(says(found)), page.table(head, body)]
    if found.share.is_known:
        drawn = [page.Interval("treatment", *found.share), page.Interval("no difference", HALF, HALF, HALF)]
        parts.append(page.figures([page.intervals("Share of visitors who prefer treatment", drawn)]))
    return page.page(f"Experiment {found.experiment}", [*parts, *(page.paragraph(fact) for fact in facts(found))])
