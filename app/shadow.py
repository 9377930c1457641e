"""Shadow mode: the model of the other variant scores what it does not answer, to see how alike the two rank."""

import asyncio
import random
from collections import deque
from functools import partial
from time import perf_counter
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.ranking import Scorer, Scores, Work
from app.traffic_metrics import TrafficMetrics
from batching import Batcher, BatchingError, Priority, Ticket
from monitoring.order import agreements

Floats = NDArray[np.float64]

GATHERING_SECONDS: Final = 0.01
TURN_ROWS: Final = 256  # a turn's work holds the loop up, for some 0.1 ms with so many
MOST_WAITING_ROWS: Final = 2 * TURN_ROWS  # what waits long is compared with another history of its visitor
BUSY_SHARE: Final = 0.002  # so two rankings in a thousand come while a turn is under way: the p99 is not theirs


class Followed(NamedTuple):
    """A ranking that was answered, the scores that answered it, and what will score it once more."""

    variant: str
    scorer: Scorer
    work: Work
    scores: Floats


class Shadow:
    """Follows a share of the answered rankings. It stands in line behind everybody: under load it is refused first.

    Rankings gather, and take turns: those of a turn are scored and compared together, which costs a third of what they
    cost one by one. Between turns it rests, so that a turn is under way for `BUSY_SHARE` of the time at most, whatever
    share of the rankings it is to follow: as a turn lasts longer on a busy service, it takes fewer there.
    """

    def __init__(
        self, batcher: Batcher[Work, Scores], metrics: TrafficMetrics, *, share: float, timeout_seconds: float
    ) -> None:
        self._batcher = batcher
        self._metrics = metrics
        self._share = share
        self._timeout_seconds = timeout_seconds
        self._waiting: deque[Followed] = deque()
        self._waiting_rows = 0
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False

    def follow(self, variant: str, scorer: Scorer, answered: Work, scores: Floats) -> None:
        """Have `variant`, which did not answer, score the same candidates soon, and compare with the `scores` given."""
        if random.random() >= self._share:  # noqa: S311 a sample, not a secret
            return
        if self._waiting_rows >= MOST_WAITING_ROWS:
            self._metrics.shadow_refused.inc()
            return
        self._waiting.append(Followed(variant, scorer, answered, scores))
        self._waiting_rows += len(scores)
        if not self._busy:
            self._busy = True
            self._turn_after(GATHERING_SECONDS)

    def stop(self) -> None:
        """Follow nobody any more."""
        self._share = 0
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _turn_after(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._turn)

    def _turn(self) -> None:
        """Have the next ones scored. Where one is refused, so would be those behind it."""
        if not self._waiting:
            self._busy = False
            return
        self._turn_began = perf_counter()
        entered: list[tuple[Ticket, Floats]] = []
        taken = self._take()
        for number, one in enumerate(taken):
            try:
                entered.append((self._enter(one), one.scores))
            except BatchingError:
                self._metrics.shadow_refused.inc(len(taken) - number)
                break
        self._left = len(entered)
        for ticket, _ in entered:
            ticket.future.add_done_callback(partial(self._scored, entered))
        if not entered:
            self._over()

    def _take(self) -> list[Followed]:
        taken: list[Followed] = []
        rows = 0
        while self._waiting and rows < TURN_ROWS:
            taken.append(self._waiting.popleft())
            rows += len(taken[-1].scores)
        self._waiting_rows -= rows
        return taken

    def _enter(self, one: Followed) -> Ticket:
        work = one.scorer.work(one.work.context, one.work.candidates, one.work.lookup.visitor)
        due_at = perf_counter() + self._timeout_seconds
        return self._batcher.enter(
            one.variant, work, rows=len(work.candidates), due_at=due_at, priority=Priority.SHEDDABLE
        )

    def _scored(self, entered: list[tuple[Ticket, Floats]], _: "asyncio.Future[Any]") -> None:
        self._left -= 1
        if not self._left:
            self._compare(entered)
            self._over()

    def _compare(self, entered: list[tuple[Ticket, Floats]]) -> None:
        pairs: list[tuple[Floats, Floats]] = []
        for ticket, scores in entered:
            try:
                pairs.append((scores, self._batcher.learn(ticket).result.values))
            except Exception:  # noqa: BLE001 nobody waits for it, and the model's own rankings say what is wrong
                self._metrics.shadow_refused.inc()
        if pairs:
            self._metrics.agree(agreements(*zip(*pairs, strict=True)))

    def _over(self) -> None:
        """Rest, in proportion to how long the turn was under way."""
        taken = perf_counter() - self._turn_began
        self._turn_after(taken * (1 / BUSY_SHARE - 1))
