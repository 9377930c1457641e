"""Two processes under load, one of which lives through it all while the other is ended and started again and again."""

import asyncio
import os
import random
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks.errors import BenchError
from benchmarks.live_features import service
from benchmarks.long_run.callers import PATIENCE_SECONDS, Callers
from benchmarks.long_run.ledger import Ledger, Verdicts
from benchmarks.long_run.replica import POLL_SECONDS, SwapRefused, WatchedReplica
from benchmarks.long_run.samples import Sample
from benchmarks.long_run.traffic import POISON, Alone, Bodies, describe, draw_traffic, make_bodies
from benchmarks.rolling_restarts import REACTION_SECONDS, START_SECONDS
from registry import read_bundle

LAME_DUCK_SECONDS = 1.0
STORM_SECONDS = 1.0  # of traffic between a rest and the SIGTERM, so that it comes amid requests
SAMPLE_SECONDS = 1.0
SETTLE_SECONDS = 10.0  # until a process that nobody calls has ended what it had, and holds what it holds at rest
QUIET_POLLS = 5
SEED = 5


@dataclass(frozen=True)
class Plan:
    """`sigterm_seconds` and `swap_seconds` are from one to the next; 0: never."""

    bundles: tuple[Path, Path]
    requests: int
    minutes: float
    sigterm_seconds: float
    swap_seconds: float

    @property
    def rate(self) -> float:
        return self.requests / (60 * self.minutes)


class Rest(NamedTuple):
    """A moment without any caller: what the lasting process holds, and where the counts of a process differ."""

    sample: Sample
    differences: list[str]


@dataclass
class Outcome:
    """What became of a run; `samples` are of the lasting process, `others` of each life of the other one."""

    plan: Plan
    ledger: Ledger
    verdicts: Verdicts
    seconds: float
    rests: list[Rest]
    terminations: int
    swaps: int
    samples: list[Sample]
    others: list[list[Sample]]


def prepare(plan: Plan) -> tuple[Alone, Bodies, str]:
    """Ask a calm service of each bundle for every body alone. The last of the three is the feature to poison."""
    with ExitStack() as stack:
        targets = [stack.enter_context(service(bundle, log_level="error")) for bundle in plan.bundles]
        described = [describe(target) for target in targets]
        shared = set.intersection(*(numbers for _, numbers in described))
        if not shared:
            raise BenchError("the models share no number of an activity that could be poisoned")
        poisoned = min(shared)
        bodies = make_bodies([example for example, _ in described], poisoned)
        alone = Alone()
        versions = {alone.ask(target, bodies.plain) for target in targets}
    if len(versions) < len(targets):
        raise BenchError(f"both bundles are {versions.pop()}: answers could not be told apart")
    return alone, bodies, poisoned


class LongRun:
    """`lasting` is never ended, `replaced` is; both serve what the link in their folder points to."""

    def __init__(self, plan: Plan, alone: Alone, bodies: Bodies, poisoned: str, folder: Path) -> None:
        traffic = draw_traffic(bodies, plan.requests)
        self.plan = plan
        self.ledger = Ledger(traffic, alone)
        self.callers = Callers(traffic, self.ledger, plan.rate, self._pick)
        self.rests: list[Rest] = []
        self.terminations = 0
        self.swaps = 0
        self._link = folder / "model"
        self._link.symlink_to(plan.bundles[0])
        environment = {**os.environ, **_environment(plan, poisoned)}
        self.lasting, self.replaced = (
            WatchedReplica(self._link, environment, _made(folder / name), self.ledger)
            for name in ("lasting", "replaced")
        )
        self._rotation: list[WatchedReplica] = []
        self._chance = random.Random(SEED)
        self._changing = asyncio.Lock()  # nobody is told of a new model while it starts
        self._all_asked = asyncio.Event()

    @property
    def replicas(self) -> Sequence[WatchedReplica]:
        return self.lasting, self.replaced

    async def run(self, done: Callable[[int], None]) -> Outcome:
        clock = asyncio.get_running_loop().time
        for replica in self.replicas:
            await replica.start()
        for replica in self.replicas:
            await self._enter_rotation(replica)
        began_at = clock()
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch(began_at, done))
            changes = [tasks.create_task(change) for change in (self._restart_in_turn(began_at), self._swap_in_turn())]
            await self.callers.ask_all()
            seconds = clock() - began_at
            self._all_asked.set()
            await asyncio.wait(changes)
            watching.cancel()
        await self._rest(began_at)
        await asyncio.gather(*(replica.terminate() for replica in self.replicas))
        for replica in self.replicas:
            replica.read_log()
        return Outcome(
            self.plan,
            self.ledger,
            self.ledger.verdicts(),
            seconds,
            self.rests,
            self.terminations,
            self.swaps,
            self.lasting.samples[0],
            self.replaced.samples,
        )

    def _pick(self) -> WatchedReplica | None:
        return self._chance.choice(self._rotation) if self._rotation else None

    async def _enter_rotation(self, replica: WatchedReplica) -> None:
        await replica.wait_until_ready()
        self._rotation.append(replica)

    # What happens meanwhile

    async def _watch(self, began_at: float, done: Callable[[int], None]) -> None:
        clock = asyncio.get_running_loop().time
        told = 0
        while True:
            for replica in self._rotation:
                replica.read_log()
                replica.sample(clock() - began_at)
            done(self.callers.begun - told)
            told = self.callers.begun
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _restart_in_turn(self, began_at: float) -> None:
        while await self._in_time(self.plan.sigterm_seconds):
            async with self._changing:
                await self._rest(began_at)
                self.callers.resume()
                await asyncio.sleep(STORM_SECONDS)
                await self._replace()

    async def _replace(self) -> None:
        """End the process amid requests, as a cluster does, and start the next one in its place."""
        ending = asyncio.create_task(self.replaced.terminate())
        await asyncio.sleep(REACTION_SECONDS)
        self._rotation.remove(self.replaced)
        await ending
        self.replaced.read_log()
        self.terminations += 1
        await self.replaced.start()
        await self._enter_rotation(self.replaced)

    async def _swap_in_turn(self) -> None:
        while await self._in_time(self.plan.swap_seconds):
            async with self._changing:
                await self._swap(self.plan.bundles[(self.swaps + 1) % 2])

    async def _swap(self, bundle: Path) -> None:
        """Point the link at another model, and have every process look at it."""
        beside = self._link.with_name("next")
        beside.symlink_to(bundle)
        beside.replace(self._link)
        description = read_bundle(bundle)
        version = f"{description.name}/{description.version}"
        for replica in self._rotation:
            replica.send(signal.SIGHUP)
        try:
            async with asyncio.timeout(START_SECONDS):
                for replica in self._rotation:
                    while not await replica.serves(version):
                        replica.check()
                        await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise SwapRefused(f"{START_SECONDS:g} s after SIGHUP, {version} does not serve") from None
        self.swaps += 1

    async def _in_time(self, seconds: float) -> bool:
        """Wait so long; False where it is never, or where all was asked before."""
        if not seconds:
            return False
        try:
            async with asyncio.timeout(seconds):
                await self._all_asked.wait()
        except TimeoutError:
            return True
        return False

    # Rests

    async def _rest(self, began_at: float) -> None:
        """Have all callers pause, and hold the counts of both sides against each other."""
        await self.callers.pause()
        differences: list[str] = []
        for replica in self._rotation:
            differences += await self._differences(replica)
        await self._settled(self.lasting)
        self.rests.append(Rest(self.lasting.sample(asyncio.get_running_loop().time() - began_at), differences))

    async def _differences(self, replica: WatchedReplica) -> list[str]:
        """Where the counts differ once everything has ended; or still, after so long."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + SETTLE_SECONDS
        while True:
            scraped = await replica.outcomes()
            replica.read_log()
            found = replica.life.differences(scraped)
            if not found or loop.time() > give_up_at:
                return found
            await asyncio.sleep(POLL_SECONDS)

    async def _settled(self, replica: WatchedReplica) -> None:
        """Wait until descriptors and tasks are the same for half a second, or for long enough."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + SETTLE_SECONDS
        same, before = 0, (0, 0)
        while same < QUIET_POLLS and loop.time() < give_up_at:
            await asyncio.sleep(POLL_SECONDS)
            now = replica.holds()
            same, before = (same + 1 if now == before else 0), now


@asynccontextmanager
async def long_run(plan: Plan, prepared: tuple[Alone, Bodies, str]) -> AsyncIterator[LongRun]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        run = LongRun(plan, *prepared, folder)
        for replica in run.replicas:
            stack.push_async_callback(replica.close)
        yield run


def _environment(plan: Plan, poisoned: str) -> dict[str, str]:
    settings = {
        # No request goes there. It is there for its features: what requests may carry is settled when a process starts.
        "treatment_model": plan.bundles[0],
        "treatment_share": 0,
        "host": "127.0.0.1",
        "request_timeout_ms": 10_000,  # a machine that stalls may still refuse some: see `shed`
        "body_timeout_seconds": 2 * PATIENCE_SECONDS,
        "lame_duck_seconds": LAME_DUCK_SECONDS,
        "drain_seconds": PATIENCE_SECONDS,
        "code_version": "long-run",
    }
    return {f"FRONTROW_{name.upper()}": str(value) for name, value in settings.items()} | {
        "POISON": f"{poisoned}={POISON}"
    }


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
