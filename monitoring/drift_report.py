"""What drifts, for people: lines of text, and a page with training beside serving for every feature."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from monitoring import page
from monitoring.drift import LEAST_ROWS, PAGE, WARN, WINDOWS, DriftReading, Reading

HEAD = ("FEATURE", "ALARM", "PSI", "BY CHANCE", "WINDOWS BEFORE")
RECENT = 5


def lines(readings: Mapping[str, DriftReading]) -> Iterator[Sequence[str]]:
    """Rows of a table for each variant, the largest drift first."""
    for variant, reading in readings.items():
        yield (f"{variant} {reading.model}", "", "", "", "")
        yield HEAD
        yield from (_cells(one) for one in _largest_first(reading))


def says(variant: str, reading: DriftReading) -> str:
    """The state of a variant in a sentence or two."""
    if reading.window_ended_at is None:
        return (
            f"{variant} ({reading.model}): no window was judged yet; {reading.counting:,} rows of this one are counted "
            f"(a window takes {reading.window_seconds:g} s and at least {LEAST_ROWS} rows)."
        )
    ended = datetime.fromtimestamp(reading.window_ended_at, UTC)
    alarms = [one for one in _largest_first(reading) if one.level != "none"]
    found = ", ".join(f"{one.name} ({one.level})" for one in alarms) or "nothing drifts"
    window = f"window of {reading.window_rows:,} rows until {ended:%Y-%m-%d %H:%M} UTC"
    return f"{variant} ({reading.model}): {found}; {window}."


def html(readings: Mapping[str, DriftReading]) -> str:
    """The page."""
    parts = [page.paragraph(says(variant, reading)) for variant, reading in readings.items()]
    parts.append(
        page.paragraph(
            f"PSI is the population stability index of a window against training. A feature alarms when in each of "
            f"{WINDOWS} windows running it was above what chance explains and above {WARN} (warn) or {PAGE} (page)."
        )
    )
    for variant, reading in readings.items():
        parts += [page.heading(f"{variant}: {reading.model}"), *_section(reading)]
    return page.page("Drift", parts)


def _section(reading: DriftReading) -> Iterator[str]:
    ordered = _largest_first(reading)
    marks = ["" if one.level == "none" else one.level for one in ordered]
    yield page.table(HEAD, [_cells(one) for one in ordered], marks)
    yield page.key("training", "serving")
    yield page.figures(
        [
            page.paired_bars(_caption(one), one.labels, _shares(one.training), _shares(one.serving))
            for one in ordered
            if one.serving is not None
        ]
    )


def _caption(one: Reading) -> str:
    return (
        one.name
        if one.psi is None
        else f"{one.name}: {one.psi:.3f}" + ("" if one.level == "none" else f" ({one.level})")
    )


def _cells(one: Reading) -> tuple[str, ...]:
    before = " ".join(f"{value:.3f}" for value in one.history[-1 - RECENT : -1])
    return (one.name, "" if one.level == "none" else one.level, _number(one.psi), _number(one.chance), before)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts) or 1
    return [count / total for count in counts]


def _largest_first(reading: DriftReading) -> list[Reading]:
    return sorted(reading.distributions, key=lambda one: -(one.psi or 0.0))
