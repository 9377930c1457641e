"""From a decoded request to what a model scores: a context, known activities, and rows of the caller's own."""

from array import array
from collections.abc import Mapping, Sequence
from math import nan
from typing import Any, NamedTuple

import numpy as np
from msgspec import Struct
from msgspec.structs import astuple, replace
from numpy.typing import NDArray

from app.columns import Columns, ids_of
from app.known_ids import KnownIds
from app.own_rows import Terms, lay
from app.schemas import Field, RequestShape
from features import Catalog
from registry import Feature

Matrix = NDArray[np.float64]
Places = NDArray[np.int64]


class Rows(Struct, frozen=True, eq=False, gc=False):
    """One request's candidates, in the terms of one model.

    `context` is a whole row (float64) of which only the context columns are set; NaN is missing. `items` are the
    candidates (int64): an activity's index in the catalog, or `~k` for `own[k]`, a whole row (NaN where missing).
    `unknown` are the ids that nobody knows anything of, and `unseen` counts, by feature, the values that are no
    category of the model. `pairs` are columns of visitor and candidate, a row for each; None until they are known.
    """

    context: "array[float]"
    items: Places
    own: Matrix
    unknown: list[str]
    unseen: dict[str, int]
    pairs: Matrix | None = None

    def part(self, start: int, stop: int) -> "Rows":
        """The candidates from `start` to `stop` alone."""
        items, pairs = self.items[start:stop], None if self.pairs is None else self.pairs[start:stop]
        if not len(self.own):
            return replace(self, items=items, pairs=pairs)
        first = np.count_nonzero(self.items[:start] < 0)
        own = self.own[first : first + np.count_nonzero(items < 0)]
        return replace(self, items=np.where(items < 0, items + first, items), own=own, pairs=pairs)

    def alone(self, place: int) -> "Rows":
        """One candidate, which keeps nothing of the others in memory."""
        item = self.items[place]
        own = self.own[~item : ~item + 1] if item < 0 else self.own[:0]
        pairs = None if self.pairs is None else self.pairs[place : place + 1].copy()
        return Rows(self.context, np.array([max(item, -1)]), own.copy(), [], {}, pairs)


def blank_row(features: int) -> "array[float]":
    """A row of which nothing is known. Lists of numbers would take numpy a microsecond each to make arrays of."""
    return array("d", [nan]) * features


class Brought(NamedTuple):
    """What candidates bring: `values` (own rows, values), where NaN is nothing, and how a model reads them."""

    values: Matrix
    terms: Terms


class RowMaker:
    """Makes one model's rows: what the request says wins over the catalog, the catalog over "missing".

    `known` tells where an activity is in the catalog. `activities` (activities + 1, features) are the catalog's rows;
    the last one is all NaN, of whoever is unknown.
    """

    def __init__(self, features: Sequence[Feature], shape: RequestShape, catalog: Catalog) -> None:
        self._context = _Side(features, "context", shape.context)
        self._activity = _Side(features, "activity", shape.activity)
        self.known = KnownIds(catalog.rows)
        self._stranger = len(catalog)
        self._blank = blank_row(len(features))
        self._none_of_its_own = np.empty((0, len(features)))
        self.context_columns = np.array([feature.role == "context" for feature in features], dtype=np.bool_)
        self.activities = np.full((len(catalog) + 1, len(features)), np.nan)
        self.activities[:, self._activity.columns] = catalog.matrix(self._activity.catalog_columns())
        nothing = np.full((1, len(shape.activity)), np.nan)
        self.rows(None, Columns(shape.activity, [""], np.zeros(1, np.int64), nothing))  # compiles

    def rows(self, context: Any, candidates: Sequence[Any]) -> Rows:
        unseen: dict[str, int] = {}
        row = self._context.row(context, self._blank, unseen)
        own = self._none_of_its_own
        ids = ids_of(candidates)
        items, strangers = self.known.find(ids)
        if type(candidates) is Columns:
            if len(candidates.bringing):
                own = self._own(items, candidates.bringing, self._activity.of_columns(candidates), row, unseen)
        elif bringing := [n for n, one in enumerate(candidates) if type(one) is not str and one.features is not None]:
            given = self._activity.of_structs([astuple(candidates[n].features) for n in bringing], unseen)
            own = self._own(items, np.array(bringing), given, row, unseen)
        unknown = [ids[n] for n in np.flatnonzero(items == self._stranger).tolist()] if strangers else []
        return Rows(row, items, own, unknown, unseen)

    def _own(
        self,
        items: Places,
        bringing: Places,
        given: Brought,
        context: "array[float]",
        unseen: dict[str, int],
    ) -> Matrix:
        """Rows of the candidates that bring features, whose items become `~k`."""
        columns = self._context.columns
        shared = (columns, np.frombuffer(context, np.float64)[columns])
        own = np.empty((len(bringing), self.activities.shape[1]))
        strangers = np.zeros(len(self._activity.columns), np.int64)
        if lay(*given, bringing, shared, items, self.activities, own, strangers):
            self._activity.count(strangers, unseen)
        return own


class _Side:
    """The columns that come from one struct of the request: its context, or a candidate's features."""

    def __init__(self, features: Sequence[Feature], role: str, fields: Sequence[Field]) -> None:
        wanted = {feature.name: (column, feature) for column, feature in enumerate(features) if feature.role == role}
        numbers = sum(field.type != "category" for field in fields)
        picked = [(position, *wanted[field.name]) for position, field in enumerate(fields) if field.name in wanted]
        self.columns = np.array([column for _, column, _ in picked], dtype=np.intp)
        self._numeric_fields = numbers
        self._features = [feature for _, _, feature in picked]
        self._positions = np.array([position for position, _, _ in picked], dtype=np.int64)
        self._numeric = np.array([position for position, _, _ in picked if position < numbers], dtype=np.intp)
        self._numbers = [(column, position) for position, column, _ in picked if position < numbers]
        self._categorical = [
            (out, column, position, feature.name, _codes(feature))
            for out, (position, column, feature) in enumerate(picked)
            if position >= numbers
        ]
        self._terms_of_codes = Terms(np.arange(len(picked)), self.columns, np.full(len(picked), -1), np.array([np.nan]))
        self._usual_terms = self._terms(fields, {})

    def catalog_columns(self) -> list[tuple[str, Sequence[str] | None]]:
        return [(feature.name, feature.categories) for feature in self._features]

    def row(self, given: Any, blank: "array[float]", unseen: dict[str, int]) -> "array[float]":
        """A whole row of one struct's values; NaN is missing."""
        row = blank[:]
        if given is None:
            return row
        values = astuple(given)
        for column, position in self._numbers:
            value = values[position]
            if value is not None:
                row[column] = value
        for _, column, position, name, codes in self._categorical:
            text = values[position]
            if text in codes:
                row[column] = codes[text]
            elif text is not None:
                unseen[name] = unseen.get(name, 0) + 1
        return row

    def of_structs(self, given: Sequence[tuple[Any, ...]], unseen: dict[str, int]) -> Brought:
        """What structs bring, one each."""
        numbers = self._numeric_fields
        values = np.empty((len(given), len(self.columns)))
        if len(self._numeric):
            block = np.array([one[:numbers] for one in given], dtype=np.float64).reshape(len(given), numbers)
            values[:, : len(self._numeric)] = block[:, self._numeric]
        for out, _, position, name, codes in self._categorical:
            texts = [one[position] for one in given]
            found = list(map(codes.get, texts))
            values[:, out] = found
            if None in found and (strangers := sum(text is not None and text not in codes for text in texts)):
                unseen[name] = unseen.get(name, 0) + strangers
        return Brought(values, self._terms_of_codes)

    def of_columns(self, given: Columns) -> Brought:
        """The same of what candidates bring in columns; their texts that are no category are not counted yet."""
        terms = self._terms(given.fields, given.texts) if given.texts else self._usual_terms
        return Brought(given.values, terms)

    def count(self, strangers: NDArray[np.int64], unseen: dict[str, int]) -> None:
        """Add texts that are no category, a number for each column."""
        for feature, count in zip(self._features, strangers.tolist(), strict=True):
            if count:
                unseen[feature.name] = unseen.get(feature.name, 0) + count

    def _terms(self, fields: Sequence[Field], texts: Mapping[int, Sequence[str | None]]) -> Terms:
        starts = np.full(len(self._features), -1)
        codes: list[float] = []
        for out, _, position, _, known in self._categorical:
            starts[out] = len(codes)
            codes += [known.get(text, np.nan) for text in texts.get(position, fields[position].categories)]  # type: ignore[arg-type]
        return Terms(self._positions, self.columns, starts, np.array([*codes, np.nan]))


def _codes(feature: Feature) -> dict[str, float]:
    return {name: float(code) for code, name in enumerate(feature.categories or ())}
