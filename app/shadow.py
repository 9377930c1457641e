"""Shadow mode: the model of the other variant scores what it does not answer, to see how alike the two rank."""

import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.ranking import Scorer, Scores, Work
from app.traffic_metrics import TrafficMetrics
from batching import Batcher, BatchingError, Priority, Ticket
from monitoring.order import agreement

Floats = NDArray[np.float64]


class Shadow:
    """Follows a share of the answered rankings. It stands in line behind everybody: under load it is refused first."""

    def __init__(
        self,
        batcher: Batcher[Work, Scores],
        metrics: TrafficMetrics,
        *,
        share: float,
        timeout_seconds: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._batcher = batcher
        self._metrics = metrics
        self._share = share
        self._timeout_seconds = timeout_seconds
        self._clock = clock

    def follow(self, variant: str, scorer: Scorer, answered: Work, scores: Floats) -> None:
        """Have `variant`, which did not answer, score the same candidates, and compare with the `scores` given."""
        if random.random() >= self._share:  # noqa: S311 a sample, not a secret
            return
        work = scorer.work(answered.context, answered.candidates, answered.lookup.visitor)
        due_at = self._clock() + self._timeout_seconds
        try:
            ticket = self._batcher.enter(
                variant, work, rows=len(work.candidates), due_at=due_at, priority=Priority.SHEDDABLE
            )
        except BatchingError:
            self._metrics.shadow_refused.inc()
            return
        ticket.future.add_done_callback(partial(self._compare, ticket, scores))

    def _compare(self, ticket: Ticket, served: Floats, future: Any) -> None:
        try:
            shadow = self._batcher.learn(ticket).result.values
        except Exception:  # noqa: BLE001 nobody waits for it, and the model's own rankings say what is wrong
            self._metrics.shadow_refused.inc()
            return
        self._metrics.agrees(agreement(served, shadow))
