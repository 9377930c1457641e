"""A batcher in a world where nothing happens by itself: time, the scorer and the callers move when a test says so."""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from batching import Batcher, BatchingError, BatchReport, Cost, Lane, Limits, Outcome, Priority, Scored, Shed
from batching.simulation import VirtualLoop

COST = Cost(fixed_seconds=0.001, row_seconds=0.0001)
LIMITS = Limits(max_batch_rows=16, max_batch_seconds=1.0)
FOR_EVER = 1e9


class GatedExecutor:
    """Scores at once, and keeps the answer until `finish`. What the next batch does is said before."""

    def __init__(self) -> None:
        self._held: deque[tuple[Callable[[Any, float], None], Any]] = deque()
        self.working = False
        self.closed = False

    def submit(self, work: Callable[[], Any], done: Callable[[Any, float], None]) -> None:
        self.working = True
        self._held.append((done, work()))
        self.working = False

    def collect(self) -> None:
        """Nothing is finished before `finish` says so."""

    def close(self) -> None:
        self.closed = True

    @property
    def busy(self) -> bool:
        return bool(self._held)

    def finish(self, seconds: float) -> None:
        done, result = self._held.popleft()
        done(result, seconds)


@dataclass(frozen=True)
class Rows:
    """A request: which rows of which call. Those of a poisoned call make their scorer raise."""

    call: "Call"
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(eq=False)
class Call:
    """One request as its caller sees it."""

    number: int
    lane: str
    rows: int
    due_at: float
    priority: Priority
    submitted_at: float
    task: "asyncio.Task[Scored[Any] | BatchingError]" = field(init=False)
    poison: bool = False
    may_fail: bool = False
    scored: set[int] = field(default_factory=set)

    @property
    def pending(self) -> bool:
        return not self.task.done()

    @property
    def outcome(self) -> Outcome:
        if self.task.cancelled():
            return Outcome.CANCELLED
        return self.error.outcome if self.error else Outcome.OK

    @property
    def error(self) -> BatchingError | None:
        answer = self.task.result()
        return answer if isinstance(answer, BatchingError) else None

    @property
    def answer(self) -> Scored[Any]:
        answer = self.task.result()
        assert isinstance(answer, Scored), answer
        return answer


class World:
    """Everything a test needs around one batcher with the lanes "control" and "treatment".

    Each row is scored as (lane, version of its scorer, number of the call, place of the row), so that no row can be
    taken for another.
    """

    def __init__(
        self,
        *,
        limits: Limits = LIMITS,
        cost: Cost = COST,
        prepare: Any = None,
        handover_seconds: float = 0.0,
        observer: Callable[[BatchReport], None] | None = None,
    ) -> None:
        self.loop = VirtualLoop()
        self.executor = GatedExecutor()
        self.calls: list[Call] = []
        self.reports: list[BatchReport] = []
        self.batches: list[tuple[str, int, list[Rows]]] = []  # every call of a scorer: lane, version, requests
        self.breaks: deque[Callable[[Sequence[Rows]], Sequence[Any]]] = deque()  # instead of scoring, once each
        self.versions = itertools.count(1)
        self.cost = cost
        self.prepare = prepare
        self.batcher: Batcher[Rows, Any] = Batcher(
            {name: self.lane(name) for name in ("control", "treatment")},
            limits=limits,
            observer=observer or self.reports.append,
            clock=self.loop.time,
            executor=self.executor,
            handover_seconds=handover_seconds,
        )
        self.run(self.batcher.start())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Let everybody go, finish what is being scored, and see that the batcher then closes."""
        try:
            for call in self.calls:
                call.task.cancel()
            self.settle()
            self.finish_all()
            self.run(self.batcher.drain())
        finally:
            self.loop.close()

    def lane(self, name: str, **changes: Any) -> Lane[Rows, Any]:
        version = next(self.versions)

        def score(requests: Sequence[Rows]) -> Sequence[Any]:
            self.batches.append((name, version, list(requests)))
            if not self.executor.working:  # on the loop, which so stands still
                self.loop.block(self.cost.seconds(sum(map(len, requests))))
            for request in requests:
                request.call.scored.update(range(request.start, request.stop))
            if self.breaks:
                return self.breaks.popleft()(requests)
            if poisoned := [request for request in requests if request.call.poison]:
                raise ValueError(f"{len(poisoned)} poisoned")
            return [
                [(name, version, request.call.number, row) for row in range(request.start, request.stop)]
                for request in requests
            ]

        def split(request: Rows, start: int, stop: int) -> Rows:
            return replace(request, start=start, stop=stop)

        def join(pieces: Sequence[Any]) -> Any:
            return list(itertools.chain.from_iterable(pieces))

        return replace(Lane(score, split, join, self.cost, self.prepare), **changes)

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    def settle(self) -> None:
        """Let everything happen that can happen now."""
        self.run(self._pass(0.0))

    def advance(self, seconds: float) -> None:
        self.run(self._pass(seconds))

    async def _pass(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        for _ in range(6):
            await asyncio.sleep(0)

    def submit(self, rows: int = 1, **details: Any) -> Call:
        """A request that has been admitted or refused."""
        call = self.submit_later(rows, **details)
        self.settle()
        return call

    def submit_later(
        self,
        rows: int = 1,
        *,
        lane: str = "control",
        timeout: float = FOR_EVER,
        priority: Priority = Priority.NORMAL,
        poison: bool = False,
    ) -> Call:
        """A request that will be submitted when the loop turns next."""
        now = self.loop.time()
        call = Call(len(self.calls), lane, rows, now + timeout, priority, now, poison=poison)
        self.calls.append(call)
        request = Rows(call, 0, rows)
        call.task = self.loop.create_task(self._ask(call, request))
        return call

    async def _ask(self, call: Call, request: Rows) -> Scored[Any] | BatchingError:
        try:
            return await self.batcher.submit(
                call.lane, request, rows=call.rows, due_at=call.due_at, priority=call.priority
            )
        except BatchingError as error:
            return error

    def leave(self, call: Call) -> None:
        call.task.cancel()
        self.settle()

    def finish(self, *, slower: float = 1.0) -> None:
        """Let the batch that is being scored come back, as much slower than predicted."""
        stats = self.batcher.stats()
        rows = max(1, sum(lane.in_flight_rows for lane in stats.lanes.values()))
        seconds = slower * self.cost.seconds(rows)
        self.run(asyncio.sleep(seconds))
        self.executor.finish(seconds)
        self.settle()

    def finish_all(self) -> None:
        while self.executor.busy:
            self.finish()

    def stats(self, lane: str = "control") -> Any:
        return self.batcher.stats().lanes[lane]

    def expected(self, call: Call, version: int | None = None) -> list[Any]:
        version = {"control": 1, "treatment": 2}[call.lane] if version is None else version
        return [(call.lane, version, call.number, row) for row in range(call.rows)]

    def dispatched(self, number: int = -1) -> list[int]:
        """The numbers of the calls in a batch, by default the last."""
        return [request.call.number for request in self.batches[number][2]]


def refused(call: Call) -> bool:
    return not call.pending and not call.task.cancelled() and isinstance(call.error, Shed)
