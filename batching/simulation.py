"""The batcher itself under a virtual clock: what it does at ten times the load, in a second of real time.

Nothing here imitates the batcher. Its loop and its executor are replaced, so every run with one seed is the same.
"""

import asyncio
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from batching.batcher import Batcher
from batching.errors import BatchingError, Shed
from batching.lanes import Lane
from batching.policy import Cost, Limits, Priority

# The example of the design: a batch of 512 rows takes 6.1 ms, a sixth of it whatever its size.
COST = Cost(fixed_seconds=0.001, row_seconds=10e-6)
LIMITS = Limits(max_batch_rows=512, max_batch_seconds=1.0)


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop whose time jumps to the next timer instead of waiting for it. It has no I/O and no threads."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._selector = self

    def time(self) -> float:
        return self._now

    def block(self, seconds: float) -> None:
        """Let time go on while a callback runs."""
        self._now += seconds

    def select(self, timeout: float | None) -> Sequence[Any]:
        """In the place of waiting for I/O."""
        if timeout is None:
            raise RuntimeError("everybody waits, and nothing will ever happen")
        self._now += timeout
        return ()

    def _process_events(self, events: Sequence[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody else could have to be woken."""


class ScriptedExecutor:
    """Scores at once and hands back after as many virtual seconds as the scorer said with `spend`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._spent = 0.0
        self.closed = False

    def spend(self, seconds: float) -> None:
        self._spent += seconds

    def submit(self, work: Callable[[], Any], done: Callable[[Any, float], None]) -> None:
        result = work()
        seconds, self._spent = self._spent, 0.0
        self._loop.call_later(seconds, done, result, seconds)

    def collect(self) -> None:
        """All is called back by the loop."""

    def close(self) -> None:
        self.closed = True


@dataclass(frozen=True, slots=True)
class Scenario:
    """What comes, and what the scorer really costs.

    load(now): offered rows over the rows that full batches could score, at that time.
    sizes, timeouts, priorities: drawn evenly for each request; timeouts in seconds.
    slowness(now): by how much the scorer is slower than `cost` says. noise: its relative spread.
    prior: what the batcher is told that a batch costs, when that is not `cost`.
    retries: how often a caller tries again, at once, after it was refused or expired.
    """

    load: Callable[[float], float]
    seconds: float = 3.0
    sizes: Sequence[int] = (50,)
    timeouts: Sequence[float] = (0.1,)
    priorities: Sequence[Priority] = (Priority.NORMAL,)
    slowness: Callable[[float], float] = lambda _: 1.0
    noise: float = 0.1
    cost: Cost = COST
    prior: Cost | None = None
    retries: int = 0
    limits: Limits = LIMITS
    seed: int = 1

    @property
    def capacity_rows_per_second(self) -> float:
        rows = self.limits.max_batch_rows
        return rows / self.cost.seconds(rows)


@dataclass(slots=True)
class Call:
    """One request of the simulation, as its caller saw it."""

    arrived_at: float
    rows: int
    timeout: float
    priority: Priority
    outcome: str = ""
    seconds: float = math.nan

    @property
    def good(self) -> bool:
        return self.outcome == "ok" and self.seconds <= self.timeout


@dataclass(slots=True)
class Run:
    """What came out of a scenario, with the figures people ask for."""

    scenario: Scenario
    calls: list[Call] = field(default_factory=list)

    def goodput(self, start: float = 0.0, stop: float = math.inf) -> float:
        """Rows answered in time over what full batches could score, for the requests that came in this time."""
        stop = min(stop, self.scenario.seconds)
        rows = sum(call.rows for call in self.calls if call.good and start <= call.arrived_at < stop)
        return rows / (self.scenario.capacity_rows_per_second * (stop - start))

    def offered(self, start: float = 0.0, stop: float = math.inf) -> float:
        stop = min(stop, self.scenario.seconds)
        rows = sum(call.rows for call in self.calls if start <= call.arrived_at < stop)
        return rows / (self.scenario.capacity_rows_per_second * (stop - start))

    def latency(self, quantile: float) -> float:
        """Seconds of the requests that were answered, in time or not."""
        times = sorted(call.seconds for call in self.calls if call.outcome == "ok")
        return times[min(len(times) - 1, int(quantile * len(times)))] if times else math.nan

    def vain(self) -> float:
        """The share of scored rows that came too late for their caller."""
        late = sum(call.rows for call in self.calls if call.outcome == "ok" and not call.good)
        return late / sum(call.rows for call in self.calls if call.outcome == "ok")

    def admitted(self, priority: Priority) -> float:
        """The share of the requests of a class that was answered."""
        of_class = [call for call in self.calls if call.priority is priority]
        return sum(call.outcome == "ok" for call in of_class) / len(of_class)

    def outcomes(self) -> Counter[str]:
        return Counter(call.outcome for call in self.calls)


def simulate(scenario: Scenario) -> Run:
    """Let a scenario happen. The same scenario gives the same run, always."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(_simulate(scenario, loop))
    finally:
        loop.close()


async def _simulate(scenario: Scenario, loop: VirtualLoop) -> Run:
    draw = random.Random(scenario.seed)  # noqa: S311 - repeatable, not secret
    executor = ScriptedExecutor(loop)

    def score(requests: Sequence[int]) -> Sequence[int]:
        spread = math.exp(draw.gauss(0.0, scenario.noise))
        executor.spend(scenario.cost.seconds(sum(requests)) * scenario.slowness(loop.time()) * spread)
        return requests

    lane: Lane[int, int] = Lane(score, _split, sum, scenario.prior or scenario.cost)
    batcher = Batcher({"lane": lane}, limits=scenario.limits, executor=executor, handover_seconds=0.0, clock=loop.time)
    run = Run(scenario)
    tasks = set()
    mean_rows = sum(scenario.sizes) / len(scenario.sizes)
    async with batcher:
        while (now := loop.time()) < scenario.seconds:
            call = Call(
                now, draw.choice(scenario.sizes), draw.choice(scenario.timeouts), draw.choice(scenario.priorities)
            )
            run.calls.append(call)
            task = loop.create_task(_call(batcher, call, scenario.retries, loop))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            rate = scenario.load(now) * scenario.capacity_rows_per_second / mean_rows
            await asyncio.sleep(draw.expovariate(rate))
        await asyncio.gather(*tasks)
    return run


def _split(_: int, start: int, stop: int) -> int:
    return stop - start


async def _call(batcher: Batcher[int, int], call: Call, retries: int, loop: VirtualLoop) -> None:
    for _ in range(1 + retries):
        try:
            due_at = loop.time() + call.timeout
            await batcher.submit("lane", call.rows, rows=call.rows, due_at=due_at, priority=call.priority)
            call.outcome = "ok"
            break
        except BatchingError as error:
            call.outcome = error.reason if isinstance(error, Shed) else str(error.outcome)
    call.seconds = loop.time() - call.arrived_at
