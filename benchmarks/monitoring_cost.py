"""What it costs to watch the service: drift, shadow mode, and scrapes of `/metrics`. Prints a table.

    python -m benchmarks.monitoring_cost BUNDLE

BUNDLE is a folder with `profile.json` and a catalog (`frontrow demo`, then `frontrow bundle`). What is compared takes
turns, in short stretches, so that a machine which slows down slows both; a third arm that does not watch either shows
what the comparison tells of no difference at all. Rankings are of 50 known activities, the least work that there is to
compare with. Nothing else should run on the machine.
"""

import http.client
import math
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import click
import numpy as np

from benchmarks.drift_turns import Traffic, Turns, drift_turns
from benchmarks.errors import BenchError
from benchmarks.figures import Cost, cost
from benchmarks.generator import Patience, Run, run_closed_loop, run_open_loop
from benchmarks.live_features import OK, Rankings, service
from benchmarks.page import check_place, write_into
from benchmarks.paired import Floats, Interval, median_of, p99_ratio
from benchmarks.schedule import Phase, Schedule
from benchmarks.server_side import read_metrics, snapshot
from benchmarks.target import Target
from registry import Bundle, read_bundle, write_bundle

SUBJECT: Final = "monitoring"  # of the place on the page
WATCHING, PLAIN, TWIN = "watching", "plain", "twin"
DIFFERENT_BODIES: Final = 500
MOST_CONNECTIONS: Final = 512
HALF: Final = 0.5
STRETCH_SECONDS: Final = 1.0
SETTLING_SECONDS: Final = 0.25  # of each stretch before that second: its connections are new, and queue at the start
SCRAPE_EVERY_SECONDS: Final = 0.1
SCRAPER_START_SECONDS: Final = 60
QUIET: Final = {"access_log_share": 0, "request_timeout_ms": 1_000}

Progress = Callable[[int], None]


class Plan(NamedTuple):
    """`rounds` of `seconds` for each service, and all of that with `starts` new processes; `turns` of the scorer.

    The shadow's rounds are cut into stretches of a second, for a machine's moods last longer than that.
    """

    starts: int
    rounds: int
    seconds: float
    connections: int
    turns: int

    @property
    def stretches(self) -> int:
        return math.ceil(self.rounds * self.seconds / STRETCH_SECONDS)


class DriftCost(NamedTuple):
    """CPU seconds of a service for a ranking, in each run at capacity; and those of scoring it, turn by turn."""

    of_a_ranking: list[float]
    traffic: Traffic
    turns: Turns
    generator: list[Cost]


class ShadowCost(NamedTuple):
    """Latencies in seconds of each stretch of each service; rankings a second that were asked for, in each start."""

    stretches: Mapping[str, list[Floats]]
    rates: list[float]
    generator: list[Cost]


@dataclass
class Scrapes:
    """`seconds` of each scrape at capacity, `size` bytes the last one, and the rankings a second of each run."""

    seconds: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    size: int = 0


def drift_cost(bundle: Path, plan: Plan, done: Progress) -> DriftCost:
    """What a ranking costs a service at capacity that does not watch, and what watching adds to it."""
    of_a_ranking, rates, batches, generator = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        unwatched = without_profile(bundle, Path(folder) / "bundle")
        for _ in range(plan.starts):
            with service(unwatched, **QUIET) as target:
                payloads = _payloads(target, bundle)
                _closed_loop(target, payloads, plan)  # warms up
                for _ in range(plan.rounds):
                    before = _cpu_seconds(target)
                    run = _closed_loop(target, payloads, plan)
                    of_a_ranking.append((_cpu_seconds(target) - before) / run.record.endings[OK])
                    rates.append(_rate(run, plan))
                    generator.append(cost(run))
                    done(1)
                batches.append(_rankings_in_a_batch(target))
    traffic = Traffic(round(np.median(rates)), max(1, round(np.median(batches))))
    turns = drift_turns(bundle, traffic, rounds=plan.turns)
    done(1)
    return DriftCost(of_a_ranking, traffic, turns, generator)


def shadow_cost(bundle: Path, plan: Plan, done: Progress) -> ShadowCost:
    """In open loop at half of the capacity; the model is in its own shadow."""
    shares = {WATCHING: 1.0, PLAIN: 0.0, TWIN: 0.0}
    found = ShadowCost({name: [] for name in shares}, [], [])
    for _ in range(plan.starts):
        with ExitStack() as stack:
            settings = {"treatment_model": bundle.resolve(), "treatment_share": 0, **QUIET}
            targets = {
                name: stack.enter_context(service(bundle, shadow_share=share, **settings))
                for name, share in shares.items()
            }
            payloads = {name: _payloads(target, bundle) for name, target in targets.items()}
            found.rates.append(HALF * _rate(_closed_loop(targets[PLAIN], payloads[PLAIN], plan), plan))
            schedule = Schedule((Phase(SETTLING_SECONDS + STRETCH_SECONDS, found.rates[-1]),))
            for number in range(-1, plan.stretches):  # the first ones warm up
                for name in list(shares)[:: 1 if number % 2 else -1]:
                    run = _open_loop(targets[name], payloads[name], schedule)
                    if number >= 0:
                        found.stretches[name].append(_latencies(run))
                        found.generator.append(cost(run))
                    done(1)
    return found


def scrape_cost(bundle: Path, plan: Plan, done: Progress) -> Scrapes:
    """How long scrapes take that a process of its own makes while the service is at capacity."""
    found = Scrapes()
    context = multiprocessing.get_context("spawn")  # no copy of the generator's memory and threads
    with ProcessPoolExecutor(1, mp_context=context) as scraper:
        scraper.submit(time.perf_counter).result(SCRAPER_START_SECONDS)  # it is there before the load is
        settings = {"treatment_model": bundle.resolve(), **QUIET}
        for _ in range(plan.starts):
            with service(bundle, **settings) as target:
                payloads = _payloads(target, bundle)
                for _ in range(plan.rounds):
                    scraping = scraper.submit(scrape, target, plan.seconds)
                    found.rates.append(_rate(_closed_loop(target, payloads, plan), plan))
                    seconds, found.size = scraping.result()
                    found.seconds += seconds
                    done(1)
    return found


def scrape(target: Target, seconds: float) -> tuple[list[float], int]:
    """Ask for `/metrics` again and again on one connection: the seconds that each took, and the bytes of the last."""
    connection = http.client.HTTPConnection(target.host, target.port, timeout=10)
    taken, size = [], 0
    stop = time.perf_counter() + seconds
    while (started := time.perf_counter()) < stop:
        connection.request("GET", "/metrics")
        size = len(connection.getresponse().read())
        taken.append(time.perf_counter() - started)
        time.sleep(SCRAPE_EVERY_SECONDS)
    connection.close()
    return taken, size


def without_profile(bundle: Path, out: Path) -> Path:
    """The same model in a bundle that no drift is watched with. Raises `BenchError` where none is to begin with."""
    read = read_bundle(bundle)
    if read.profile() is None or read.catalog is None:
        raise BenchError(f"{bundle}: it takes a bundle with profile.json and catalog.parquet")
    _write(read, out)
    return out


def _write(read: Bundle, out: Path) -> None:
    write_bundle(
        out,
        model_text=read.read("model.lgb"),
        features=read.features,
        golden_rows=read.golden().rows,
        example=read.example,
        name=read.name,
        version=read.version,
        source=read.source,
        trained_at=read.trained_at,
        catalog=read.read("catalog.parquet"),
    )


def _payloads(target: Target, bundle: Path) -> list[bytes]:
    rankings = Rankings(target, bundle / "catalog.parquet")
    return [rankings.payload(visitor) for visitor in range(DIFFERENT_BODIES)]


def _closed_loop(target: Target, payloads: Sequence[bytes], plan: Plan) -> Run:
    run = run_closed_loop(
        target,
        payloads,
        connections=plan.connections,
        seconds=plan.seconds,
        patience=Patience(),
        watch=lambda _seconds, _record: None,
    )
    if not run.record.endings[OK]:
        raise BenchError(f"{target.url}: no ranking was answered: {dict(run.record.endings)}")
    return run


def _rate(run: Run, plan: Plan) -> float:
    return run.record.endings[OK] / plan.seconds


def _cpu_seconds(target: Target) -> float:
    found = snapshot(target, None).cpu_seconds
    assert found is not None  # our own service tells
    return found


def _rankings_in_a_batch(target: Target) -> float:
    found = {name: value for name, _, value in read_metrics(target)}
    return found["frontrow_batch_requests_sum"] / found["frontrow_batch_requests_count"]


def _open_loop(target: Target, payloads: Sequence[bytes], schedule: Schedule) -> Run:
    return run_open_loop(
        target,
        payloads,
        schedule,
        patience=Patience(),
        max_connections=MOST_CONNECTIONS,
        watch=lambda _seconds, _record: None,
    )


def _latencies(run: Run) -> Floats:
    """Of what was served, once the stretch had settled."""
    due = np.array(run.record.due)
    served = (np.array(run.record.status) == OK) & (due >= due.min() + SETTLING_SECONDS)
    latencies: Floats = (np.array(run.record.finished) - due)[served]
    return latencies


# ---- what is told ----


def table(drift: DriftCost | None, shadow: ShadowCost | None, scrapes: Scrapes | None) -> str:
    lines = []
    if drift or shadow:
        lines += ["| | off | on | on / off (95 %) | off / off (95 %) | target |", "|---|---|---|---|---|---|"]
    if drift:
        lines.append(_drift(drift))
    if shadow:
        lines.append(_shadow(shadow))
    if drift:
        lines += ["", _turns(drift)]
    if shadow:
        lines += ["", _stretches(shadow)]
    if scrapes:
        lines += ["", _scrapes(scrapes)]
    if costs := [one for each in (drift, shadow) if each for one in each.generator]:
        lines += ["", _generator(costs)]
    return "\n".join(lines) + "\n"


def _drift(drift: DriftCost) -> str:
    off = float(np.median(drift.of_a_ranking))
    watching, twin = (_added(arm, drift.turns.plain) for arm in (drift.turns.watching, drift.turns.twin))
    return (
        f"| drift watched: CPU of the service for a ranking, µs | {1e6 * off:.1f} | {1e6 * (off + watching.value):.1f} "
        f"| {_ratio(watching, off)} | {_ratio(twin, off)} | 1.01 |"
    )


def _added(arm: Sequence[float], plain: Sequence[float]) -> Interval:
    return median_of(np.array(arm) - np.array(plain))


def _ratio(added: Interval, off: float) -> str:
    return _told(Interval(*(1 + each / off for each in added)), 4)


def _told(interval: Interval, digits: int) -> str:
    value, low, high = (f"{each:.{digits}f}" for each in interval)
    return f"{value} ({low} to {high})"


def _turns(drift: DriftCost) -> str:
    added, scoring = _added(drift.turns.watching, drift.turns.plain), float(np.median(drift.turns.plain))
    return (
        f"A watch adds {1e6 * added.value:.2f} µs to the {1e6 * scoring:.1f} µs of scoring a ranking: the median of "
        f"{len(drift.turns.plain)} turns, each a second of {drift.traffic.rankings:,} rankings in batches of "
        f"{drift.traffic.batch}. A whole ranking is the median of {len(drift.of_a_ranking)} runs at capacity."
    )


def _shadow(shadow: ShadowCost) -> str:
    watching, plain, twin = (shadow.stretches[name] for name in (WATCHING, PLAIN, TWIN))
    off, on = (float(np.quantile(np.concatenate(each), 0.99, method="inverted_cdf")) for each in (plain, watching))
    return (
        f"| shadow of all rankings: p99 at half of the capacity, ms | {1e3 * off:.2f} | {1e3 * on:.2f} "
        f"| {_told(p99_ratio(watching, plain), 3)} | {_told(p99_ratio(twin, plain), 3)} | 1.05 |"
    )


def _stretches(shadow: ShadowCost) -> str:
    watching, plain, twin = (shadow.stretches[name] for name in (WATCHING, PLAIN, TWIN))
    on, off = (_told(_neighbours(arm, plain), 3) for arm in (watching, twin))
    return (
        f"The p99 is that of all {sum(map(len, plain)):,} rankings of a service, in {len(plain)} stretches of a second "
        f"that took turns, at {np.median(shadow.rates):,.0f} a second. The median of the ratios of neighbouring "
        f"stretches, which a slow moment of the machine hardly moves: on / off {on}, off / off {off}."
    )


def _neighbours(ours: Sequence[Floats], theirs: Sequence[Floats]) -> Interval:
    p99 = [np.array([np.quantile(one, 0.99, method="inverted_cdf") for one in each]) for each in (ours, theirs)]
    return median_of(p99[0] / p99[1])


def _scrapes(scrapes: Scrapes) -> str:
    p50, p99 = 1e3 * np.quantile(scrapes.seconds, [0.5, 0.99], method="inverted_cdf")
    return (
        f"{len(scrapes.seconds):,} scrapes of {scrapes.size / 1024:.0f} KiB at {np.median(scrapes.rates):,.0f} "
        f"rankings a second, the capacity: p50 {p50:.1f} ms, p99 {p99:.1f} ms (target 50 ms)."
    )


def _generator(costs: Sequence[Cost]) -> str:
    share, late = np.median([one.cpu_share for one in costs]), np.median([one.late.p99 for one in costs])
    return f"The generator took {share:.0%} of a core in the median run, and was late by {1e3 * late:.2f} ms (p99)."


PARTS = ("drift", "shadow", "scrapes")


def _steps(parts: Sequence[str], plan: Plan) -> int:
    each = {
        "drift": plan.starts * plan.rounds + 1,
        "shadow": plan.starts * 3 * (plan.stretches + 1),
        "scrapes": plan.starts * plan.rounds,
    }
    return sum(each[part] for part in parts)


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--only", "parts", type=click.Choice(PARTS), multiple=True, default=PARTS, help="One part of it.")
@click.option("--starts", type=click.IntRange(1), default=3, show_default=True, help="Of new processes.")
@click.option("--rounds", type=click.IntRange(1), default=20, show_default=True, help="For each start.")
@click.option("--seconds", type=click.FloatRange(0.5), default=3.0, show_default=True, help="Of each run.")
@click.option("--connections", type=click.IntRange(1), default=32, show_default=True, help="Of the closed loop.")
@click.option("--turns", type=click.IntRange(1), default=300, show_default=True, help="Of the scorer and its watch.")
@click.option("--write", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A page with markers.")
def main(
    *,
    bundle: Path,
    parts: Sequence[str],
    starts: int,
    rounds: int,
    seconds: float,
    connections: int,
    turns: int,
    write: Path | None,
) -> None:
    """Measure what watching costs a service of BUNDLE."""
    plan = Plan(starts, rounds, seconds, connections, turns)
    try:
        if write is not None:
            check_place(write, SUBJECT)
        with click.progressbar(length=_steps(parts, plan), label="measuring", file=sys.stderr) as bar:
            drift = drift_cost(bundle, plan, bar.update) if "drift" in parts else None
            shadow = shadow_cost(bundle, plan, bar.update) if "shadow" in parts else None
            scrapes = scrape_cost(bundle, plan, bar.update) if "scrapes" in parts else None
        text = table(drift, shadow, scrapes)
        click.echo(text, nl=False)
        if write is not None:
            write_into(write, text, SUBJECT)
    except BenchError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
