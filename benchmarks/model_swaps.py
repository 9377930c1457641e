"""Do callers notice that models are replaced? One process, a steady load, and new versions during every other stretch.

    python -m benchmarks.model_swaps build/champion build/challenger --stretches 10 --load 0.8

Stretches without and with swaps take turns in one run, so that whatever else the machine does touches both alike. Each
swap is to a version that was never served before: a copy of one of the two bundles, taken in turn, to which a link is
led before the process gets its SIGHUP. So each one is loaded, verified, compared and calibrated beside the load.
Give first the bundle that wants more features and costs more: it is what requests are made of, and what the capacity
is measured with. That is the highest rate at which an open loop gets an answer to every request: callers who wait for
each other, as in a closed loop, get more.
"""

import asyncio
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt

from benchmarks.bodies import ask_example, check_answered, payloads, random_bodies, read_ids
from benchmarks.errors import BenchError
from benchmarks.figures import percentiles
from benchmarks.generator import Patience, Run, Watch, run_closed_loop, run_open_loop
from benchmarks.record import NO_ANSWER, REFUSED
from benchmarks.rolling_restarts import Replica, is_ready
from benchmarks.schedule import Phase, Schedule
from benchmarks.server_side import read_metrics
from benchmarks.target import Target

OK = 200
CLOSED_LOOP_SECONDS = 3.0
CLOSED_LOOP_CONNECTIONS = 16
MOST_CONNECTIONS = 512
STEP, STEP_SECONDS = 0.05, 3.0  # down from the closed loop's capacity, until an open loop gets all it asks for
AFTERWARDS_SECONDS = 0.5  # after a SIGHUP: what a swap does, it does within it
PATIENCE = Patience(give_up_seconds=5.0)
START_SECONDS = 60.0

Floats = npt.NDArray[np.float64]


@dataclass
class Side:
    """What became of the requests of one kind of stretches; `latencies` are of the answers with 200, in seconds."""

    endings: Counter[int] = field(default_factory=Counter)
    latencies: list[Floats] = field(default_factory=list)

    def add(self, run: Run) -> None:
        record = run.record
        self.endings += record.endings
        accepted = np.array(record.status) == OK
        self.latencies.append((np.array(record.finished) - np.array(record.due))[accepted])


class Models:
    """A link that leads to a version that was never there before, as often as it is told to."""

    def __init__(self, folder: Path, bundles: tuple[Path, Path]) -> None:
        self._folder = folder
        self._bundles = bundles
        self._count = 0
        self.link = folder / "model"
        self.renew()

    def renew(self) -> None:
        version = self._folder / f"version-{self._count}"
        shutil.copytree(self._bundles[self._count % 2], version)
        place = version / "bundle.json"
        place.write_text(json.dumps(json.loads(place.read_bytes()) | {"version": f"swap-{self._count}"}))
        unfinished = self._folder / "unfinished"
        unfinished.symlink_to(version)
        unfinished.replace(self.link)
        self._count += 1


class Swapper:
    """Tells a process of a new version every so many seconds, while it is entered. `times` are of the SIGHUPs."""

    def __init__(self, replica: Replica, models: Models, seconds: float) -> None:
        self._replica = replica
        self._models = models
        self._seconds = seconds
        self.times: list[float] = []

    @contextmanager
    def at_work(self) -> Iterator[None]:
        over = threading.Event()
        thread = threading.Thread(target=self._work, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _work(self, over: threading.Event) -> None:
        while not over.wait(self._seconds):
            self._models.renew()
            self.times.append(time.monotonic())
            self._replica.send(signal.SIGHUP)


@dataclass(frozen=True)
class Plan:
    bundles: tuple[Path, Path]
    stretches: int
    seconds: float
    every_seconds: float
    load: float
    candidates: int


@dataclass
class Outcome:
    """`after` are latencies of requests that were due within half a second after a SIGHUP."""

    capacity: float = 0.0
    swaps: int = 0
    refused: int = 0
    without: Side = field(default_factory=Side)
    during: Side = field(default_factory=Side)
    after: list[Floats] = field(default_factory=list)


def measure(plan: Plan, watch: Watch) -> Outcome:
    """Raises `BenchError`."""
    with tempfile.TemporaryDirectory() as folder:
        models = Models(Path(folder), plan.bundles)
        environment = {"FRONTROW_ACCESS_LOG_SHARE": "0", "FRONTROW_LAME_DUCK_SECONDS": "0"}
        with asyncio.Runner() as runner:
            replica = Replica(models.link, environment, Path(folder) / "log")
            runner.run(_start(replica))
            try:
                return _measure(plan, replica, models, watch)
            finally:
                runner.run(replica.close())


async def _start(replica: Replica) -> None:
    await replica.start()
    give_up_at = time.monotonic() + START_SECONDS
    while not is_ready(replica.target):
        replica.check()
        if time.monotonic() > give_up_at:
            raise BenchError(f"not ready after {START_SECONDS:g} s")
        await asyncio.sleep(0.1)


def _measure(plan: Plan, replica: Replica, models: Models, watch: Watch) -> Outcome:
    target, outcome = replica.target, Outcome()
    ids = read_ids(models.link / "catalog.parquet")
    bodies = random_bodies(ask_example(target), (plan.candidates, plan.candidates), ids)
    check_answered(target, bodies[0], {})
    sent = payloads(target, bodies, {})
    outcome.capacity = _capacity(target, sent, watch)
    schedule = Schedule((Phase(plan.seconds, plan.load * outcome.capacity),))

    def load() -> Run:
        return _offer(target, sent, schedule, watch)

    for _ in range(plan.stretches):
        outcome.without.add(load())
        swapper = Swapper(replica, models, plan.every_seconds)
        with swapper.at_work():
            began_at = time.monotonic()
            run = load()
        outcome.during.add(run)
        outcome.after.append(_after(run, [at - began_at for at in swapper.times]))
    counts = _swaps(target)
    outcome.swaps, outcome.refused = counts["swapped"], counts["refused"]
    return outcome


def _capacity(target: Target, sent: Sequence[bytes], watch: Watch) -> float:
    """Requests a second. Raises `BenchError` where no rate is answered in full."""
    closed = run_closed_loop(
        target,
        sent,
        connections=CLOSED_LOOP_CONNECTIONS,
        seconds=CLOSED_LOOP_SECONDS,
        patience=PATIENCE,
        watch=watch,
    )
    most = closed.record.endings[OK] / CLOSED_LOOP_SECONDS
    for step in range(round(1 / STEP)):
        rate = (1 - STEP * step) * most
        run = _offer(target, sent, Schedule((Phase(STEP_SECONDS, rate),)), watch)
        if set(run.record.endings) == {OK}:
            return rate
    raise BenchError(f"{rate:.0f} requests/s are too many to be answered")


def _offer(target: Target, sent: Sequence[bytes], schedule: Schedule, watch: Watch) -> Run:
    return run_open_loop(target, sent, schedule, patience=PATIENCE, max_connections=MOST_CONNECTIONS, watch=watch)


def _after(run: Run, swapped_at: list[float]) -> Floats:
    """Latencies of the requests that were due soon after a SIGHUP; times in seconds since the run began."""
    record = run.record
    due, finished = np.array(record.due), np.array(record.finished)
    soon = np.zeros(len(due), np.bool_)
    for at in swapped_at:
        soon |= (due >= at) & (due < at + AFTERWARDS_SECONDS)
    latencies: Floats = (finished - due)[soon & (np.array(record.status) == OK)]
    return latencies


def _swaps(target: Target) -> Counter[str]:
    found: Counter[str] = Counter()
    for name, labels, value in read_metrics(target):
        if name == "frontrow_model_swaps_total":
            found[labels["result"]] += round(value)
    return found


def markdown(plan: Plan, outcome: Outcome) -> str:
    """A row for each kind of stretch, and what it took."""
    heading = ("", "requests", "200", "503", "failed", "p50 ms", "p99 ms", "p99.9 ms")
    rows = [
        heading,
        ("---", *["--:"] * (len(heading) - 1)),
        _row("without swaps", outcome.without),
        _row("with swaps", outcome.during),
    ]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    after = percentiles(np.concatenate(outcome.after))
    soon = "" if after is None else f" Due within {AFTERWARDS_SECONDS:g} s after one: p99 {1e3 * after.p99:.1f} ms."
    return (
        f"{table}\n{plan.load * outcome.capacity:.0f} requests/s of {plan.candidates} candidates, {plan.load:g} of the"
        f" capacity; {outcome.swaps} swaps, one every {plan.every_seconds:g} s, {outcome.refused} refused.{soon}\n"
    )


def _row(name: str, side: Side) -> tuple[str, ...]:
    found = percentiles(np.concatenate(side.latencies))
    failed = side.endings.total() - side.endings[OK] - side.endings[REFUSED]
    figures = [] if found is None else [f"{1e3 * value:.1f}" for value in (found.p50, found.p99, found.p999)]
    counts = (side.endings.total(), side.endings[OK], side.endings[REFUSED], failed)
    return (name, *(f"{count:,}" for count in counts), *figures)


def failures(outcome: Outcome) -> list[str]:
    """Each kind of ending that is neither an answer nor a refusal, with its number."""
    endings = outcome.without.endings + outcome.during.endings
    return [f"{count} x {NO_ANSWER.get(end, end)}" for end, count in endings.items() if end not in (OK, REFUSED)]


@click.command()
@click.argument("bundle_a", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("bundle_b", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--stretches", type=click.IntRange(1), default=10, show_default=True, help="Of either kind.")
@click.option("--seconds", type=click.FloatRange(1), default=10, show_default=True, help="Of a stretch.")
@click.option("--every", type=click.FloatRange(0.1), default=1, show_default=True, help="Seconds between swaps.")
@click.option(
    "--load", type=click.FloatRange(0, min_open=True), default=0.8, show_default=True, help="Of the capacity."
)
@click.option("--candidates", type=click.IntRange(1), default=50, show_default=True, help="In each request.")
def main(
    *, bundle_a: Path, bundle_b: Path, stretches: int, seconds: float, every: float, load: float, candidates: int
) -> None:
    """Replace the model of a process under load. Exit code 1: a request failed, or a model was refused."""
    plan = Plan((bundle_a.resolve(), bundle_b.resolve()), stretches, seconds, every, load, candidates)
    expected = round(CLOSED_LOOP_SECONDS + 2 * stretches * seconds)
    try:
        with click.progressbar(length=expected, label="replacing models", file=sys.stderr) as bar:
            started = time.monotonic()
            outcome = measure(plan, lambda *_: bar.update(int(time.monotonic() - started) - bar.pos))
    except BenchError as error:
        raise click.ClickException(str(error)) from error
    click.echo(markdown(plan, outcome), nl=False)
    for line in failures(outcome):
        click.echo(f"- {line}")
    if failures(outcome) or outcome.refused:
        sys.exit(1)


if __name__ == "__main__":
    main()
