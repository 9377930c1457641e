"""A request's candidates as columns, for rows that are made without a look at each of them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Texts(NamedTuple):
    """A column of texts: of each row the place of its text among `values`, -1 where there is none."""

    places: NDArray[np.int64]
    values: Sequence[str | None]

    def codes(self, known: Mapping[str, float]) -> Floats:
        """The code of each row's text; NaN where there is none or it is not known."""
        return np.array([*(known.get(text, np.nan) for text in self.values), np.nan])[self.places]  # type: ignore[arg-type]

    @property
    def missing(self) -> NDArray[np.bool_]:
        return np.array([*(text is None for text in self.values), True])[self.places]


class Columns(Sequence[Any]):
    """Candidates that came in columns: a sequence of their ids, with features by name.

    `numbers` are float64, NaN where missing. A candidate of which no feature is given counts as a bare id.
    """

    def __init__(self, ids: Sequence[str], numbers: Mapping[str, Floats], texts: Mapping[str, Texts]) -> None:
        self.ids = ids
        self.numbers = numbers
        self.texts = texts

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __getitem__(self, place: Any) -> Any:
        """One id, or the candidates of a slice."""
        if not isinstance(place, slice):
            return self.ids[place]
        numbers = {name: values[place] for name, values in self.numbers.items()}
        texts = {name: Texts(column.places[place], column.values) for name, column in self.texts.items()}
        return Columns(self.ids[place], numbers, texts)

    def bringing(self) -> list[int]:
        """Places of the candidates that bring features of their own."""
        given = np.zeros(len(self), np.bool_)
        for values in self.numbers.values():
            given |= ~np.isnan(values)
        for texts in self.texts.values():
            given |= ~texts.missing
        return np.flatnonzero(given).tolist()
