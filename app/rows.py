"""From a decoded request to the rows that a model scores."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import astuple
from numpy.typing import NDArray

from app.schemas import Field, RequestShape, candidate_id, candidate_ids
from features import Catalog
from registry import Feature

Matrix = NDArray[np.float64]


class Rows(NamedTuple):
    """`values` has shape (candidates, features), float64, C-contiguous, NaN where a value is missing.

    `unseen` counts, for each feature that had any, the values that are no category of the model.
    """

    values: Matrix
    unknown_candidates: list[str]
    unseen: dict[str, int]


class RowMaker:
    """Makes one model's rows: what the request says wins over the catalog, the catalog over "missing"."""

    def __init__(self, features: Sequence[Feature], shape: RequestShape, catalog: Catalog) -> None:
        self.width = len(features)
        self._context = _Side(features, "context", shape.context)
        self._activity = _Side(features, "activity", shape.activity)
        self._catalog_rows = catalog.rows
        self._catalog = catalog.matrix(self._activity.catalog_columns())
        self._has_catalog = len(catalog) > 0

    def rows(self, context: Any, candidates: Sequence[Any]) -> Rows:
        unseen: dict[str, int] = {}
        values = np.full((len(candidates), self.width), np.nan)
        if context is not None:
            values[:, self._context.columns] = self._context.read([astuple(context)], unseen)
        inline = [place for place, one in enumerate(candidates) if type(one) is not str and one.features is not None]
        unknown = self._look_up(candidates, values, set(inline)) if self._has_catalog else None
        if inline:
            given = self._activity.read([astuple(candidates[place].features) for place in inline], unseen)
            places = np.ix_(np.array(inline), self._activity.columns)
            values[places] = np.where(np.isnan(given), values[places], given) if self._has_catalog else given
        if unknown is None:
            unknown = [candidate_id(one) for one in candidates if _is_bare(one)]
        return Rows(values, unknown, unseen)

    def _look_up(self, candidates: Sequence[Any], values: Matrix, inline: set[int]) -> list[str]:
        """Fill in what the catalog knows; the ids that nobody knows anything of."""
        ids = candidate_ids(candidates)
        missing = len(self._catalog_rows)  # the catalog's last row is all NaN
        places = [self._catalog_rows.get(activity, missing) for activity in ids]
        values[:, self._activity.columns] = self._catalog[places]
        return [ids[n] for n, place in enumerate(places) if place == missing and n not in inline]


class _Side:
    """The columns that come from one struct of the request: its context, or a candidate's features."""

    def __init__(self, features: Sequence[Feature], role: str, fields: Sequence[Field]) -> None:
        wanted = {feature.name: (column, feature) for column, feature in enumerate(features) if feature.role == role}
        numbers = sum(field.type != "category" for field in fields)
        self._numeric_fields = numbers
        picked = [(position, *wanted[field.name]) for position, field in enumerate(fields) if field.name in wanted]
        self.columns = np.array([column for _, column, _ in picked], dtype=np.intp)
        self._features = [feature for _, _, feature in picked]
        self._numeric = np.array([position for position, _, _ in picked if position < numbers], dtype=np.intp)
        self._categorical = [
            (out, position, feature.name, {name: float(code) for code, name in enumerate(feature.categories or ())})
            for out, (position, _, feature) in enumerate(picked)
            if position >= numbers
        ]

    def catalog_columns(self) -> list[tuple[str, Sequence[str] | None]]:
        return [(feature.name, feature.categories) for feature in self._features]

    def read(self, given: Sequence[tuple[Any, ...]], unseen: dict[str, int]) -> Matrix:
        """Values of the structs, shape (len(given), len(self.columns)): numbers first, then categories as codes."""
        numbers = self._numeric_fields
        values = np.empty((len(given), len(self.columns)))
        if len(self._numeric):
            block = np.array([one[:numbers] for one in given], dtype=np.float64)
            values[:, : len(self._numeric)] = block[:, self._numeric]
        for out, position, name, codes in self._categorical:
            texts = [one[position] for one in given]
            column = [codes.get(text, np.nan) for text in texts]
            values[:, out] = column
            strangers = sum(text is not None and text not in codes for text in texts)
            if strangers:
                unseen[name] = unseen.get(name, 0) + strangers
        return values


def _is_bare(candidate: Any) -> bool:
    return type(candidate) is str or candidate.features is None
