"""Makes the load: an open loop that never waits for answers, and a closed one that finds the capacity.

The open loop sends each request when it is due, however slow the answers to earlier ones are, and latency counts from
that moment, so a stall of the server shows in the latency of everyone it kept waiting ("coordinated omission": Tene,
wrk2). A request that finds every allowed connection taken is dropped and counted: the run is no open loop then.
"""

import asyncio
import gc
import select
import selectors
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from benchmarks.pool import ConnectionPool
from benchmarks.record import REFUSED, Record
from benchmarks.schedule import Schedule
from benchmarks.target import Target

HEAD_START_SECONDS = 0.05
HOUSEKEEPING_SECONDS = 0.1
SENDS_IN_A_TURN = 64  # then answers are read, so that a generator that is late does not become deaf
# Connections are opened before the start, enough for a stall of this length, so that a server which is slow to accept
# new ones under load does not turn every slow answer into a slow connection.
STALL_SECONDS = 0.25
FEWEST_CONNECTIONS = 16

Watch = Callable[[float, Record], None]
"""Hears `(seconds since the start, what has happened so far)` ten times a second."""


@dataclass(frozen=True)
class Patience:
    """What callers put up with: how long they wait for an answer, and how often they ask again when refused."""

    give_up_seconds: float = 2.0
    retries: int = 0


@dataclass(frozen=True)
class Run:
    """A finished run: its record, and what making the load cost this process in CPU seconds over wall seconds."""

    record: Record
    cpu_seconds: float
    wall_seconds: float
    most_connections: int


def run_open_loop(
    target: Target,
    payloads: Sequence[bytes],
    schedule: Schedule,
    *,
    patience: Patience,
    max_connections: int,
    watch: Watch,
) -> Run:
    """Send each request of `schedule` when it is due; returns when each is answered, broken or given up.

    Raises Unreachable when nobody listens at the start.
    """

    async def run() -> Run:
        load = _OpenLoop(target, payloads, patience, watch, max_connections=max_connections, schedule=schedule)
        wanted = round(schedule.peak * (1 + patience.retries) * STALL_SECONDS)
        return await load.run(min(max_connections, max(FEWEST_CONNECTIONS, wanted)))

    return _drive(run)


def run_closed_loop(
    target: Target, payloads: Sequence[bytes], *, connections: int, seconds: float, patience: Patience, watch: Watch
) -> Run:
    """Keep one request under way on each of `connections` for `seconds`: the most the server can do for so many.

    Raises Unreachable when nobody listens at the start.
    """

    async def run() -> Run:
        load = _ClosedLoop(target, payloads, patience, watch, connections=connections, seconds=seconds)
        return await load.run(connections)

    return _drive(run)


class _Load:
    """One run of a load; a subclass says what is offered, and what the end of a request leads to."""

    def __init__(
        self, target: Target, payloads: Sequence[bytes], patience: Patience, watch: Watch, *, max_connections: int
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._patience = patience
        self._watch = watch
        self._record = Record()
        self._pool = ConnectionPool(
            target, payloads, self._ended, limit=max_connections, give_up_seconds=patience.give_up_seconds
        )
        self._start = 0.0

    async def run(self, connections: int) -> Run:
        """Offer the load, with `connections` open from the start."""
        await self._pool.open(connections)
        with _quiet_collector(), _Stopwatch() as stopwatch:
            self._start = self._loop.time() + HEAD_START_SECONDS
            housekeeping = self._loop.create_task(self._keep_house())
            await self._offer()
            await self._pool.drain()
            housekeeping.cancel()
        await self._pool.close()
        return Run(self._record, stopwatch.cpu_seconds, stopwatch.wall_seconds, self._pool.most_connections)

    async def _offer(self) -> None:
        raise NotImplementedError

    def _go_on(self, request: int, status: int) -> None:
        raise NotImplementedError

    def _ended(self, request: int, status: int, sent_at: float) -> None:
        self._record.end(request, status, sent_at - self._start, self._now())
        self._go_on(request, status)

    def _now(self) -> float:
        return self._loop.time() - self._start

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            self._pool.give_up_on_the_slow()
            self._watch(max(0.0, self._now()), self._record)


class _OpenLoop(_Load):
    def __init__(
        self,
        target: Target,
        payloads: Sequence[bytes],
        patience: Patience,
        watch: Watch,
        *,
        max_connections: int,
        schedule: Schedule,
    ) -> None:
        super().__init__(target, payloads, patience, watch, max_connections=max_connections)
        self._due: list[float] = schedule.due().tolist()
        self._all_sent = self._loop.create_future()

    async def _offer(self) -> None:
        self._send_what_is_due()
        await self._all_sent

    def _send_what_is_due(self) -> None:
        for _ in range(SENDS_IN_A_TURN):
            if len(self._record) == len(self._due):
                self._all_sent.set_result(None)
                return
            due = self._due[len(self._record)]
            now = self._now()
            if due > now:
                self._loop.call_at(self._start + due, self._send_what_is_due)
                return
            self._pool.submit(self._record.begin(due, now))
        self._loop.call_soon(self._send_what_is_due)

    def _go_on(self, request: int, status: int) -> None:
        """Ask again at once when refused, as impatient callers do."""
        if status == REFUSED and self._record.retries[request] < self._patience.retries:
            self._record.again(request)
            self._pool.submit(request)


class _ClosedLoop(_Load):
    def __init__(
        self,
        target: Target,
        payloads: Sequence[bytes],
        patience: Patience,
        watch: Watch,
        *,
        connections: int,
        seconds: float,
    ) -> None:
        super().__init__(target, payloads, patience, watch, max_connections=connections)
        self._connections = connections
        self._seconds = seconds

    async def _offer(self) -> None:
        await asyncio.sleep(HEAD_START_SECONDS)
        for _ in range(self._connections):
            self._send_next()

    def _go_on(self, _request: int, _status: int) -> None:
        self._send_next()

    def _send_next(self) -> None:
        now = self._now()
        if now < self._seconds:
            self._pool.submit(self._record.begin(now, now))


class _Stopwatch:
    """CPU and wall seconds of this process while it was open."""

    def __enter__(self) -> Self:
        self.cpu_seconds, self.wall_seconds = -time.process_time(), -time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu_seconds += time.process_time()
        self.wall_seconds += time.perf_counter()


@contextmanager
def _quiet_collector() -> Iterator[None]:
    """No garbage collection while it matters when something is sent: a collection pauses for milliseconds."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def _drive(run: Callable[[], Coroutine[Any, Any, Run]]) -> Run:
    with asyncio.Runner(loop_factory=_punctual_loop) as runner:
        return runner.run(run())


def _punctual_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop whose timers are good to some 0.1 ms; epoll alone, and uvloop, round to whole ones."""
    if not hasattr(selectors, "EpollSelector"):
        return asyncio.new_event_loop()

    class PunctualSelector(selectors.EpollSelector):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is not None and timeout > 0:
                select.select([self.fileno()], [], [], timeout)  # microseconds; an epoll is readable when it has events
                timeout = 0
            return super().select(timeout)

    return asyncio.SelectorEventLoop(PunctualSelector())
