"""`frontrow bench`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from benchmarks.bodies import Body
    from benchmarks.generator import Watch
    from benchmarks.measure import Bench, Measured
    from benchmarks.record import Record
    from benchmarks.report import Series
    from benchmarks.schedule import Load
    from benchmarks.target import Target

EXIT_INVALID = 1
LOADS = "0.5,0.8,1.2,2,5,10"
LONGEST_CAPACITY_RUN_SECONDS = 10.0
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
SECONDS = click.FloatRange(0, 86_400, min_open=True)
MILLISECONDS = click.FloatRange(0, 600_000, min_open=True)


def _sizes(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[int, int]:
    words = value.split("-")
    if len(words) > 2 or not all(word.isdigit() for word in words):
        raise click.BadParameter(f"{value!r}: write a number, as 50, or a range, as 10-200")
    least, most = int(words[0]), int(words[-1])
    if least > most:
        raise click.BadParameter(f"{value!r}: {least} is over {most}")
    return least, most


def _headers(_context: click.Context, _parameter: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    pairs = [[part.strip() for part in value.split(":", 1)] for value in values]
    for value, pair in zip(values, pairs, strict=True):
        if len(pair) != 2 or not pair[0] or not value.isprintable():
            raise click.BadParameter(f"{value!r}: write 'Name: value'")
    return dict(pairs)


def _capacity(_context: click.Context, _parameter: click.Parameter, value: str) -> float | None:
    """Return None for `auto`."""
    if value == "auto":
        return None
    try:
        number = float(value)
    except ValueError:
        number = 0
    if not 0 < number < float("inf"):
        raise click.BadParameter(f"{value!r}: write auto, or requests a second")
    return number


@dataclass(frozen=True)
class Plan:
    """What the options ask for: open-loop runs with their names, or the closed loop alone."""

    runs: Sequence[tuple[str, list[Load]]] = ()
    closed: bool = False
    random: bool = False

    @property
    def relative(self) -> bool:
        return any(load.in_capacities for _, loads in self.runs for load in loads)


@click.command()
@click.argument("url")
@click.option("--rate", "rates", type=click.FloatRange(0, min_open=True), multiple=True, help="Requests a second.")
@click.option("--load", "loads", metavar="LIST", help=f"Multiples of the capacity. [default: {LOADS}]")
@click.option("--profile", metavar="LIST", help="Loads one after another in one run: 10s@0.8C,10s@3C,10s@400.")
@click.option(
    "--arrivals",
    type=click.Choice(["even", "random"]),
    default="even",
    show_default=True,
    help="Of the open loop: evenly spaced, or as callers come who know nothing of each other (Poisson).",
)
@click.option("--closed", is_flag=True, help="Closed loop: each connection waits for its answer. Finds the capacity.")
@click.option("--capacity", default="auto", show_default=True, callback=_capacity, help="C in requests a second.")
@click.option("--seconds", type=SECONDS, default=30, show_default=True, help="Length of each run.")
@click.option("--pause-seconds", type=click.FloatRange(0, 3_600), default=1, show_default=True, help="Between runs.")
@click.option("--connections", type=click.IntRange(1), default=8, show_default=True, help="Of the closed loop.")
@click.option("--body", type=FILE, help="One JSON body, or one a line. Default: made like the service's example.")
@click.option("--candidates", default="50", show_default=True, callback=_sizes, help="In a made body: 50, or 10-200.")
@click.option("--ids", type=FILE, help="Made bodies have these ids alone: a text file, or a catalog's Parquet.")
@click.option("--header", "headers", multiple=True, callback=_headers, metavar="'NAME: VALUE'")
@click.option("--timeout-ms", type=MILLISECONDS, default=100, show_default=True, help="Deadline; sent as header too.")
@click.option("--give-up-ms", type=MILLISECONDS, default=2_000, show_default=True, help="When a caller hangs up.")
@click.option("--retries", type=click.IntRange(0, 100), default=0, show_default=True, help="At once, of a refused one.")
@click.option("--max-connections", type=click.IntRange(1), default=10_000, show_default=True, help="Of the open loop.")
@click.option("--pid", type=click.IntRange(1), help="The server's process on this machine, for its CPU seconds.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for report, JSON and pictures.")
def bench(
    *,
    url: str,
    rates: Sequence[float],
    loads: str | None,
    profile: str | None,
    arrivals: str,
    closed: bool,
    capacity: float | None,
    seconds: float,
    pause_seconds: float,
    connections: int,
    body: Path | None,
    candidates: tuple[int, int],
    ids: Path | None,
    headers: dict[str, str],
    timeout_ms: float,
    give_up_ms: float,
    retries: int,
    max_connections: int,
    pid: int | None,
    out: Path | None,
) -> None:
    r"""Measure latency and goodput of URL under load.

    The load is an open loop: requests are sent when they are due, whatever became of those before, and latency counts
    from that moment. URL is a service (http://host:port) or any URL that takes JSON by POST (with --body).
    Exit code 1: a run was invalid, as requests had to be dropped.

    \b
    frontrow bench http://127.0.0.1:8000
    frontrow bench http://127.0.0.1:8000 --rate 200 --rate 400 --seconds 10
    frontrow bench http://127.0.0.1:8000 --profile 10s@0.8C,10s@3C,10s@0.8C --retries 3 --out surge
    frontrow bench http://127.0.0.1:9000/predict --body rows.json --closed
    """
    from benchmarks.errors import BenchError

    try:
        from benchmarks.bodies import check_answered, payloads
        from benchmarks.generator import Patience
        from benchmarks.measure import Bench
        from benchmarks.target import parse_target

        plan = replace(_plan(rates, loads, profile, closed, seconds), random=arrivals == "random")
        target = parse_target(url)
        headers = {"X-Request-Timeout-Ms": f"{timeout_ms:g}", **headers}
        bodies, described = _bodies(target, body, candidates, ids)
        check_answered(target, bodies[0], headers)
        measuring = Bench(
            target=target,
            payloads=payloads(target, bodies, headers),
            deadline_seconds=timeout_ms / 1e3,
            patience=Patience(give_up_ms / 1e3, retries),
            max_connections=_allow_connections(max_connections),
            pid=pid,
            progress=_progress,
        )
        settings = {"bodies": described, "arrivals": arrivals, "deadline": f"{timeout_ms:g} ms", "retries": retries}
        series = _measure(
            measuring,
            plan,
            settings,
            capacity=capacity,
            seconds=seconds,
            connections=connections,
            pause_seconds=pause_seconds,
        )
    except (BenchError, OSError) as error:
        raise click.ClickException(str(error)) from error
    _tell(series, measuring.deadline_seconds, out)
    if not series.valid:
        sys.exit(EXIT_INVALID)


def _plan(rates: Sequence[float], loads: str | None, profile: str | None, closed: bool, seconds: float) -> Plan:
    """Runs by name. Raises BadSchedule, also when the options ask for more than one kind of load."""
    from benchmarks.errors import BadSchedule
    from benchmarks.schedule import Load, parse_loads, parse_profile

    if sum(map(bool, (rates, loads, profile, closed))) > 1:
        raise BadSchedule("--rate, --load, --profile and --closed are four kinds of load: take one")
    if closed:
        return Plan(closed=True)
    if profile is not None:
        return Plan([(profile, parse_profile(profile))])
    if rates:
        return Plan([(f"{rate:g}/s", [Load(seconds, rate)]) for rate in rates])
    return Plan([(f"{load.amount:g} C", [load]) for load in parse_loads(loads or LOADS, seconds)])


def _bodies(target: Target, file: Path | None, sizes: tuple[int, int], ids_file: Path | None) -> tuple[list[Body], str]:
    """Return what is sent, and what to call it in the report."""
    from benchmarks.bodies import ask_example, random_bodies, read_bodies, read_ids

    if file is not None:
        bodies = read_bodies(file)
        return bodies, f"{len(bodies):,} of {file.name}"
    ids = None if ids_file is None else read_ids(ids_file)
    least, most = sizes
    described = f"{least if least == most else f'{least} to {most}'} candidates {'by id' if ids else 'with features'}"
    return random_bodies(ask_example(target), sizes, ids), described


def _allow_connections(wanted: int) -> int:
    """Raise this process's limit of open files as far as `wanted` connections need, and return how many it allows."""
    try:
        import resource
    except ImportError:
        return wanted
    others = 64
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted + others if hard == resource.RLIM_INFINITY else min(wanted + others, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed - others


def _measure(
    measuring: Bench,
    plan: Plan,
    settings: dict[str, object],
    *,
    capacity: float | None,
    seconds: float,
    connections: int,
    pause_seconds: float,
) -> Series:
    """Find the capacity where it is asked for, then make the runs one after another."""
    from benchmarks.report import Series
    from benchmarks.schedule import schedule

    began_at = datetime.now(UTC).isoformat(" ", "minutes")
    runs: list[Measured] = []
    if plan.closed:
        runs.append(measuring.closed_loop(connections, seconds))
    elif plan.relative and capacity is None:
        runs.append(measuring.closed_loop(connections, min(seconds, LONGEST_CAPACITY_RUN_SECONDS)))
    if runs:
        capacity = _capacity_of(runs[0])
        click.echo(f"capacity: {capacity:,.0f} successes a second for {connections} callers", err=True)
    # Every schedule is made before the first run, so a load that cannot be made costs no waiting.
    schedules = [(name, schedule(loads, capacity or 1, random=plan.random)) for name, loads in plan.runs]
    for name, each in schedules:
        if runs:
            time.sleep(pause_seconds)  # overload flags fall, what callers left behind is cleared away
        runs.append(measuring.open_loop(name, each, capacity))
    return Series(measuring.target.url, began_at, settings, capacity, runs)


def _capacity_of(run: Measured) -> float:
    """Successes a second, whenever they came: how fast callers want them is no matter of capacity."""
    from benchmarks.errors import Unanswered

    whole = run.figures.whole
    if whole.accepted is None:
        raise Unanswered(f"{run.name}: not one success; counted {run.figures.sends}")
    return whole.accepted.count / whole.seconds


@contextmanager
def _progress(label: str, seconds: float) -> Iterator[Watch]:
    """A bar with the counts so far on a terminal, one plain line elsewhere."""
    steps = 1_000
    with click.progressbar(length=steps, label=label, file=sys.stderr, item_show_func=_so_far) as bar:

        def watch(elapsed: float, record: Record) -> None:
            bar.update(min(steps, round(steps * elapsed / seconds)) - bar.pos, record)

        yield watch
        bar.update(steps - bar.pos)


def _so_far(record: Record | None) -> str | None:
    from benchmarks.figures import named

    return None if record is None else ", ".join(f"{count:,} x {name}" for name, count in named(record.endings).items())


def _tell(series: Series, deadline_seconds: float, out: Path | None) -> None:
    """Print the table; write it to `out` as well, with the same as JSON and the pictures."""
    from benchmarks.report import as_json, markdown

    text = markdown(series)
    click.echo(text, nl=False)
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.md").write_text(text, encoding="utf-8")
    (out / "results.json").write_text(json.dumps(as_json(series), indent=1), encoding="utf-8")
    pictures = _draw(series, deadline_seconds, out)
    click.echo(f"written: {', '.join(str(out / name) for name in ('report.md', 'results.json', *pictures))}", err=True)


def _draw(series: Series, deadline_seconds: float, out: Path) -> list[str]:
    from benchmarks.picture import draw_loads, draw_profile

    open_loops = [run for run in series.runs if run.schedule is not None]
    if not open_loops:
        return []
    if len(open_loops[0].figures.phases) > 1:
        draw_profile(open_loops[0], out / "profile.svg")
        return ["profile.svg"]
    draw_loads(open_loops, series.capacity, deadline_seconds, out / "load.svg")
    return ["load.svg"]
