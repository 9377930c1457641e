"""One variant's ranker: candidates in, their order out."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.processing import Rules
from app.rows import RowMaker, Rows
from app.schemas import RankedActivity, RankRequest, candidate_ids
from batching import Batcher, Priority, Scored, Ticket
from registry import Model
from scoring.catalog import load_catalog


class Work(NamedTuple):
    """What waits in the batcher: the part of a request that is scored, and its rows as `maker` made them."""

    context: Any
    candidates: Sequence[Any]
    maker: RowMaker
    rows: Rows


class Scores(NamedTuple):
    """What comes back: one score a candidate, in their order, and the model that gave them."""

    model: Model
    values: NDArray[np.float64]


class Ranking(NamedTuple):
    """`activities` in their final order; `score_seconds` is the time of the batch that the request was scored in."""

    model: Model
    activities: list[RankedActivity]
    queue_seconds: float
    score_seconds: float
    rows: int


class Scorer:
    """A model with its activities, as the batcher wants it: `score` runs in the scoring thread, a batch at a time.

    Rows are made before that, on the event loop, so that the two threads seldom want the interpreter at once.
    """

    def __init__(self, model: Model, maker: RowMaker, *, budget_bytes: int) -> None:
        self.model = model
        self._maker = maker
        self.catalog = load_catalog(model.engine, maker.activities, maker.context_columns, budget_bytes=budget_bytes)

    def work(self, context: Any, candidates: Sequence[Any]) -> Work:
        return Work(context, candidates, self._maker, self._maker.rows(context, candidates))

    def score(self, batch: Sequence[Work]) -> Sequence[Scores]:
        made = [self._rows(work) for work in batch]
        offsets = [0, *accumulate(len(rows.items) for rows in made)]
        contexts = np.array([rows.context for rows in made], np.float64)
        values = self.catalog.score(contexts, np.array(offsets), _joined_items(made), _joined_own(made))
        return [Scores(self.model, values[start:stop]) for start, stop in pairwise(offsets)]

    def _rows(self, work: Work) -> Rows:
        """The work's rows, made again if it waited for a model that was replaced."""
        return work.rows if work.maker is self._maker else self._maker.rows(work.context, work.candidates)

    @staticmethod
    def split(work: Work, start: int, stop: int) -> Work:
        return work._replace(candidates=work.candidates[start:stop], rows=work.rows.part(start, stop))

    @staticmethod
    def join(pieces: Sequence[Scores]) -> Scores:
        return Scores(pieces[0].model, np.concatenate([piece.values for piece in pieces]))


def _joined_items(made: Sequence[Rows]) -> NDArray[np.int64]:
    items: list[int] = []
    first = 0
    for rows in made:
        items += [item - first if item < 0 else item for item in rows.items] if first else rows.items
        first += len(rows.own)
    return np.array(items, np.int64)


def _joined_own(made: Sequence[Rows]) -> NDArray[np.float64]:
    own = [rows.own for rows in made if len(rows.own)]
    if len(own) > 1:
        return np.concatenate(own)
    return own[0] if own else made[0].own


class Ranker:
    """Ranks for one variant, through its lane of the batcher."""

    def __init__(self, variant: str, batcher: Batcher[Work, Scores], scorer: Scorer, rules: Rules) -> None:
        self._variant = variant
        self._batcher = batcher
        self._scorer = scorer
        self._rules = rules

    def select(self, request: RankRequest) -> list[Any]:
        """The candidates that are to be scored."""
        return self._rules.select(request) if self._rules.selects else request.candidates

    def work(self, request: RankRequest, candidates: list[Any]) -> Work:
        """The candidates' rows: what `enter` takes."""
        return self._scorer.work(request.context, candidates)

    def enter(self, work: Work, *, due_at: float, priority: Priority) -> Ticket:
        """Stand in line with at least one candidate. Raises the batcher's refusals."""
        return self._batcher.enter(self._variant, work, rows=len(work.candidates), due_at=due_at, priority=priority)

    @staticmethod
    def empty(model: Model) -> Ranking:
        """The order of no candidates, which needs no scoring."""
        return Ranking(model, [], 0.0, 0.0, 0)

    def ranking(self, request: RankRequest, candidates: list[Any], scored: Scored[Scores]) -> Ranking:
        """The order of the candidates by what became of their ticket."""
        model, values = scored.result
        order = self._order(request, candidates, values)
        return Ranking(model, order, scored.queue_seconds, scored.score_seconds, len(candidates))

    def _order(
        self, request: RankRequest, candidates: Sequence[Any], scores: NDArray[np.float64]
    ) -> list[RankedActivity]:
        order = (-scores).argsort(kind="stable")  # stable: ties keep the order of the request
        if self._rules.arranges:
            arranged = self._rules.arrange(request, candidates, order.tolist(), scores.tolist())[: request.top_k]
            return [RankedActivity(activity, score, place) for place, (activity, score) in enumerate(arranged, 1)]
        ids, values = candidate_ids(candidates), scores.tolist()
        best = order[: request.top_k].tolist()
        return [RankedActivity(ids[position], values[position], place) for place, position in enumerate(best, 1)]
