"""One variant's ranker: candidates in, their order out."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.processing import Rules
from app.rows import RowMaker
from app.schemas import RankedActivity, RankRequest, candidate_id
from batching import Batcher, Priority
from registry import Model


class Work(NamedTuple):
    """What waits in the batcher: the part of a request that becomes rows."""

    context: Any
    candidates: Sequence[Any]


class Scores(NamedTuple):
    """What comes back: one score a candidate, in their order, and the model that gave them."""

    model: Model
    values: NDArray[np.float64]
    unknown_candidates: list[str]
    unseen: dict[str, int]
    features_seconds: float


class Ranking(NamedTuple):
    """`activities` in their final order; the times are those of the batch that the request was scored in."""

    model: Model
    activities: list[RankedActivity]
    unknown_candidates: list[str]
    unseen: dict[str, int]
    queue_seconds: float
    features_seconds: float
    score_seconds: float
    rows: int


class Scorer:
    """A model with its rows, as the batcher wants it: `score` runs in the scoring thread, a batch at a time."""

    def __init__(self, model: Model, row_maker: RowMaker) -> None:
        self.model = model
        self._row_maker = row_maker

    def score(self, batch: Sequence[Work]) -> Sequence[Scores]:
        started = time.perf_counter()
        made = [self._row_maker.rows(work.context, work.candidates) for work in batch]
        values = made[0].values if len(made) == 1 else np.concatenate([rows.values for rows in made])
        features_seconds = time.perf_counter() - started
        scores = self.model.engine.score(values)
        answers, start = [], 0
        for rows in made:
            stop = start + len(rows.values)
            answers.append(
                Scores(self.model, scores[start:stop], rows.unknown_candidates, rows.unseen, features_seconds)
            )
            start = stop
        return answers

    @staticmethod
    def split(work: Work, start: int, stop: int) -> Work:
        return Work(work.context, work.candidates[start:stop])

    @staticmethod
    def join(pieces: Sequence[Scores]) -> Scores:
        unseen: dict[str, int] = {}
        for piece in pieces:
            for name, count in piece.unseen.items():
                unseen[name] = unseen.get(name, 0) + count
        return Scores(
            pieces[0].model,
            np.concatenate([piece.values for piece in pieces]),
            [activity for piece in pieces for activity in piece.unknown_candidates],
            unseen,
            sum(piece.features_seconds for piece in pieces),
        )


class Ranker:
    """Ranks for one variant, through its lane of the batcher."""

    def __init__(self, variant: str, batcher: Batcher[Work, Scores], rules: Rules) -> None:
        self._variant = variant
        self._batcher = batcher
        self._rules = rules

    async def rank(self, request: RankRequest, *, model: Model, due_at: float, priority: Priority) -> Ranking:
        """Rank the request's candidates. `model` names the answer to an empty list, which needs no scoring.

        Raises the batcher's refusals: `Shed`, `Expired`, `ScoringFailed`.
        """
        candidates = self._rules.select(request) if self._rules.selects else request.candidates
        if not candidates:
            return Ranking(model, [], [], {}, 0.0, 0.0, 0.0, 0)
        work = Work(request.context, candidates)
        scored = await self._batcher.submit(self._variant, work, rows=len(candidates), due_at=due_at, priority=priority)
        scores = scored.result
        return Ranking(
            scores.model,
            self._order(request, candidates, scores.values),
            scores.unknown_candidates,
            scores.unseen,
            scored.queue_seconds,
            scores.features_seconds,
            scored.score_seconds - scores.features_seconds,
            len(candidates),
        )

    def _order(
        self, request: RankRequest, candidates: Sequence[Any], scores: NDArray[np.float64]
    ) -> list[RankedActivity]:
        order = np.argsort(-scores, kind="stable")  # stable: ties keep the order of the request
        if self._rules.arranges:
            arranged = self._rules.arrange(request, candidates, order.tolist(), scores.tolist())[: request.top_k]
            return [RankedActivity(activity, score, place) for place, (activity, score) in enumerate(arranged, 1)]
        best = order[: request.top_k].tolist()
        values = scores.tolist()
        return [
            RankedActivity(candidate_id(candidates[position]), values[position], place)
            for place, position in enumerate(best, 1)
        ]
