"""What a visitor did lately, as columns of a model's rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from app.rows import Rows
from app.schemas import candidate_ids
from features import DERIVED_BY_NAME, Catalog, DerivedFeatures, Visitor
from registry import Feature


class Lookup:
    """One ranking's visitor, and what is known of them once a batch looked: once, however many pieces are scored.

    visitor: their id; None for a caller that names none. seconds: what looking and filling in took. ready_at: when
    that was done, by the clock of the batcher; 0 before.
    """

    __slots__ = ("found", "ready_at", "seconds", "visitor")

    def __init__(self, visitor: str | None) -> None:
        self.visitor = visitor
        self.found: Visitor | None = None
        self.seconds = 0.0
        self.ready_at = 0.0

    @property
    def degraded(self) -> bool:
        """Whether the ranking had to go on without a history that there may be."""
        return self.found is not None and self.found.degraded


class DerivedColumns:
    """The derived features of one model: some are the same for all candidates of a ranking, some belong to a pair.

    `context` and `pairs` mark the columns of either kind, over all columns of the model.
    """

    def __init__(self, features: Sequence[Feature], catalog: Catalog) -> None:
        named = [(column, feature) for column, feature in enumerate(features) if feature.role == "derived"]
        named.sort(key=lambda one: DERIVED_BY_NAME[one[1].name].role == "activity")  # stable: columns keep their order
        self._features = DerivedFeatures({feature.name: feature.categories for _, feature in named}, catalog)
        self._columns = [column for column, _ in named]
        self._shared = sum(DERIVED_BY_NAME[feature.name].role == "context" for _, feature in named)
        self._index, self._stranger = catalog.rows, len(catalog)
        self.context = np.zeros(len(features), np.bool_)
        self.context[self._columns[: self._shared]] = True
        self.pairs = np.zeros(len(features), np.bool_)
        self.pairs[self._columns[self._shared :]] = True

    def fill(self, rows: Rows, candidates: Sequence[Any], visitor: Visitor) -> Rows:
        """The rows of these candidates with the visitor in them; the rows that are given stay as they are."""
        places = self._places(candidates) if len(rows.own) else rows.items
        values = self._features.values(visitor.history, visitor.moment, np.array(places, dtype=np.intp))
        context = rows.context[:]
        for column, value in zip(self._columns, values[0, : self._shared].tolist(), strict=False):  # its own come first
            context[column] = value
        own = rows.own
        if len(own):
            own = own.copy()
            own[:, self._columns] = values[np.array(rows.items) < 0]
        return rows._replace(context=context, own=own, pairs=values[:, self._shared :])

    def _places(self, candidates: Sequence[Any]) -> list[int]:
        return [self._index.get(one, self._stranger) for one in candidate_ids(candidates)]


def unknown_derived(features: Sequence[Feature]) -> list[str]:
    """Names of derived features that this code cannot compute: those of a model that newer code trained."""
    return [feature.name for feature in features if feature.role == "derived" and feature.name not in DERIVED_BY_NAME]
