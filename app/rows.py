"""From a decoded request to what a model scores: a context, known activities, and rows of the caller's own."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import astuple
from numpy.typing import NDArray

from app.columns import Columns, ids_of
from app.known_ids import KnownIds
from app.own_rows import Terms, lay
from app.schemas import Field, RequestShape
from features import Catalog
from registry import Feature

Matrix = NDArray[np.float64]
Places = NDArray[np.int64]


class Rows(NamedTuple):
    """One request's candidates, in the terms of one model.

    `context` is a whole row of which only the context columns are set; None and NaN are missing. `items` are the
    candidates (int64): an activity's index in the catalog, or `~k` for `own[k]`, a whole row (NaN where missing).
    `unknown` are the ids that nobody knows anything of, and `unseen` counts, by feature, the values that are no
    category of the model. `pairs` are columns of visitor and candidate, a row for each; None until they are known.
    """

    context: list[float | None]
    items: Places
    own: Matrix
    unknown: list[str]
    unseen: dict[str, int]
    pairs: Matrix | None = None

    def part(self, start: int, stop: int) -> "Rows":
        """The candidates from `start` to `stop` alone."""
        items, pairs = self.items[start:stop], None if self.pairs is None else self.pairs[start:stop]
        if not len(self.own):
            return self._replace(items=items, pairs=pairs)
        first = np.count_nonzero(self.items[:start] < 0)
        own = self.own[first : first + np.count_nonzero(items < 0)]
        return self._replace(items=np.where(items < 0, items + first, items), own=own, pairs=pairs)

    def alone(self, place: int) -> "Rows":
        """One candidate, which keeps nothing of the others in memory."""
        item = self.items[place]
        own = self.own[~item : ~item + 1] if item < 0 else self.own[:0]
        pairs = None if self.pairs is None else self.pairs[place : place + 1].copy()
        return Rows(self.context, np.array([max(item, -1)]), own.copy(), [], {}, pairs)


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
        self._blank: list[float | None] = [None] * len(features)
        self._none_of_its_own = np.empty((0, len(features)))
        self.context_columns = np.array([feature.role == "context" for feature in features], dtype=np.bool_)
        self.activities = np.full((len(catalog) + 1, len(features)), np.nan)
        self.activities[:, self._activity.columns] = catalog.matrix(self._activity.catalog_columns())
        self.rows(None, Columns(shape.activity, [""], [0], np.full((1, len(shape.activity)), np.nan)))  # compiles

    def rows(self, context: Any, candidates: Sequence[Any]) -> Rows:
        unseen: dict[str, int] = {}
        row = self._context.row(context, self._blank, unseen)
        own = self._none_of_its_own
        ids = ids_of(candidates)
        items, strangers = self.known.find(ids)
        if type(candidates) is Columns:
            if candidates.bringing:
                own = self._own(items, candidates.bringing)
                self._activity.lay_columns(candidates, own, unseen)
        elif bringing := [n for n, one in enumerate(candidates) if type(one) is not str and one.features is not None]:
            own = self._own(items, bringing)
            self._activity.lay_structs([astuple(candidates[n].features) for n in bringing], own, unseen)
        if len(own):
            own[:, self._context.columns] = [row[column] for column in self._context.columns]
        unknown = [ids[n] for n in np.flatnonzero(items == self._stranger).tolist()] if strangers else []
        return Rows(row, items, own, unknown, unseen)

    def _own(self, items: Places, bringing: Sequence[int]) -> Matrix:
        """What the catalog has of the candidates that bring features, whose items become `~k`: rows for them."""
        places = np.array(bringing)
        own: Matrix = self.activities.take(items[places], axis=0)
        items[places] = np.arange(-1, -1 - len(places), -1)
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

    def row(self, given: Any, blank: list[float | None], unseen: dict[str, int]) -> list[float | None]:
        """A whole row of one struct's values; None and NaN are missing."""
        row = blank[:]
        if given is None:
            return row
        values = astuple(given)
        for column, position in self._numbers:
            row[column] = values[position]
        for _, column, position, name, codes in self._categorical:
            text = values[position]
            row[column] = codes.get(text)
            if text is not None and text not in codes:
                unseen[name] = unseen.get(name, 0) + 1
        return row

    def lay_structs(self, given: Sequence[tuple[Any, ...]], rows: Matrix, unseen: dict[str, int]) -> None:
        """Put the values of structs into `rows`, one each: what is missing stays as it is."""
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
        lay(values, self._terms_of_codes, rows, np.zeros(len(self.columns), np.int64))

    def lay_columns(self, given: Columns, rows: Matrix, unseen: dict[str, int]) -> None:
        """The same with what candidates bring in columns."""
        terms = self._terms(given.fields, given.texts) if given.texts else self._usual_terms
        strangers = np.zeros(len(self.columns), np.int64)
        lay(given.values, terms, rows, strangers)
        if strangers.any():
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
