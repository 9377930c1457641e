"""What the batcher decides, as arithmetic: no clock, task or I/O; time is passed in.

Requests gather only while the scorer is busy, so the wait of a new request is known before it is admitted: it is the
work in flight and the work in line. Whoever cannot be served in time is refused at the door ("predicted finish with two
budgets"). The scheme stands near Bouncer (SIGMOD 2024: admit by estimated response time) with the overload flag of
CoDel (Nichols and Jacobson, ACM Queue 2012: a *least* wait that stays high is a standing queue, not a burst).
"""

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from batching.errors import DeadlineOutOfReach, Overloaded, QueueFull, Shed


class Priority(IntEnum):
    """Classes of requests. Lower goes first, and under overload may wait longer before it is refused."""

    CRITICAL = 0
    NORMAL = 1
    SHEDDABLE = 2


@dataclass(frozen=True, slots=True)
class Cost:
    """What a batch costs: `fixed_seconds + rows * row_seconds`, as measured before the scorer goes live."""

    fixed_seconds: float
    row_seconds: float

    def __post_init__(self) -> None:
        if not (0.0 < self.fixed_seconds < math.inf and 0.0 < self.row_seconds < math.inf):
            raise ValueError(
                f"costs are positive and finite, not {self.fixed_seconds} s and {self.row_seconds} s a row"
            )

    def seconds(self, rows: int, batches: int = 1) -> float:
        return batches * self.fixed_seconds + rows * self.row_seconds


@dataclass(frozen=True, slots=True)
class Limits:
    """What an operator sets. Times in seconds.

    max_batch_rows: no batch is larger.
    max_batch_seconds: no batch should hold the scorer longer, so that a small request never waits behind a huge batch.
    fixed_share: more rows than make the fixed part this small a share of a batch are not worth their wait.
    max_wait_seconds: nobody is admitted whose predicted finish is further away.
    max_waiting_batches: no more rows wait in one lane than fill so many batches.
    max_loop_seconds: no batch that should take longer is scored on the event loop itself.
    """

    max_batch_rows: int = 4096
    max_batch_seconds: float = 0.005
    fixed_share: float = 0.02
    max_wait_seconds: float = 0.04
    max_waiting_batches: int = 20
    max_loop_seconds: float = 0.002

    def __post_init__(self) -> None:
        if self.max_batch_rows < 1 or self.max_waiting_batches < 1:
            raise ValueError(
                f"{self.max_batch_rows} rows and {self.max_waiting_batches} batches: both must be at least 1"
            )
        if not 0.0 < self.fixed_share < 1.0:
            raise ValueError(f"fixed_share is between 0 and 1, not {self.fixed_share}")
        if self.max_batch_seconds <= 0.0 or self.max_wait_seconds <= 0.0 or self.max_loop_seconds < 0.0:
            raise ValueError("times are positive")

    def batch_rows(self, cost: Cost, handover_seconds: float) -> int:
        """The most rows of a batch with this cost: enough to make the fixed part small, few enough to finish soon.

        When even the fixed part takes long, the rows are still as many as make it no more than half of a batch:
        smaller batches would cost throughput and hardly be sooner.
        """
        fixed = cost.fixed_seconds + handover_seconds
        enough = fixed * (1.0 - self.fixed_share) / (self.fixed_share * cost.row_seconds)
        soon = (self.max_batch_seconds - cost.fixed_seconds) / cost.row_seconds
        half = fixed / cost.row_seconds
        return int(max(1.0, min(self.max_batch_rows, max(half, min(enough, soon)))))


# A hand-over is measured while nothing else runs. On a busy loop each of its two switches of threads waits for the
# interpreter as well, and both threads lose their caches: batches of a millisecond cost a third less of the processor
# where they are scored on the loop (docs/performance.md), as if a hand-over cost about so many times as much.
BUSY_HANDOVERS = 30


# Rows of one lane may differ: a candidate that brings its features costs a dozen times what a known one costs, which is
# what is measured; on a machine at half its speed, two dozen times.
LEAST_SCALE, MOST_SCALE = 0.05, 100.0


class CostModel:
    """The measured cost, kept true by one learned scalar and its spread.

    Only the scale m is learned: fitting both parts while serving goes wrong, because batches of one size carry no
    slope, and refusing starves the fit until it never recovers.
    """

    __slots__ = ("cost", "scale", "spread")

    def __init__(self, cost: Cost, spread: float = 0.15) -> None:
        self.cost = cost
        self.scale = 1.0
        self.spread = spread

    @property
    def now(self) -> Cost:
        """The cost at the present scale."""
        return Cost(self.scale * self.cost.fixed_seconds, self.scale * self.cost.row_seconds)

    def seconds(self, rows: int, batches: int = 1) -> float:
        cost = self.cost  # its own `seconds`, without a call: every admission asks several times
        return self.scale * (batches * cost.fixed_seconds + rows * cost.row_seconds)

    def learn(self, rows: int, seconds: float) -> None:
        """Take in one batch that was scored without failing."""
        m = self.scale
        ratio = min(max(seconds / self.cost.seconds(rows), m / 2), 2 * m)
        self.spread = min(max(self.spread + 0.1 * (1.25 * abs(ratio / m - 1) - self.spread), 0.02), 1.0)
        self.scale = min(max(m + 0.2 * (ratio - m), LEAST_SCALE), MOST_SCALE)


class OverloadFlag:
    """Is a lane offered more than can be scored? Looked at every 25 ms, when something happens.

    On when even the least wait of a head of line was long; stays on while its budgets still refuse.
    """

    __slots__ = ("_least_wait", "_refused", "due_at", "on")

    INTERVAL_SECONDS = 0.025

    def __init__(self) -> None:
        self.on = False
        self.due_at = -math.inf
        self._least_wait = math.inf
        self._refused = False

    def saw_dispatch(self, head_wait_seconds: float) -> None:
        self._least_wait = min(self._least_wait, head_wait_seconds)

    def saw_refusal(self) -> None:
        self._refused = True

    def look(self, now: float, *, threshold_seconds: float, head_wait_seconds: float) -> None:
        """End an interval that is over. `head_wait_seconds` is the wait of who is first in line now, or 0."""
        silent = now >= self.due_at + self.INTERVAL_SECONDS
        least_wait = head_wait_seconds if silent or self._least_wait == math.inf else self._least_wait
        self.on = least_wait > threshold_seconds or (self.on and self._refused and not silent)
        self.due_at = now + self.INTERVAL_SECONDS
        self._least_wait = math.inf
        self._refused = False


def batch_count(rows: int, limit_rows: int) -> int:
    return -(-rows // limit_rows)


MOST_MARGIN_BATCHES = 2.4  # of a spread of 1 and rows that fit one batch


def margin_seconds(model: CostModel, rows: int, limit_rows: int) -> float:
    """What to add to a predicted finish so that about 19 of 20 come sooner: 1.65 sigma of a sum of batches."""
    return 1.65 * model.spread * model.seconds(min(rows, limit_rows)) * math.sqrt(batch_count(rows, limit_rows) + 1)


def budget_seconds(
    priority: Priority, *, overloaded: bool, full_batch_seconds: float, max_wait_seconds: float
) -> float:
    """How far away the predicted finish of a request may be, whatever its own deadline."""
    if not overloaded:
        return max_wait_seconds
    return max(0.010, 5 * full_batch_seconds, 0.75 * max_wait_seconds) * (1.0, 0.75, 0.5)[priority]


def overload_threshold_seconds(full_batch_seconds: float) -> float:
    """A head of line that waits longer than this at every dispatch stands in a queue that does not go away."""
    return max(0.005, 1.5 * full_batch_seconds)


class Refusal(NamedTuple):
    error: type[Shed]
    needed: float
    allowed: float


def refusal(
    *,
    rows: int,
    waiting_rows: int,
    limit_rows: int,
    room_rows: int,
    finish_seconds: float,
    left_seconds: float,
    budget_seconds: float,
) -> Refusal | None:
    """Why a request that finds the scorer busy is not admitted, or None when it is.

    One batch may always gather, whatever the budget: so the cost model is fed even if it is far off.
    """
    if waiting_rows + rows > room_rows:
        return Refusal(QueueFull, waiting_rows + rows, room_rows)
    if finish_seconds > budget_seconds and waiting_rows + rows > limit_rows:
        return Refusal(Overloaded, finish_seconds, budget_seconds)
    if finish_seconds > left_seconds:
        return Refusal(DeadlineOutOfReach, finish_seconds, left_seconds)
    return None
