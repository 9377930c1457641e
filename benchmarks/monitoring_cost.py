"""What it costs to watch the service: drift, shadow mode, and scrapes of `/metrics`. Prints a table.

    python -m benchmarks.monitoring_cost BUNDLE

BUNDLE is a folder with `profile.json` and a catalog (`frontrow demo`, then `frontrow bundle`). Starts services that
watch and services that do not, which take turns, so that a machine which slows down slows both; the figures are medians
of pairs. A second service that does not watch shows what a pair tells of no difference at all. Rankings are of 50 known
activities, the least work that there is to compare with. Nothing else should run on the machine.
"""

import http.client
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

from benchmarks.errors import BenchError
from benchmarks.figures import Cost, cost
from benchmarks.generator import Patience, Run, run_closed_loop, run_open_loop
from benchmarks.live_features import OK, Rankings, service
from benchmarks.schedule import Phase, Schedule
from benchmarks.server_side import snapshot
from benchmarks.target import Target
from registry import Bundle, read_bundle, write_bundle

BEGIN, END = "<!-- monitoring:begin -->", "<!-- monitoring:end -->"
WATCHING, PLAIN, TWIN = "watching", "plain", "twin"
DIFFERENT_BODIES: Final = 500
MOST_CONNECTIONS: Final = 512
HALF: Final = 0.5
SCRAPE_EVERY_SECONDS: Final = 0.1
SCRAPER_START_SECONDS: Final = 60
QUIET: Final = {"access_log_share": 0, "request_timeout_ms": 1_000}

Targets = Mapping[str, Target]
Progress = Callable[[int], None]


class Plan(NamedTuple):
    """`rounds` of `seconds` for each service, and all of that with `starts` new processes."""

    starts: int
    rounds: int
    seconds: float
    connections: int


class Pairs(NamedTuple):
    """One figure of each service in each round, and what the load cost whoever made it."""

    values: dict[str, list[float]]
    generator: list[Cost]

    def median(self, name: str) -> float:
        return float(np.median(self.values[name]))

    def ratios(self, name: str) -> list[float]:
        """Of a service to the plain one in the same round: quartiles, the median in the middle."""
        ratio = np.array(self.values[name]) / np.array(self.values[PLAIN])
        found: list[float] = np.quantile(ratio, [0.25, 0.5, 0.75]).tolist()
        return found


@dataclass
class Scrapes:
    """`seconds` of each scrape at capacity, `size` bytes the last one, and the rankings a second of each run."""

    seconds: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    size: int = 0


def drift_cost(bundle: Path, plan: Plan, done: Progress) -> Pairs:
    """CPU seconds of the service for a ranking, in closed loop."""
    with tempfile.TemporaryDirectory() as folder:
        unwatched = without_profile(bundle, Path(folder) / "bundle")
        bundles = {WATCHING: bundle, PLAIN: unwatched, TWIN: unwatched}
        pairs = Pairs({name: [] for name in bundles}, [])
        for _ in range(plan.starts):
            with ExitStack() as stack:
                targets = {name: stack.enter_context(service(each, **QUIET)) for name, each in bundles.items()}
                payloads = _payloads(targets, bundle)
                _in_turns(pairs, plan, done, lambda name: _cpu_of_a_ranking(targets[name], payloads[name], plan))  # noqa: B023 called at once
    return pairs


def shadow_cost(bundle: Path, plan: Plan, done: Progress) -> Pairs:
    """p99 of the answers in seconds, in open loop at half of the capacity; the model is in its own shadow."""
    shares = {WATCHING: 1.0, PLAIN: 0.0, TWIN: 0.0}
    pairs = Pairs({name: [] for name in shares}, [])
    for _ in range(plan.starts):
        with ExitStack() as stack:
            settings = {"treatment_model": bundle.resolve(), "treatment_share": 0, **QUIET}
            targets = {
                name: stack.enter_context(service(bundle, shadow_share=share, **settings))
                for name, share in shares.items()
            }
            payloads = _payloads(targets, bundle)
            capacity = _rate(_closed_loop(targets[PLAIN], payloads[PLAIN], plan), plan)
            schedule = Schedule((Phase(plan.seconds, HALF * capacity),))
            _in_turns(pairs, plan, done, lambda name: _p99(targets[name], payloads[name], schedule))  # noqa: B023 called at once
    return pairs


def scrape_cost(bundle: Path, plan: Plan, done: Progress) -> Scrapes:
    """How long scrapes take that a process of its own makes while the service is at capacity."""
    found = Scrapes()
    context = multiprocessing.get_context("spawn")  # no copy of the generator's memory and threads
    with ProcessPoolExecutor(1, mp_context=context) as scraper:
        scraper.submit(time.perf_counter).result(SCRAPER_START_SECONDS)  # it is there before the load is
        settings = {"treatment_model": bundle.resolve(), **QUIET}
        for _ in range(plan.starts):
            with service(bundle, **settings) as target:
                payloads = _payloads({PLAIN: target}, bundle)[PLAIN]
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


def _payloads(targets: Targets, bundle: Path) -> dict[str, list[bytes]]:
    catalog = bundle / "catalog.parquet"
    rankings = {name: Rankings(target, catalog) for name, target in targets.items()}
    return {name: [each.payload(visitor) for visitor in range(DIFFERENT_BODIES)] for name, each in rankings.items()}


def _in_turns(pairs: Pairs, plan: Plan, done: Progress, measure: Callable[[str], tuple[float, Cost]]) -> None:
    """Measure all services in each round, in an order that turns around from one to the next."""
    for number in range(-1, plan.rounds):  # the first round warms up
        for name in list(pairs.values)[:: 1 if number % 2 else -1]:
            value, generator = measure(name)
            if number >= 0:
                pairs.values[name].append(value)
                pairs.generator.append(generator)
            done(1)


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


def _cpu_of_a_ranking(target: Target, payloads: Sequence[bytes], plan: Plan) -> tuple[float, Cost]:
    before = snapshot(target, None).cpu_seconds
    run = _closed_loop(target, payloads, plan)
    after = snapshot(target, None).cpu_seconds
    assert before is not None  # our own service tells
    assert after is not None
    return (after - before) / run.record.endings[OK], cost(run)


def _p99(target: Target, payloads: Sequence[bytes], schedule: Schedule) -> tuple[float, Cost]:
    run = run_open_loop(
        target,
        payloads,
        schedule,
        patience=Patience(),
        max_connections=MOST_CONNECTIONS,
        watch=lambda _seconds, _record: None,
    )
    latency = np.array(run.record.finished) - np.array(run.record.due)
    served = latency[np.array(run.record.status) == OK]
    return float(np.quantile(served, 0.99, method="inverted_cdf")), cost(run)


# ---- what is told ----


def table(drift: Pairs | None, shadow: Pairs | None, scrapes: Scrapes | None) -> str:
    lines = []
    if drift or shadow:
        lines += [
            "| | off | on | on / off: median of pairs (quartiles) | off / off | target |",
            "|---|---|---|---|---|---|",
        ]
    if drift:
        lines.append(_row("drift watched: CPU of the service for a ranking, µs", drift, 1e6, "1.01"))
    if shadow:
        lines.append(_row("shadow of all rankings: p99 at half of the capacity, ms", shadow, 1e3, "1.05"))
    if scrapes:
        lines += ["", _scrapes(scrapes)]
    if costs := [one for pairs in (drift, shadow) if pairs for one in pairs.generator]:
        lines += ["", _generator(costs)]
    return "\n".join(lines) + "\n"


def _row(name: str, pairs: Pairs, unit: float, target: str) -> str:
    off, on = (f"{unit * pairs.median(each):,.2f}" for each in (PLAIN, WATCHING))
    low, middle, high = pairs.ratios(WATCHING)
    nothing = pairs.ratios(TWIN)
    count = len(pairs.values[PLAIN])
    return (
        f"| {name} | {off} | {on} | {middle:.3f} of {count} ({low:.3f} to {high:.3f}) | "
        f"{nothing[1]:.3f} ({nothing[0]:.3f} to {nothing[2]:.3f}) | {target} |"
    )


def _scrapes(scrapes: Scrapes) -> str:
    p50, p99 = 1e3 * np.quantile(scrapes.seconds, [0.5, 0.99], method="inverted_cdf")
    return (
        f"{len(scrapes.seconds):,} scrapes of {scrapes.size / 1024:.0f} KiB at {np.median(scrapes.rates):,.0f} "
        f"rankings a second, the capacity: p50 {p50:.1f} ms, p99 {p99:.1f} ms (target 50 ms)."
    )


def _generator(costs: Sequence[Cost]) -> str:
    share, late = np.median([one.cpu_share for one in costs]), np.median([one.late.p99 for one in costs])
    return f"The generator took {share:.0%} of a core in the median run, and was late by {1e3 * late:.2f} ms (p99)."


def around(page: Path) -> tuple[str, str]:
    """What stands before and after the markers of `page`; raises `BenchError` where they are not."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise BenchError(f"{page}: there is no {BEGIN} ... {END} to write into")
    return before, after


PARTS = ("drift", "shadow", "scrapes")


def _steps(parts: Sequence[str], plan: Plan) -> int:
    each = {"drift": 3 * (plan.rounds + 1), "shadow": 3 * (plan.rounds + 1), "scrapes": plan.rounds}
    return plan.starts * sum(each[part] for part in parts)


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--only", "parts", type=click.Choice(PARTS), multiple=True, default=PARTS, help="One part of it.")
@click.option("--starts", type=click.IntRange(1), default=3, show_default=True, help="Of new processes.")
@click.option("--rounds", type=click.IntRange(1), default=6, show_default=True, help="Of pairs, for each start.")
@click.option("--seconds", type=click.FloatRange(0.5), default=5.0, show_default=True, help="Of each run.")
@click.option("--connections", type=click.IntRange(1), default=32, show_default=True, help="Of the closed loop.")
@click.option("--write", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A page with markers.")
def main(
    *,
    bundle: Path,
    parts: Sequence[str],
    starts: int,
    rounds: int,
    seconds: float,
    connections: int,
    write: Path | None,
) -> None:
    """Measure what watching costs a service of BUNDLE."""
    plan = Plan(starts, rounds, seconds, connections)
    try:
        before, after = ("", "") if write is None else around(write)  # now, and not when all is measured
        with click.progressbar(length=_steps(parts, plan), label="measuring", file=sys.stderr) as bar:
            drift = drift_cost(bundle, plan, bar.update) if "drift" in parts else None
            shadow = shadow_cost(bundle, plan, bar.update) if "shadow" in parts else None
            scrapes = scrape_cost(bundle, plan, bar.update) if "scrapes" in parts else None
        text = table(drift, shadow, scrapes)
        click.echo(text, nl=False)
        if write is not None:
            write.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")
    except BenchError as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
