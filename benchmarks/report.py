"""A series of runs as a Markdown table for people and JSON for programs."""

import dataclasses
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from benchmarks.figures import Percentiles, Stretch
from benchmarks.measure import Measured
from benchmarks.record import REFUSED
from benchmarks.server_side import AnswerCosts, answer_costs

COLUMNS = (
    "run", "offered/s", "goodput/s", "goodput/C", "in time", "late", "refused", "other",
    "p50", "p90", "p99", "p99.9", "max", "refusal p50", "refusal p99",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Series:
    """Everything that one `frontrow bench` measured. `capacity`: requests a second, None where it was not asked for."""

    url: str
    began_at: str
    settings: dict[str, Any]
    capacity: float | None
    runs: Sequence[Measured]

    @property
    def valid(self) -> bool:
        return not any(run.figures.faults for run in self.runs)


def markdown(series: Series) -> str:
    """Return the table, then a line for everything that has to be said about it."""
    rows = [row for run in series.runs for row in _rows(run, series.capacity)]
    head = [_line(COLUMNS), _line(["---", *["---:"] * (len(COLUMNS) - 1)])]
    return "\n".join([*_intro(series), "", *head, *map(_line, rows), "", *_remarks(series)]) + "\n"


def as_json(series: Series) -> dict[str, Any]:
    """Return plain data; seconds everywhere, keys as in `figures` and `server_side`."""
    return {
        "url": series.url,
        "began_at": series.began_at,
        "settings": series.settings,
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "capacity": series.capacity,
        "valid": series.valid,
        "runs": [_run_as_json(run) for run in series.runs],
        "answer_costs": None if (costs := series_costs(series.runs)) is None else dataclasses.asdict(costs),
    }


def series_costs(runs: Iterable[Measured]) -> AnswerCosts | None:
    """Return the server's CPU seconds a success and a refusal, where the runs tell."""
    return answer_costs(
        [
            (run.figures.whole.ok + run.figures.whole.late, run.figures.sends.get(str(REFUSED), 0), cpu)
            for run in runs
            if (cpu := run.server.cpu_seconds) is not None
        ]
    )


def _run_as_json(run: Measured) -> dict[str, Any]:
    found = run.figures
    return {
        "name": run.name,
        "capacities": run.capacities,
        "valid": not found.faults,
        "faults": found.faults,
        "warnings": found.warnings,
        **dataclasses.asdict(found),
        "schedule": None if run.schedule is None else dataclasses.asdict(run.schedule)["phases"],
        "server": dataclasses.asdict(run.server),
    }


def _intro(series: Series) -> Iterator[str]:
    settings = ", ".join(f"{name} {value}" for name, value in series.settings.items())
    yield f"`{series.url}`, {series.began_at}, from a machine of {os.cpu_count()} CPUs; {settings}."
    if series.capacity is not None:
        yield f"Capacity C = {series.capacity:,.0f} requests a second."
    yield "Milliseconds from the moment a request was due; percentiles are of every 2xx, goodput of those in time."


def _rows(run: Measured, capacity: float | None) -> Iterator[list[str]]:
    phases = run.figures.phases
    for number, phase in enumerate(phases, 1):
        yield _row(run.name if len(phases) == 1 else f"phase {number}", phase, capacity)


def _row(name: str, stretch: Stretch, capacity: float | None) -> list[str]:
    refused = stretch.statuses.get(str(REFUSED), 0)
    other = stretch.requests - stretch.ok - stretch.late - refused
    return [
        name,
        f"{stretch.rate:,.0f}",
        f"{stretch.goodput:,.0f}",
        f"{stretch.goodput / capacity:.2f}" if capacity else "",
        f"{stretch.ok / max(1, stretch.requests):.1%}",
        *(f"{count:,}" for count in (stretch.late, refused, other)),
        *_milliseconds(stretch.accepted, ("p50", "p90", "p99", "p999", "max")),
        *_milliseconds(stretch.refusals, ("p50", "p99")),
    ]


def _milliseconds(values: Percentiles | None, names: Sequence[str]) -> list[str]:
    return ["" if values is None else f"{getattr(values, name) * 1e3:.1f}" for name in names]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _remarks(series: Series) -> Iterator[str]:
    for run in series.runs:
        yield from (f"- **{run.name}: INVALID**: {fault}." for fault in run.figures.faults)
        yield from (f"- {run.name}: {warning}." for warning in run.figures.warnings)
        yield from _recovery_remarks(run)
        yield f"- {run.name}: {', '.join(_counts(run))}; generator {_generator(run)}; {_server(run)}."
    costs = series_costs(series.runs)
    if costs is not None:
        yield (
            f"- The server spends {costs.success * 1e6:,.0f} us of CPU on a success and {costs.refusal * 1e6:,.0f} us "
            f"on a refusal ({costs.refusal / costs.success:.0%})."
        )


def _recovery_remarks(run: Measured) -> Iterator[str]:
    for recovery in run.figures.recoveries:
        after = "not before the phase ended" if recovery.seconds is None else f"after {recovery.seconds:.1f} s"
        yield f"- {run.name}: the load falls at {recovery.at:g} s; goodput equals it again {after}."


def _counts(run: Measured) -> Iterator[str]:
    for name, count in run.figures.sends.items():
        yield f"{count:,} x {name}"


def _generator(run: Measured) -> str:
    cost = run.figures.generator
    return (
        f"{cost.cpu_seconds:.1f} CPU s ({cost.cpu_share:.0%} of a core), late p99 {cost.late.p99 * 1e3:.1f} ms, "
        f"{cost.most_connections:,} connections"
    )


def _server(run: Measured) -> str:
    server = run.server
    cpu = "CPU unknown" if server.cpu_seconds is None else f"{server.cpu_seconds:.1f} CPU s"
    counts = {
        True: "counts agree exactly",
        False: f"counts DIFFER: {server.outcomes} there, {server.expected} here",
        None: "counts cannot be compared" if server.outcomes else "no counts",
    }
    return f"server {cpu}, {counts[server.agree]}"
