"""One variant's ranker: candidates in, their order out."""

import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import accumulate, pairwise
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from app.best_first import best_first
from app.columns import ids_of
from app.derived import DerivedColumns, Lookup
from app.own_rows import renumber
from app.processing import Rules
from app.rows import RowMaker, Rows, blank_row
from app.schemas import RankedActivity, RankRequest
from app.standings import Standings
from batching import Batcher, Priority, Scored, Shed, Ticket
from features import Visitors
from monitoring.drift import Watch
from registry import Model
from scoring.catalog import load_catalog
from scoring.kernels import all_finite


class Work(Struct, frozen=True, eq=False, gc=False):
    """What waits in the batcher: the part of a request that is scored, and its rows as `maker` made them.

    Rows that a caller made are all that there is of their request: they stay as they are, and are for the model
    `given_for` alone.
    """

    context: Any
    candidates: Sequence[Any]
    maker: RowMaker
    rows: Rows
    lookup: Lookup
    given_for: Model | None = None


class ModelReplaced(Shed):
    """The model that a caller made rows for is no longer served. None of them was scored, so asking again is safe."""

    reason = "model_replaced"

    def __init__(self, model: Model, rows: int) -> None:
        name = f"{model.bundle.name}/{model.bundle.version}"
        super().__init__(name, rows, needed=rows, allowed=0, retry_after_seconds=1.0)

    def __str__(self) -> str:
        return f"{self.lane} was replaced while {self.rows} rows were on their way to it"


Prepare = Callable[[Sequence[Work]], Awaitable[Sequence[Work]]]


class Scores(Struct, frozen=True, eq=False, gc=False):
    """What comes back: one score a candidate, in their order, and who gave them.

    `finite` says of the whole batch that no score of it is NaN or infinite.
    """

    scorer: "Scorer"
    values: NDArray[np.float64]
    finite: bool


class Ranking(Struct, frozen=True, eq=False, gc=False):
    """`activities` in their final order; `score_seconds` is the time of the batch that the request was scored in.

    It is not `usable` when it is empty although candidates came, or holds a score that is not finite.
    """

    model: Model
    activities: Sequence[RankedActivity]
    queue_seconds: float
    score_seconds: float
    rows: int
    usable: bool


class Scorer:
    """A model with its activities, as the batcher wants it: `score` runs in the scoring thread, a batch at a time.

    Rows are made before that, on the event loop, so that the two threads seldom want the interpreter at once; and
    where the model has derived features, `prepare` looks the visitors of a whole batch up and fills those in.
    """

    def __init__(
        self,
        model: Model,
        maker: RowMaker,
        derived: DerivedColumns | None,
        visitors: Visitors,
        *,
        budget_bytes: int,
        shared: Path | None = None,
    ) -> None:
        self.model = model
        self.maker = maker
        self.derived = derived
        self._visitors = visitors
        context, pairs = maker.context_columns, None
        if derived is not None:
            context, pairs = context | derived.context, derived.pairs
        self.catalog = load_catalog(
            model.engine, maker.activities, context, pairs, budget_bytes=budget_bytes, shared=shared
        )
        self._context, self._pairs = np.flatnonzero(context), None if pairs is None else np.flatnonzero(pairs)
        self.watch: Watch[Rows] | None = None
        all_finite(np.empty(0))  # compiles, and so does the next
        renumber(np.zeros(1, np.int64), np.array([0, 1]), np.zeros(1, np.int64))

    def work(self, context: Any, candidates: Sequence[Any], visitor: str | None) -> Work:
        return Work(context, candidates, self.maker, self.maker.rows(context, candidates), Lookup(visitor))

    def given(self, rows: NDArray[np.float64]) -> Work:
        """Work of whole rows (rows, features) that a caller made, derived features included."""
        count = len(rows)
        pairs = None if self._pairs is None else np.zeros((count, len(self._pairs)))  # not read of whole rows
        made = Rows(blank_row(rows.shape[1]), np.arange(-1, -1 - count, -1), rows, [], {}, pairs)
        return Work(None, range(count), self.maker, made, Lookup(None), self.model)

    def own(self, work: Work) -> Work:
        """The work in this model's terms: made again if it waited for a model that was replaced.

        Raises `ModelReplaced` for rows that a caller made for another model.
        """
        if work.maker is self.maker or work.given_for is self.model:
            return work
        if work.given_for is not None:
            raise ModelReplaced(work.given_for, len(work.candidates))
        return replace(work, maker=self.maker, rows=self.maker.rows(work.context, work.candidates))

    @property
    def prepare(self) -> Prepare | None:
        """What a batch has to wait for; None where the model wants to know nothing of visitors."""
        return None if self.derived is None else self._prepare

    async def _prepare(self, batch: Sequence[Work]) -> Sequence[Work]:
        """Give everybody rows with their visitor in."""
        started = time.perf_counter()
        await self.look_up(batch)
        filled = self.with_visitors(batch)
        now = time.perf_counter()
        for work in batch:
            work.lookup.ready_at = now
            work.lookup.seconds += now - started
        return filled

    async def look_up(self, batch: Sequence[Work]) -> None:
        """Look up in one round trip whoever was not looked up yet."""
        new = [work.lookup for work in batch if work.lookup.found is None and work.given_for is None]
        found = await self._visitors.fetch([lookup.visitor for lookup in new])
        for lookup, visitor in zip(new, found, strict=True):
            lookup.found = visitor

    def with_visitors(self, batch: Sequence[Work]) -> list[Work]:
        """The same with what their visitors did in the rows, once they are looked up."""
        made = [self.own(work) for work in batch]
        filled = iter(self._filled([(work.rows, work) for work in made if work.given_for is None]))
        return [work if work.given_for is not None else replace(work, rows=next(filled)) for work in made]

    def _filled(self, batch: Sequence[tuple[Rows, Work]]) -> list[Rows]:
        assert self.derived is not None  # else there is nothing to fill in
        if not batch:
            return []
        return self.derived.fill([(rows, work.candidates, work.lookup.found) for rows, work in batch])  # type: ignore[misc] # looked up just now, or with the piece before

    def score(self, batch: Sequence[Work]) -> Sequence[Scores]:
        made = [self.own(work).rows for work in batch]
        offsets = offsets_of(made)
        values = self.values(made, offsets)
        if (watch := self.watch) is not None:
            watch.scored(made, offsets, values)
        finite = all_finite(values)
        return [Scores(self, values[start:stop], finite) for start, stop in pairwise(offsets)]

    def values(self, made: Sequence[Rows], offsets: Sequence[int]) -> NDArray[np.float64]:
        """The scores of these rows, one after the other, each beginning at its offset. Nobody watches."""
        contexts = _joined_contexts(made)
        starts = np.array(offsets)
        items, own, pairs = _joined_items(made, starts), _joined_own(made), _joined_pairs(made)
        return self.catalog.score(contexts, starts, items, own, pairs)

    def whole(self, work: Work, places: Sequence[int]) -> NDArray[np.float64]:
        """Whole rows, as the model saw them, of these candidates of scored work: (len(places), features)."""
        rows = self.own(work).rows
        if self.derived is not None and work.lookup.found is not None:
            (rows,) = self._filled([(rows, work)])
        return self.picked([(rows, place) for place in places])

    def picked(self, picked: Sequence[tuple[Rows, int]]) -> NDArray[np.float64]:
        """Whole rows, as the model saw them, of a candidate of each of these: (len(picked), features)."""
        items = [rows.items[place] for rows, place in picked]
        matrix = self.maker.activities[[max(item, -1) for item in items]]  # what is there of an own row is written over
        contexts = _joined_contexts([rows for rows, _ in picked])
        matrix[:, self._context] = contexts[:, self._context]
        if self._pairs is not None:
            matrix[:, self._pairs] = [rows.pairs[place] for rows, place in picked]  # type: ignore[index] # filled in
        for row, item, (rows, _) in zip(matrix, items, picked, strict=True):
            if item < 0:
                row[:] = rows.own[~item]
        return matrix

    @staticmethod
    def split(work: Work, start: int, stop: int) -> Work:
        return replace(work, candidates=work.candidates[start:stop], rows=work.rows.part(start, stop))

    @staticmethod
    def join(pieces: Sequence[Scores]) -> Scores:
        values = np.concatenate([piece.values for piece in pieces])
        return Scores(pieces[0].scorer, values, all(piece.finite for piece in pieces))


def offsets_of(made: Sequence[Rows]) -> list[int]:
    """Where each one's candidates begin when all stand in one line, and where that ends."""
    return [0, *accumulate([len(rows.items) for rows in made])]


def _joined_contexts(made: Sequence[Rows]) -> NDArray[np.float64]:
    return np.ndarray((len(made), len(made[0].context)), np.float64, bytearray().join([rows.context for rows in made]))


def _joined_items(made: Sequence[Rows], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(made) == 1:
        return made[0].items
    items = np.concatenate([rows.items for rows in made])
    own = [len(rows.own) for rows in made]
    if any(own):
        renumber(items, offsets, np.array(own))
    return items


def _joined_own(made: Sequence[Rows]) -> NDArray[np.float64]:
    own = [rows.own for rows in made if len(rows.own)]
    if len(own) > 1:
        return _joined(own)
    return own[0] if own else made[0].own


def _joined_pairs(made: Sequence[Rows]) -> NDArray[np.float64] | None:
    pairs = [rows.pairs for rows in made if rows.pairs is not None]
    if len(pairs) > 1:
        return _joined(pairs)
    return pairs[0] if pairs else None


def _joined(pieces: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Rows, one after the other.

    numpy would let go of the interpreter for each piece, and the scoring thread then wait for it as many times.
    """
    shape = sum(map(len, pieces)), pieces[0].shape[1]
    return np.ndarray(shape, np.float64, bytearray().join([np.ascontiguousarray(piece).data for piece in pieces]))


class Ranker:
    """Ranks for one variant, through its lane of the batcher."""

    def __init__(self, variant: str, batcher: Batcher[Work, Scores], scorer: Scorer, rules: Rules) -> None:
        self._variant = variant
        self._batcher = batcher
        self.scorer = scorer
        self._rules = rules

    def select(self, request: RankRequest) -> Sequence[Any]:
        """The candidates that are to be scored."""
        return self._rules.select(request) if self._rules.selects else request.candidates

    def work(self, request: RankRequest, candidates: Sequence[Any], visitor: str | None) -> Work:
        """The candidates' rows: what `enter` takes."""
        return self.scorer.work(request.context, candidates, visitor)

    def enter(self, work: Work, *, due_at: float, priority: Priority) -> Ticket:
        """Stand in line with at least one candidate. Raises the batcher's refusals."""
        return self._batcher.enter(self._variant, work, rows=len(work.rows.items), due_at=due_at, priority=priority)

    @staticmethod
    def empty(model: Model, request: RankRequest) -> Ranking:
        """The order of no candidates, which needs no scoring."""
        return Ranking(model, [], 0.0, 0.0, 0, usable=not request.candidates)

    def ranking(self, request: RankRequest, candidates: Sequence[Any], scored: Scored[Scores]) -> Ranking:
        """The order of the candidates by what became of their ticket."""
        scores = scored.result
        values = scores.values
        order = self._order(request, candidates, values)
        known = scores.finite and not self._rules.arranges  # rules may give scores of their own
        usable = len(order) > 0 and (known or all(isfinite(one.score) for one in order))
        return Ranking(scores.scorer.model, order, scored.queue_seconds, scored.score_seconds, len(values), usable)

    def _order(
        self, request: RankRequest, candidates: Sequence[Any], scores: NDArray[np.float64]
    ) -> Sequence[RankedActivity]:
        order = best_first(scores)
        if self._rules.arranges:
            arranged = self._rules.arrange(request, candidates, order.tolist(), scores.tolist())[: request.top_k]
            return [RankedActivity(activity, score, place) for place, (activity, score) in enumerate(arranged, 1)]
        return Standings(ids_of(candidates), order[: request.top_k], scores)
