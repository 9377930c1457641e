"""A request's candidates as columns, for rows that are made without a look at each of them."""

from collections.abc import Iterator, Mapping, Sequence
from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.schemas import Field, candidate_ids
from registry import Value

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


class Columns(Sequence[Any]):
    """Candidates that came in columns: a sequence of their ids, with the features that some of them bring.

    Row k of `values` (float64, a column for each of `fields`) is what the candidate at place `bringing[k]` (int64)
    brings: a number, 0 or 1, a category's place among the `texts` of its column, or NaN for nothing. Where a column has
    no `texts`, they are the categories of its field.
    """

    __slots__ = ("_count", "bringing", "fields", "ids", "texts", "values")

    def __init__(
        self,
        fields: Sequence[Field],
        ids: Sequence[str],
        bringing: Places,
        values: Floats,
        texts: Mapping[int, Sequence[str | None]] | None = None,
    ) -> None:
        self.fields = fields
        self.ids = ids
        self.bringing = bringing
        self.values = values
        self.texts = texts or {}
        self._count = len(ids)  # of ids in lines it is a call more, and a request asks several times

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __getitem__(self, place: Any) -> Any:
        """One id, or the candidates of a slice without gaps, which keep nothing of the others in memory."""
        if not isinstance(place, slice):
            return self.ids[place]
        start, stop, _ = place.indices(len(self))
        first, last = np.searchsorted(self.bringing, [start, stop])
        bringing = self.bringing[first:last] - start
        return Columns(self.fields, self.ids[start:stop], bringing, self.values[first:last].copy(), self.texts)

    def brought(self) -> Iterator[tuple[int, dict[str, Value | None]]]:
        """Places of the candidates that bring features, with those, as a JSON body has them."""
        for place, row in zip(self.bringing.tolist(), self.values.tolist(), strict=True):
            given = [(column, value) for column, value in enumerate(row) if not isnan(value)]
            yield place, {self.fields[column].name: self._value(column, value) for column, value in given}

    def _value(self, column: int, value: float) -> Value | None:
        field = self.fields[column]
        if field.type == "category":
            return self.texts.get(column, field.categories)[int(value)]
        if field.type == "boolean":
            return bool(value)
        return int(value) if field.type == "integer" else value


def ids_of(candidates: Sequence[Any]) -> Sequence[str]:
    """The ids of candidates, in whatever form they came."""
    return candidates.ids if type(candidates) is Columns else candidate_ids(candidates)
