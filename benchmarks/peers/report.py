"""A comparison as Markdown for people, and as JSON to be kept."""

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.page import BadPage
from benchmarks.peers.closed_loop import ClosedLoop
from benchmarks.peers.measure import Figures, Outcome
from benchmarks.peers.targets import MANY_P50, USUAL_CANDIDATES, Results, verdicts

PICTURE = "peers.svg"
GENERATOR_IS_THE_LIMIT = 0.8  # of its one core
HEADINGS = {
    "inline": "### Inline: 50 candidates with 30 features each, as JSON",
    "catalog": "### Catalog: a context and 50 ids, features held by the server",
}


@dataclass(frozen=True)
class Comparison:
    """Everything that a run measured. `titles` is how each server is called; `outcomes` are the middle of `rounds`."""

    began_at: str
    machine: str
    seconds: float
    rounds: int
    titles: dict[str, str]
    outcomes: Sequence[Outcome]


def machine() -> str:
    return f"{os.cpu_count()} CPUs, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def save(comparison: Comparison, path: Path) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(comparison), indent=1))


def load(path: Path) -> Comparison:
    """Read what `save` wrote; raises BadPage when it is something else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Comparison)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BadPage(f"{path}: {error}") from error


def markdown(comparison: Comparison) -> str:
    """Return the tables, the targets and what has to be said about them."""
    results = Results(comparison.outcomes)
    parts = [_intro(comparison)]
    for workload, heading in HEADINGS.items():
        rows = [row for each in _of(comparison, workload) for row in _row(each, comparison.titles, results)]
        if rows:
            parts.append("\n".join([heading, "", *_head(comparison), *rows]))
    parts += [_many(results), _targets(results), _remarks(comparison)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _of(comparison: Comparison, workload: str) -> list[Outcome]:
    """Those who answer most first, those without figures last."""
    chosen = [
        each
        for each in comparison.outcomes
        if each.workload == workload and each.candidates == USUAL_CANDIDATES and each.peer != "echo"
    ]
    return sorted(chosen, key=lambda each: -each.figures.capacity if each.figures is not None else 0)


def _intro(comparison: Comparison) -> str:
    return (
        f"{comparison.began_at}; {comparison.machine}, shared by server and callers; {comparison.seconds:g} s a figure,"
        f" the middle of {comparison.rounds}. Latencies are p50 / p99 in milliseconds."
    )


def _connections(comparison: Comparison) -> list[int]:
    return sorted({run.connections for each in comparison.outcomes if each.figures for run in each.figures.closed})


def _head(comparison: Comparison) -> Iterator[str]:
    callers = [f"{count} callers" if count > 1 else "1 caller" for count in _connections(comparison)]
    columns = ["server", "answers/s", "Frontrow has", *callers, "half load", "CPU an answer", "memory", "start"]
    yield _line(columns)
    yield _line(["---", *["---:"] * (len(columns) - 1)])


def _row(outcome: Outcome, titles: dict[str, str], results: Results) -> Iterator[str]:
    title = titles[outcome.peer]
    if outcome.figures is None:
        yield _line([title, f"not measured: {outcome.reason}"])
        return
    figures = outcome.figures
    yield _line(
        [
            title,
            f"{figures.capacity:,.0f}",
            _times(results.figures("frontrow", outcome.workload), figures),
            *(f"{_latency(run.p50, run.p99)}{'*' if run.failures else ''}" for run in figures.closed),
            "" if figures.open is None else _latency(figures.open.p50, figures.open.p99),
            f"{figures.cpu_seconds * 1e3:.2f} ms",
            f"{figures.memory_bytes / 2**20:,.0f} MiB",
            f"{figures.start_seconds:.1f} s",
        ]
    )


def _times(own: Figures | None, other: Figures) -> str:
    return "" if own is None or own is other else f"{own.capacity / other.capacity:.1f} x"


def _latency(p50: float, p99: float) -> str:
    return f"{_milliseconds(p50)} / {_milliseconds(p99)}"


def _milliseconds(seconds: float) -> str:
    value = seconds * 1e3
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _many(results: Results) -> str:
    """Lines about many candidates, one caller."""
    lines = []
    for candidates in MANY_P50:
        figures = results.figures("frontrow", "catalog", candidates)
        if figures is not None:
            run = figures.closed[0]
            lines.append(f"- Frontrow ranks {candidates:,} ids for one caller in {_latency(run.p50, run.p99)} ms.")
    return "\n".join(lines)


def _targets(results: Results) -> str:
    found = verdicts(results)
    if not found:
        return ""
    rows = [_line([each.target, each.measured, "yes" if each.met else "**no**"]) for each in found]
    return "\n".join(["### Targets", "", _line(["target", "measured", "met"]), _line(["---"] * 3), *rows])


def _remarks(comparison: Comparison) -> str:
    """What the tables leave out: answers that were no success, and what the generators took."""
    lines = [line for each in comparison.outcomes if each.figures is not None for line in _failures(each, comparison)]
    measured = [each.figures for each in comparison.outcomes if each.figures is not None]
    shares = [run.generator_share for figures in measured for run in figures.closed]
    half = [figures.open for figures in measured if figures.open is not None]
    if shares:
        verdict = "the limit of some" if max(shares) > GENERATOR_IS_THE_LIMIT else "never the limit"
        lines.append(f"- Closed loop: wrk on one thread took at most {max(shares):.0%} of a core: {verdict}.")
    if half:
        share, late = max(run.generator_share for run in half), max(run.generator_late for run in half)
        lines.append(
            f"- Open loop: the generator took at most {share:.0%} of a core, and sent at most {late * 1e3:.1f} ms late"
            " (p99), which the latencies include."
        )
    return "\n".join(lines)


def _failures(outcome: Outcome, comparison: Comparison) -> Iterator[str]:
    assert outcome.figures is not None
    name = f"{comparison.titles[outcome.peer]}, {outcome.workload}"
    for run in outcome.figures.closed:
        if run.failures:
            said = f"{_share(run)} of the answers were no success (*: they are among the latencies)"
            yield f"- {name}, {run.connections} callers: {said}."
    half = outcome.figures.open
    if half is not None and half.failures:
        yield f"- {name}, half load: {half.failures:,} requests were not answered with success."


def _share(run: ClosedLoop) -> str:
    return f"{run.failures / (run.failures + run.answers):.1%}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
