"""The lanes that share one scorer: who waits, what it will cost, who is admitted, and whose turn it is.

State without a clock, task or I/O: time is passed in. What it decides, `batcher` does.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from batching import policy
from batching.errors import DeadlineOutOfReach
from batching.policy import Cost, CostModel, Limits, OverloadFlag, Priority, Refusal
from batching.report import Tally
from batching.waiting import Cut, Ticket, WaitingLine, cut

P = TypeVar("P")
R = TypeVar("R")

# Batches are sized again when rows have become so many times dearer or cheaper: seldom, and never to and fro.
RESIZING = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class Lane(Generic[P, R]):
    """One scorer and what a batch of it costs. A batch is scored by exactly one lane object.

    score: one result for each request, in their order. Runs in the scoring thread, or on the loop when that is
        cheaper. What it gives for a request must not depend on the others in the batch.
    split, join: for requests of more rows than a batch: rows start to stop (exclusive) as a request of its own, and
        the results of such pieces, in order, as one result.
    prepare: awaited for a whole batch, beside the scoring of the batch before it; `score` then gets what it returns,
        one for each request. It has to bound its own time.
    """

    score: Callable[[Sequence[Any]], Sequence[R]]
    split: Callable[[P, int, int], P]
    join: Callable[[Sequence[R]], R]
    cost: Cost
    prepare: Callable[[Sequence[P]], Awaitable[Sequence[Any]]] | None = None


class LaneState:
    """A lane's name, its present scorer, who waits for it, and what is known about it."""

    __slots__ = (
        "flag",
        "lane",
        "line",
        "model",
        "name",
        "prepare_seconds",
        "served_seconds",
        "sized_at_scale",
        "tally",
    )

    def __init__(self, name: str, lane: Lane[Any, Any]) -> None:
        self.name = name
        self.line = WaitingLine()
        self.flag = OverloadFlag()
        self.tally = Tally()
        self.served_seconds = 0.0
        self.prepare_seconds = 0.0
        self.lane = lane
        self.model = CostModel(lane.cost)

    def put(self, lane: Lane[Any, Any]) -> None:
        """Use another scorer from now on. What was learned of the old one's cost is forgotten.

        How much costs spread is kept, and what preparing takes: the machine and the store are the same, and who guesses
        with too much certainty promises too much.
        """
        self.lane = lane
        self.model = CostModel(lane.cost, self.model.spread)
        if lane.prepare is None:
            self.prepare_seconds = 0.0

    def size(self, limits: Limits, handover_seconds: float) -> None:
        """Make batches as large as pays at the present scale of the cost."""
        self.sized_at_scale = self.model.scale
        self.line.resize(limits.batch_rows(self.model.now, handover_seconds))

    @property
    def is_sized(self) -> bool:
        """Whether the scale is still about what it was when batches were sized."""
        return 1 / RESIZING < self.model.scale / self.sized_at_scale < RESIZING


class Lanes:
    """All lanes, and the arithmetic between them.

    handover_seconds: what a batch costs beside its scoring: to the thread, back, and until the loop looks.
    full_batch_seconds: the longest that a batch of any lane will take, as predicted.
    """

    def __init__(self, lanes: Mapping[str, Lane[Any, Any]], limits: Limits) -> None:
        self.by_name = {name: LaneState(name, lane) for name, lane in lanes.items()}
        self._states = tuple(self.by_name.values())
        self.limits = limits
        self.handover_seconds = 0.0
        self.full_batch_seconds = 0.0
        self._measured_handover_seconds = 0.0
        self._served_seconds = 0.0

    def __iter__(self) -> Iterator[LaneState]:
        return iter(self._states)

    def open(self, handover_seconds: float) -> None:
        """Size the batches by what a hand-over costs."""
        self.handover_seconds = self._measured_handover_seconds = handover_seconds
        for state in self:
            self.put(state, state.lane)

    def put(self, state: LaneState, lane: Lane[Any, Any]) -> None:
        state.put(lane)
        state.size(self.limits, self._measured_handover_seconds)
        self._predict_full_batch()

    def anybody_waits(self) -> bool:
        for state in self._states:  # noqa: SIM110 half the time of any(), at each arrival
            if state.line.rows:
                return True
        return False

    # What it will cost

    def work_seconds(self, state: LaneState, rows: int) -> float:
        """To score so many rows of a lane, as predicted."""
        batches = policy.batch_count(rows, state.line.limit_rows)
        return state.model.seconds(rows, batches) + batches * self.handover_seconds

    def waiting_seconds(self) -> float:
        """To score all that waits, as predicted."""
        return sum(self.work_seconds(state, state.line.rows) for state in self)

    def _predict_full_batch(self) -> None:
        self.full_batch_seconds = max([self.work_seconds(state, state.line.limit_rows) for state in self._states])

    def finish_seconds(self, state: LaneState, rows: int, busy_seconds: float) -> float:
        """From now until `rows` more rows of a lane would be scored, as predicted.

        Each piece of an oversize request waits for a turn of all others. Under overload later arrivals fill every batch
        before it starts, the last one, too. Another lane takes no more of the scorer's time than this one, and no more
        than it has work for.
        """
        limit_rows = state.line.limit_rows
        rows += state.line.turn_rows * policy.batch_count(rows, limit_rows)
        if state.flag.on:
            rows = limit_rows * policy.batch_count(rows, limit_rows)
        own = self.work_seconds(state, rows) + state.prepare_seconds
        others = 0.0
        for other in self._states:
            if other is not state and other.line.rows:
                others += min(own, self.work_seconds(other, other.line.rows))
        return busy_seconds + own + others + policy.margin_seconds(state.model, rows, limit_rows)

    # Who is admitted

    def refusal(
        self, state: LaneState, priority: Priority, rows: int, *, left_seconds: float, busy_seconds: float, now: float
    ) -> Refusal | None:
        """Why a request that finds the scorer busy is not admitted, or None when it is."""
        self.look(state, now)
        if self._is_roomy(state, rows, left_seconds - busy_seconds):
            return None
        refusal = policy.refusal(
            rows=rows,
            waiting_rows=state.line.rows,
            limit_rows=state.line.limit_rows,
            room_rows=state.line.limit_rows * self.limits.max_waiting_batches,
            finish_seconds=self.finish_seconds(state, rows, busy_seconds),
            left_seconds=left_seconds,
            budget_seconds=policy.budget_seconds(
                priority,
                overloaded=state.flag.on,
                full_batch_seconds=self.full_batch_seconds,
                max_wait_seconds=self.limits.max_wait_seconds,
            ),
        )
        if refusal is not None and refusal.error is not DeadlineOutOfReach:
            state.flag.saw_refusal()  # A deadline nobody could hold says nothing about the load.
        return refusal

    def _is_roomy(self, state: LaneState, rows: int, left_seconds: float) -> bool:
        """Whether it is plain that nothing below refuses: all that waits fits one batch, and its deadline is far.

        Then `finish_seconds` is at most a turn of each lane and the margin, which is no more than 1.65 * sqrt(2) of a
        batch. Most requests of a busy service need no more than this look.
        """
        turn_seconds = self.full_batch_seconds + state.prepare_seconds
        return (
            state.line.rows + rows <= state.line.limit_rows
            and (len(self._states) + policy.MOST_MARGIN_BATCHES) * turn_seconds < left_seconds
        )

    def join(self, state: LaneState, ticket: Ticket) -> None:
        if not state.line.rows:
            # Who was away gets no credit for it: it shares the scorer from now on.
            state.served_seconds = max(state.served_seconds, self._served_seconds)
        state.line.join(ticket)

    def look(self, state: LaneState, now: float) -> None:
        """Bring a lane's overload flag up to date."""
        if now >= state.flag.due_at:
            state.flag.look(
                now,
                threshold_seconds=policy.overload_threshold_seconds(self.full_batch_seconds),
                head_wait_seconds=state.line.longest_wait_seconds(now),
            )

    # Whose turn it is

    def next(self) -> LaneState | None:
        """The lane with the highest class waiting, and of equals the one that had the least scoring time.

        Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) with equal shares.
        """
        waiting = [state for state in self._states if state.line.rows]
        if len(waiting) < 2:
            return waiting[0] if waiting else None
        return min(waiting, key=lambda state: (state.line.head_priority(), state.served_seconds))

    def cut(self, state: LaneState, now: float) -> Cut:
        """Take the next batch of a lane out of its line. It may be empty, when all that waited is gone or expired."""
        self.look(state, now)
        head_wait_seconds = state.line.longest_wait_seconds(now)
        taken = cut(state.line, state.lane, state.model, now)
        if taken.tickets:
            state.flag.saw_dispatch(head_wait_seconds)
            self._served_seconds = state.served_seconds
            state.served_seconds += state.model.seconds(taken.rows)
        return taken

    # What is learned

    def charge(self, state: LaneState, *, predicted_seconds: float, score_seconds: float) -> None:
        """Charge a lane what its batch really took instead of what `cut` charged."""
        state.served_seconds += score_seconds - predicted_seconds

    def learn(self, state: LaneState, rows: int, seconds: float) -> None:
        state.model.learn(rows, seconds)
        if not state.is_sized:
            state.size(self.limits, self._measured_handover_seconds)
        self._predict_full_batch()

    def learn_handover(self, seconds: float) -> None:
        known = self.handover_seconds
        self.handover_seconds += 0.2 * (min(max(seconds, known / 2), 2 * known) - known)
        self._predict_full_batch()
