"""What the batcher tells: the answer to a caller, the report of a batch, and the state of it all."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

R = TypeVar("R")


@dataclass(slots=True)
class Scored(Generic[R]):
    """A result and how it came about.

    queue_seconds: from admission until its (first) batch began, without any preparation.
    score_seconds, batch_rows, batch_requests: those of the batch that it shared; of an oversize request the sum of
        its batches' seconds, and the rows and requests of the last one.
    """

    result: R
    queue_seconds: float
    score_seconds: float
    batch_rows: int
    batch_requests: int


class Outcome(StrEnum):
    """How a request ended: exactly one of these for each that was offered."""

    OK = "ok"
    SHED = "shed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    ERROR = "error"


class DispatchReason(StrEnum):
    """Why a batch was cut where it was."""

    IDLE = "idle"  # the scorer was idle: it took what was there
    FULL = "full"  # no more rows fit
    GATHERED = "gathered"  # the scorer became free and took all that had gathered
    DEADLINE = "deadline"  # one more would have made a member late


class BatchOutcome(StrEnum):
    OK = "ok"
    TAKEN_APART = "taken_apart"  # it failed as a whole; each request then got its own result or error
    WRONG_LENGTH = "wrong_length"
    EMPTY = "empty"  # nobody was left to score it for


class BatchReport(NamedTuple):
    """One batch, given to the observer when its callers have their answers.

    queue_seconds: the wait of each request (oversize requests: of this piece) before the batch was cut.
    prepare_seconds, score_seconds: 0 for what did not happen; taking apart counts as scoring.
    """

    lane: str
    rows: int
    requests: int
    reason: DispatchReason
    outcome: BatchOutcome
    failed_requests: int
    on_loop: bool
    queue_seconds: tuple[float, ...]
    prepare_seconds: float
    score_seconds: float


class Tally:
    """Counts of one lane since the start. What is offered and has no outcome yet is pending."""

    __slots__ = ("offered", "offered_rows", "outcomes", "scored_rows", "shed")

    def __init__(self) -> None:
        self.offered = 0
        self.offered_rows = 0
        self.scored_rows = 0
        self.outcomes = dict.fromkeys(Outcome, 0)
        self.shed: Counter[str] = Counter()

    @property
    def pending(self) -> int:
        return self.offered - sum(self.outcomes.values())


@dataclass(frozen=True, slots=True)
class LaneStats:
    """One lane now. Counts are since the start; `offered == pending + sum(outcomes.values())`, always.

    waiting_by_class: requests that wait, by `Priority`.
    limit_rows: the most rows of a batch.
    scored_rows: rows of answered batches, failed ones and those of callers that had left included.
    fixed_seconds, row_seconds: the measured cost of a batch; scale, spread: what was learned since (m, v).
    capacity_rows_per_second: what this lane could score with the scorer to itself, at the present scale.
    """

    waiting_rows: int
    waiting_requests: int
    waiting_by_class: tuple[int, ...]
    in_flight_rows: int
    in_flight_requests: int
    pending: int
    offered: int
    offered_rows: int
    scored_rows: int
    outcomes: Mapping[Outcome, int]
    shed: Mapping[str, int]
    overloaded: bool
    limit_rows: int
    fixed_seconds: float
    row_seconds: float
    scale: float
    spread: float
    capacity_rows_per_second: float


@dataclass(frozen=True, slots=True)
class Stats:
    """The batcher now.

    handover_seconds: what a batch costs beside its scoring: to the thread, back, and until the loop looks.
    loop_seconds: batches predicted to take less are scored on the event loop itself; 0 when none are.
    drain_seconds: when all that is admitted will be scored, as predicted.
    """

    lanes: Mapping[str, LaneStats]
    accepting: bool
    handover_seconds: float
    loop_seconds: float
    drain_seconds: float
    observer_errors: int
