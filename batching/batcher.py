"""The micro-batcher: the one place with futures and tasks. What it decides stands in `policy` and `waiting`."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from batching import policy
from batching.batch import Batch
from batching.calibration import measure_handover
from batching.errors import BatchingError, Draining, Expired, NotStarted, ScoringFailed, Shed, UnknownLane, WrongLength
from batching.isolation import Failure, Miscount, Prepare, attempt, prepare_all, take_apart, without_frames
from batching.lanes import Lane, Lanes, LaneState
from batching.policy import Limits, Priority, Refusal
from batching.report import BatchOutcome, BatchReport, DispatchReason, LaneStats, Outcome, Scored, Stats
from batching.thread import Executor, ScoringThread
from batching.waiting import Ticket

P = TypeVar("P")
R = TypeVar("R")

Observer = Callable[[BatchReport], None]

_log = logging.getLogger(__name__)


class Batcher(Generic[P, R]):
    """Scores the requests of several lanes in batches, one batch at a time.

    An idle scorer starts at once with whatever waits; requests gather only while it is busy. Lanes share it by scoring
    seconds. Use it as an async context manager, or call `start()` and `drain()`.

    observer: called with a `BatchReport` after each batch. If it raises, that is logged once and counted.
    clock: seconds, monotonic; what `due_at` is counted in. Not the `loop.time` of uvloop, which counts whole
        milliseconds and stands still while callbacks run.
    executor: where batches are scored, by default a thread of its own.
    handover_seconds: what handing a batch to the executor costs; measured at the start when not given.
    """

    # All state changes on the event loop and between awaits, so it needs no lock.

    def __init__(
        self,
        lanes: Mapping[str, Lane[P, R]],
        *,
        limits: Limits | None = None,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.perf_counter,
        executor: Executor | None = None,
        handover_seconds: float | None = None,
    ) -> None:
        self._lanes = Lanes(lanes, limits or Limits())
        self._observer = observer
        self._observer_errors = 0
        self._clock = clock
        self._given_executor = executor
        self._given_handover_seconds = handover_seconds
        self._loop_seconds = 0.0
        self._started = False
        self._accepting = False
        self._closed = asyncio.Event()
        self._scoring: Batch | None = None
        self._ahead: Batch | None = None  # cut and in preparation, or prepared and the next to be scored
        self._waking = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf

    async def start(self) -> None:
        """Open the door. Measures the hand-over to the executor, which takes a few milliseconds."""
        self._loop = asyncio.get_running_loop()
        self._executor = self._given_executor or ScoringThread()
        handover_seconds = self._given_handover_seconds
        if handover_seconds is None:
            handover_seconds = await measure_handover(self._executor, clock=self._clock)
        self._lanes.open(handover_seconds)
        self._loop_seconds = min(policy.BUSY_HANDOVERS * handover_seconds, self._lanes.limits.max_loop_seconds)
        self._started = self._accepting = True

    async def drain(self) -> None:
        """Stop the intake, wait until everything that was admitted has its outcome, and close."""
        self._accepting = False
        if not self._started:
            return
        self._close_if_done()
        await self._closed.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.drain()

    async def submit(
        self, lane: str, request: P, *, rows: int, due_at: float, priority: Priority = Priority.NORMAL
    ) -> Scored[R]:
        """Score `request`, which makes `rows` rows, by `due_at` (a time of the batcher's clock).

        Admitted or refused before anything is awaited, in constant time. Raises a `Shed` when refused, `Expired` when
        the deadline passed before scoring, `ScoringFailed` when this request is what made its scorer fail, and
        `WrongLength` when the scorer lost count. Whoever cancels it while it waits costs no scoring.
        """
        ticket = self.enter(lane, request, rows=rows, due_at=due_at, priority=priority)
        try:
            await ticket.future
        except BaseException:  # Nobody sets an exception on it: this is the caller leaving.
            self.leave(ticket)
            raise
        return self.learn(ticket)

    def enter(self, lane: str, request: P, *, rows: int, due_at: float, priority: Priority = Priority.NORMAL) -> Ticket:
        """`submit` for whoever has no task to wait in: admits, or raises a `Shed` or `Expired`.

        Once the ticket's `future` is done, call `learn`; to go before that, call `leave`. One of them, once.
        """
        state = self._state(lane)
        if rows < 1:
            raise ValueError(f"a request has at least one row, not {rows}")
        self._collect()
        state.tally.offered += 1
        state.tally.offered_rows += rows
        try:
            return self._admit(state, request, rows, due_at, priority)
        except BatchingError as refused:
            self._end(state, refused.outcome)
            raise

    def learn(self, ticket: Ticket) -> Scored[R]:
        """What became of a request whose future is done. Raises as `submit` does."""
        if isinstance(ticket.answer, BatchingError):
            self._end(ticket.state, ticket.answer.outcome)
            raise ticket.take_answer()  # not from a variable, which would hold it, and be held by it
        self._end(ticket.state, Outcome.OK)
        scored: Scored[R] = ticket.take_answer()
        return scored

    def leave(self, ticket: Ticket) -> None:
        """Give up a request: from now on it costs no scoring that has not begun."""
        ticket.state.line.leave(ticket)
        ticket.future.cancel()
        self._end(ticket.state, Outcome.CANCELLED)

    def turn_away(self, lane: str, *, rows: int, due_at: float, priority: Priority = Priority.NORMAL) -> None:
        """Refuse a request of `rows` rows or more now if `submit` would, before anybody has worked on it.

        Raises the `Shed` of `submit` and counts it as offered; otherwise returns and leaves no trace.
        """
        state = self._state(lane)
        self._collect()
        now = self._clock()
        if refusal := self._refusal(state, rows, due_at, priority, now, idle=self._idle()):
            state.tally.offered += 1
            state.tally.offered_rows += rows
            self._end(state, Outcome.SHED)
            raise self._shed(state, refusal, rows, now)

    def swap(self, lane: str, new: Lane[P, R]) -> None:
        """Score with `new` from the next batch on. Batches in flight, and requests partly scored, finish on the old."""
        self._lanes.put(self._state(lane), new)

    def stats(self) -> Stats:
        """All there is to know from outside. Raises `NotStarted` before `start()`."""
        now = self._now()
        return Stats(
            lanes={state.name: self._lane_stats(state, now) for state in self._lanes},
            accepting=self._accepting,
            handover_seconds=self._lanes.handover_seconds,
            loop_seconds=self._loop_seconds,
            drain_seconds=self._drain_seconds(now),
            observer_errors=self._observer_errors,
        )

    # At the door

    def _now(self) -> float:
        if not self._started:
            raise NotStarted("call start() first")
        return self._clock()

    def _state(self, lane: str) -> LaneState:
        if not self._started:
            raise NotStarted("call start() first")
        try:
            return self._lanes.by_name[lane]
        except KeyError:
            raise UnknownLane(f"{lane!r} is none of {', '.join(self._lanes.by_name)}") from None

    def _collect(self) -> None:
        """Give the scorer its next batch now if it is waiting for it.

        A busy loop comes to it only after all that is ready to be read, and the scorer would be idle so long.
        """
        if self._scoring is not None:
            self._executor.collect()

    def _admit(self, state: LaneState, request: P, rows: int, due_at: float, priority: Priority) -> Ticket:
        """A ticket in line, or a refusal by name."""
        now = self._clock()
        if due_at <= now:
            raise Expired(state.name, rows, waited_seconds=0.0)
        idle = self._idle()
        if refusal := self._refusal(state, rows, due_at, priority, now, idle=idle):
            raise self._shed(state, refusal, rows, now)
        ticket = Ticket(
            state, self._loop.create_future(), request, rows=rows, due_at=due_at, priority=priority, now=now, probe=idle
        )
        self._lanes.join(state, ticket)
        if due_at < self._alarm_at:
            self._set_alarm(due_at)
        if self._scoring is None or (self._ahead is None and state.lane.prepare is not None):
            if self._is_worth_a_start(state):
                self._advance(DispatchReason.IDLE)
            else:
                self._wake()
        return ticket

    def _shed(self, state: LaneState, refusal: Refusal, rows: int, now: float) -> Shed:
        state.tally.shed[refusal.error.reason] += 1
        retry_after = self._drain_seconds(now)
        return refusal.error(
            state.name, rows, needed=refusal.needed, allowed=refusal.allowed, retry_after_seconds=retry_after
        )

    def _refusal(
        self, state: LaneState, rows: int, due_at: float, priority: Priority, now: float, *, idle: bool
    ) -> Refusal | None:
        if not self._accepting:
            return Refusal(Draining, rows, 0)
        if idle:
            return None
        return self._lanes.refusal(
            state, priority, rows, left_seconds=due_at - now, busy_seconds=self._busy_seconds(now), now=now
        )

    def _idle(self) -> bool:
        return self._scoring is None and self._ahead is None and not self._lanes.anybody_waits()

    def _busy_seconds(self, now: float) -> float:
        """Until the batches that were cut are scored, as predicted. What is overdue is expected to be so once more."""
        ahead = self._ahead.predicted_seconds if self._ahead is not None else 0.0
        if self._scoring is None:
            return ahead
        return ahead + abs(self._scoring.started_at + self._scoring.predicted_seconds - now)

    def _drain_seconds(self, now: float) -> float:
        return self._busy_seconds(now) + self._lanes.waiting_seconds()

    # While waiting

    def _set_alarm(self, at: float) -> None:
        """One alarm for all, at the earliest deadline: who waits behind a stuck scorer learns in time of being late."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = self._loop.call_later(at - self._clock(), self._expire_overdue)

    def _expire_overdue(self) -> None:
        now = self._clock()
        earliest = math.inf
        for state, ticket in self._unscored():
            if ticket.due_at <= now:
                self._expire(state, ticket, now)
            else:
                earliest = min(earliest, ticket.due_at)
        self._alarm, self._alarm_at = None, math.inf
        if earliest < math.inf:
            self._set_alarm(max(earliest, now + 0.001))  # many deadlines close together cost one look

    def _unscored(self) -> list[tuple[LaneState, Ticket]]:
        waiting = [(state, ticket) for state in self._lanes for ticket in state.line]
        if self._ahead is not None:
            waiting += [(self._ahead.state, ticket) for ticket in self._ahead.tickets]
        return waiting

    def _expire(self, state: LaneState, ticket: Ticket, now: float) -> None:
        self._settle(state, ticket, Expired(state.name, ticket.rows, waited_seconds=now - ticket.arrived_at))

    # From the line to the scorer

    def _is_worth_a_start(self, state: LaneState) -> bool:
        """Whether the thread should score what waits in a lane while the loop reads what else is there.

        What arrives in one turn of the loop is else scored together. A crowd is read for milliseconds, though, in which
        the scorer could do its first half: it starts once rows alone take longer than what is scored on the loop, and
        no less than the fixed part of a batch, which so is at most half of it.
        """
        seconds = state.model.seconds(state.line.rows)
        return seconds >= self._loop_seconds and seconds >= 2 * state.model.seconds(0)

    def _wake(self) -> None:
        """Look for work when the loop has gone through what is ready now: what arrives together is scored together."""
        if not self._waking:
            self._waking = True
            self._loop.call_soon(self._woken)

    def _woken(self) -> None:
        self._waking = False
        self._advance(DispatchReason.IDLE)

    def _advance(self, reason: DispatchReason) -> None:
        """Give every stage that is free its next batch."""
        while True:
            if self._ahead is None and not self._cut_ahead(reason):
                return
            if self._scoring is not None or self._ahead is None or not self._ahead.prepared:
                return
            batch, self._ahead = self._ahead, None
            self._score(batch)
            if self._scoring is None:
                return  # It was scored here, and now it is the loop's turn.

    def _cut_ahead(self, reason: DispatchReason) -> bool:
        """Cut the batch that goes next, unless nothing waits or waiting for the scorer lets it grow."""
        while (state := self._lanes.next()) is not None:
            if self._scoring is not None and state.lane.prepare is None:
                return False
            batch = self._ahead = self._cut(state, reason)
            if batch is not None:
                self._begin_preparation(batch)
                return True
        return False

    def _begin_preparation(self, batch: Batch) -> None:
        if batch.lane.prepare is None:
            batch.prepared = True
        else:
            self._preparation = self._loop.create_task(self._prepare(batch, batch.lane.prepare))

    def _cut(self, state: LaneState, reason: DispatchReason) -> Batch | None:
        now = self._clock()
        taken = self._lanes.cut(state, now)
        for ticket in taken.expired:
            self._expire(state, ticket, now)
        if not taken.tickets:
            return None
        batch = Batch(state, taken, taken.reason or reason, now)
        if taken.in_pieces:
            self._split(batch)
        return batch

    def _split(self, batch: Batch) -> None:
        """Replace oversize requests by their piece of this batch."""
        self._keep(batch, [self._piece(batch, *each) for each in zip(batch.tickets, batch.piece_rows, strict=True)])

    def _piece(self, batch: Batch, ticket: Ticket, rows: int) -> Any:
        if rows == ticket.rows:
            return ticket.request
        start = ticket.rows - ticket.rows_left - rows
        try:
            return batch.lane.split(ticket.request, start, start + rows)
        except Exception as error:  # noqa: BLE001 - a failure of this request, of nobody else
            return without_frames(error)

    # In the scorer

    async def _prepare(self, batch: Batch, prepare: Prepare) -> None:
        started = self._clock()
        try:
            answers = await prepare_all(prepare, batch.requests)
        except asyncio.CancelledError as error:  # the loop is ending; its callers are told, not left
            answers = [without_frames(error)] * len(batch.requests)
        batch.prepare_seconds = self._clock() - started
        batch.state.prepare_seconds += 0.2 * (batch.prepare_seconds - batch.state.prepare_seconds)
        self._keep(batch, answers)
        batch.prepared = True
        self._advance(DispatchReason.GATHERED)

    def _keep(self, batch: Batch, answers: list[Any]) -> None:
        """Go on with the requests that are ready to be scored; fail the others, and drop whose caller left."""
        for ticket, answer in zip(batch.tickets, answers, strict=True):
            if isinstance(answer, Failure):
                self._fail(batch, ticket, answer)
        batch.keep(answers)

    def _score(self, batch: Batch) -> None:
        if batch.lane.prepare is not None:
            self._keep(batch, batch.requests)  # the scorer may have been busy for long since
        now = self._clock()
        self._scoring = batch
        batch.started_at = now
        batch.predicted_seconds = batch.state.model.seconds(batch.rows)
        work = partial(attempt, batch.lane.score, batch.requests)
        if not batch.tickets:
            batch.outcome = BatchOutcome.EMPTY
            self._finish(batch, [])
        elif batch.predicted_seconds < self._loop_seconds:
            batch.on_loop = True
            answer = work()
            self._scored(batch, answer, self._clock() - now)
        else:
            self._executor.submit(work, partial(self._scored, batch))

    def _scored(self, batch: Batch, answer: list[Any] | Failure, seconds: float) -> None:
        batch.score_seconds = seconds
        if isinstance(answer, list):
            self._learn(batch)
            self._finish(batch, answer)
        elif isinstance(answer.error, Miscount):
            batch.outcome = BatchOutcome.WRONG_LENGTH
            self._finish(batch, [answer] * len(batch.tickets))
        else:
            batch.outcome = BatchOutcome.TAKEN_APART
            self._take_apart(batch, answer)

    def _learn(self, batch: Batch) -> None:
        """Never from a failed batch, nor from the last pieces of a scorer that was replaced."""
        if not batch.on_loop:
            self._lanes.learn_handover(self._clock() - batch.started_at - batch.score_seconds)
        if batch.lane is batch.state.lane:
            self._lanes.learn(batch.state, batch.rows, batch.score_seconds)

    def _take_apart(self, batch: Batch, failure: Failure) -> None:
        if len(batch.requests) == 1:
            self._finish(batch, [failure])
            return
        batch.predicted_seconds *= 3  # so that those who arrive meanwhile know how long this may take
        work = partial(take_apart, batch.lane.score, batch.requests)
        self._executor.submit(work, partial(self._taken_apart, batch))

    def _taken_apart(self, batch: Batch, results: list[Any], seconds: float) -> None:
        batch.on_loop = False
        batch.score_seconds += seconds
        self._finish(batch, results)

    def _finish(self, batch: Batch, results: list[Any]) -> None:
        """The scorer is free: everybody gets an answer, and the scorer its next batch."""
        self._scoring = None
        self._lanes.charge(batch.state, predicted_seconds=batch.charged_seconds, score_seconds=batch.score_seconds)
        batch.state.tally.scored_rows += batch.rows
        for ticket, rows, result in zip(batch.tickets, batch.piece_rows, results, strict=True):
            self._deliver(batch, ticket, rows, result)
        if batch.on_loop or not batch.tickets:
            if self._lanes.anybody_waits():
                self._wake()
        else:
            self._advance(DispatchReason.GATHERED)
        self._report(batch)
        self._close_if_done()

    # Answers

    def _deliver(self, batch: Batch, ticket: Ticket, rows: int, result: Any) -> None:
        ticket.rows_scored += rows
        ticket.score_seconds += batch.score_seconds
        if rows < ticket.rows and not isinstance(result, Failure):
            ticket.pieces.append(result)
            if ticket.rows_scored < ticket.rows:
                return
            result = self._joined(batch, ticket)
        if isinstance(result, Failure):
            self._fail(batch, ticket, result)
        else:
            scored = Scored(result, ticket.queue_seconds, ticket.score_seconds, batch.rows, len(batch.tickets))
            self._settle(batch.state, ticket, scored)

    @staticmethod
    def _joined(batch: Batch, ticket: Ticket) -> Any:
        """The result of a request whose pieces are all scored, or a `Failure` of joining them."""
        try:
            return batch.lane.join(ticket.pieces)
        except Exception as error:  # noqa: BLE001 - a failure of this request, of nobody else
            return without_frames(error)

    def _fail(self, batch: Batch, ticket: Ticket, failure: Failure) -> None:
        batch.failed_requests += 1
        kind = WrongLength if isinstance(failure.error, Miscount) else ScoringFailed
        error = kind(batch.state.name, ticket.rows)
        error.__cause__ = failure.error
        error.add_note("".join(failure.story.format()))
        self._settle(batch.state, ticket, error)

    def _settle(self, state: LaneState, ticket: Ticket, answer: Scored[R] | BatchingError) -> None:
        """The one place that answers: whoever left, or has an answer, gets none, and nobody's rows stay behind."""
        if ticket.rows_left:
            state.line.leave(ticket)
        if not ticket.future.done():
            ticket.answer = answer
            ticket.future.set_result(None)

    def _end(self, state: LaneState, outcome: Outcome) -> None:
        """Count how a request ended, at the moment when its caller learns it."""
        state.tally.outcomes[outcome] += 1
        if not self._accepting:
            self._close_if_done()

    def _close_if_done(self) -> None:
        if self._accepting or self._closed.is_set() or not self._idle():
            return
        if any(state.tally.pending for state in self._lanes):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._executor.close()
        self._closed.set()

    # Windows

    def _report(self, batch: Batch) -> None:
        if self._observer is None:
            return
        try:
            self._observer(batch.report())
        except Exception:  # noqa: BLE001 - whoever watches must not disturb
            self._observer_errors += 1
            if self._observer_errors == 1:
                _log.exception("the observer of batches raised; further errors of it are only counted")

    def _lane_stats(self, state: LaneState, now: float) -> LaneStats:
        self._lanes.look(state, now)
        in_flight = [batch for batch in (self._scoring, self._ahead) if batch is not None and batch.state is state]
        full_seconds = state.model.seconds(state.line.limit_rows)
        handover_seconds = self._lanes.handover_seconds if full_seconds >= self._loop_seconds else 0.0
        return LaneStats(
            waiting_rows=state.line.rows,
            waiting_requests=len(state.line),
            waiting_by_class=state.line.requests_by_class(),
            in_flight_rows=sum(batch.rows for batch in in_flight),
            in_flight_requests=sum(len(batch.tickets) for batch in in_flight),
            pending=state.tally.pending,
            offered=state.tally.offered,
            offered_rows=state.tally.offered_rows,
            scored_rows=state.tally.scored_rows,
            outcomes=dict(state.tally.outcomes),
            shed=dict(state.tally.shed),
            overloaded=state.flag.on,
            limit_rows=state.line.limit_rows,
            fixed_seconds=state.model.cost.fixed_seconds,
            row_seconds=state.model.cost.row_seconds,
            scale=state.model.scale,
            spread=state.model.spread,
            capacity_rows_per_second=state.line.limit_rows / (full_seconds + handover_seconds),
        )
