"""What a visitor did lately, as columns of a model's rows."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from app.columns import ids_of
from app.known_ids import KnownIds
from app.rows import Rows
from features import DERIVED_BY_NAME, Catalog, DerivedFeatures, Visitor
from registry import Feature


class Lookup(Struct, eq=False):
    """One ranking's visitor, and what is known of them once a batch looked: once, however many pieces are scored.

    visitor: their id; None for a caller that names none. seconds: what looking and filling in took. ready_at: when
    that was done, by the clock of the batcher; 0 before.
    """

    visitor: str | None
    found: Visitor | None = None
    seconds: float = 0.0
    ready_at: float = 0.0

    @property
    def degraded(self) -> bool:
        """Whether the ranking had to go on without a history that there may be."""
        return self.found is not None and self.found.degraded


class DerivedColumns:
    """The derived features of one model: some are the same for all candidates of a ranking, some belong to a pair.

    `context` and `pairs` mark the columns of either kind, over all columns of the model.
    """

    def __init__(self, features: Sequence[Feature], catalog: Catalog, known: KnownIds) -> None:
        named = {
            feature.name: (column, feature) for column, feature in enumerate(features) if feature.role == "derived"
        }
        self._features = DerivedFeatures({name: feature.categories for name, (_, feature) in named.items()}, catalog)
        self._context_columns, self._pair_columns = (
            [column for name, (column, _) in named.items() if DERIVED_BY_NAME[name].role == role]
            for role in ("context", "activity")
        )
        self._known = known
        self.context = np.zeros(len(features), np.bool_)
        self.context[self._context_columns] = True
        self.pairs = np.zeros(len(features), np.bool_)
        self.pairs[self._pair_columns] = True

    def fill(self, batch: Sequence[tuple[Rows, Sequence[Any], Visitor]]) -> list[Rows]:
        """The rows of these candidates with their visitors in them; the rows that are given stay as they are."""
        places = [
            self._known.find(ids_of(candidates))[0] if len(rows.own) else rows.items for rows, candidates, _ in batch
        ]
        counts = [len(rows.items) for rows, _, _ in batch]
        contexts, pairs = self._features.of_batch(
            [visitor.history for _, _, visitor in batch],
            [visitor.moment for _, _, visitor in batch],
            np.concatenate(places),
            counts,
        )
        ends = accumulate(counts)
        return [
            self._filled(rows, context, pairs[end - count : end])
            for (rows, _, _), context, count, end in zip(batch, contexts.tolist(), counts, ends, strict=True)
        ]

    def _filled(self, rows: Rows, of_visitor: Sequence[float], pairs: NDArray[np.float64]) -> Rows:
        context = rows.context[:]
        for column, value in zip(self._context_columns, of_visitor, strict=True):
            context[column] = value
        own = rows.own
        if len(own):
            own = own.copy()
            own[:, self._context_columns] = of_visitor
            own[:, self._pair_columns] = pairs[rows.items < 0]
        return replace(rows, context=context, own=own, pairs=pairs)


def unknown_derived(features: Sequence[Feature]) -> list[str]:
    """Names of derived features that this code cannot compute: those of a model that newer code trained."""
    return [feature.name for feature in features if feature.role == "derived" and feature.name not in DERIVED_BY_NAME]
