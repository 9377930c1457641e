"""`frontrow bench`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
    return {name: value for name, value in pairs}


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
    """What the options ask for: runs by name, and whether they need the capacity."""

    runs: dict[str, list[Load]]
    closed: bool = False

    @property
    def relative(self) -> bool:
        return any(load.in_capacities for loads in self.runs.values() for load in loads)


@click.command()
@click.argument("url")
@click.option("--rate", "rates", type=click.FloatRange(0, min_open=True), multiple=True, help="Requests a second.")
@click.option("--load", "loads", metavar="LIST", help=f"Multiples of the capacity. [default: {LOADS}]")
@click.option("--profile", metavar="LIST", help="Loads one after another in one run: 10s@0.8C,10s@3C,10s@400.")
@click.option("--closed", is_flag=True, help="Closed loop: each connection waits for its answer. Finds the capacity.")
@click.option("--capacity", default="auto", show_default=True, callback=_capacity, help="C in requests a second.")
@click.option("--seconds", type=SECONDS, default=30, show_default=True, help="Length of each run.")
@click.option("--connections", type=click.IntRange(1), default=32, show_default=True, help="Of the closed loop.")
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
    closed: bool,
    capacity: float | None,
    seconds: float,
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

        plan = _plan(rates, loads, profile, closed, seconds)
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
        settings = {"bodies": described, "deadline": f"{timeout_ms:g} ms", "retries": retries}
        series = _measure(measuring, plan, capacity, seconds, connections, settings)
    except (BenchError, OSError) as error:
        raise click.ClickException(str(error)) from error
    _tell(series, plan, measuring, out)
    if not series.valid:
        sys.exit(EXIT_INVALID)
