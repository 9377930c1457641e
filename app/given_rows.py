"""Whole rows that a caller made: numbers in the order of a model's features, or columns by their names."""

from collections.abc import Iterable, Mapping, Sequence
from math import nan
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.errors import bad_rows
from app.schemas import read_python_document, shown
from registry import Feature

Floats = NDArray[np.float64]
Cell = float | bool | str | None
T = TypeVar("T")

NAMED = 5  # of many columns that are wrong


class GivenRows(NamedTuple):
    """`matrix` is (rows, features), float64, in a model's terms: codes for categories, NaN for what is missing.

    `unseen` counts, by feature, the values that are no category of the model; they are missing.
    """

    matrix: Floats
    unseen: dict[str, int]


def read_json(body: bytes, kind: type[T]) -> T:
    """A body of JSON as `kind` has it; `NaN`, `Infinity` and `-Infinity` are numbers, as Python writes them.

    Raises `Problem`, which names the place.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        document = read_python_document(body)
    try:
        return msgspec.convert(document, kind)
    except (msgspec.ValidationError, OverflowError, RecursionError) as error:
        raise bad_rows(str(error)) from None


def of_columns(features: Sequence[Feature], columns: Mapping[str, Sequence[Cell]]) -> GivenRows:
    """Rows of columns of one length. A category is its name, or its code as a number; None is missing.

    Raises the 400 of columns that are missing or unknown, and of values that are not of a column's type.
    """
    known = [feature.name for feature in features]
    if missing := [name for name in known if name not in columns]:
        raise bad_rows(f"{_listed(missing, 'missing')}; GET /v1/models has the features of each model")
    if unknown := [name for name in columns if name not in set(known)]:
        raise bad_rows(f"{_listed(unknown, 'unknown')}; GET /v1/models has the features of each model")
    unseen: dict[str, int] = {}
    matrix = np.empty((len(columns[known[0]]), len(features)))
    for place, feature in enumerate(features):
        matrix[:, place] = _column(feature, columns[feature.name], unseen)
    return GivenRows(matrix, unseen)


def of_rows(features: Sequence[Feature], rows: Sequence[Sequence[Cell]]) -> GivenRows:
    """Rows whose values stand in the order of the features. Raises the 400 of one with more or fewer of them."""
    return of_columns(features, columns_of([feature.name for feature in features], rows))


def columns_of(names: Sequence[str], rows: Sequence[Sequence[T]]) -> dict[str, Sequence[T]]:
    """The columns of rows whose values stand in the order of the names. Raises the 400 of one with more or fewer."""
    for place, row in enumerate(rows):
        if len(row) != len(names):
            raise bad_rows(f"row {place} has {len(row)} values and {len(names)} are wanted")
    return dict(zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True))


def _column(feature: Feature, values: Sequence[Cell], unseen: dict[str, int]) -> Sequence[Cell]:
    kinds = set(map(type, values))
    if bool in kinds and feature.type != "boolean":
        raise _wrong(feature, values, bool, "a boolean")
    if str not in kinds:
        return values
    if feature.categories is None:
        raise _wrong(feature, values, str, "a text")
    codes = {name: float(code) for code, name in enumerate(feature.categories)}
    if strangers := sum(type(value) is str and value not in codes for value in values):
        unseen[feature.name] = strangers
    return [codes.get(value, nan) if type(value) is str else value for value in values]


def _wrong(feature: Feature, values: Iterable[Cell], kind: type, name: str) -> Exception:
    row, value = next((row, value) for row, value in enumerate(values) if type(value) is kind)
    said = f" ({shown(value)})" if isinstance(value, str) else ""
    return bad_rows(f"column {feature.name}, row {row}: {name}{said}, and the feature is a {feature.type}")


def _listed(names: Sequence[str], fault: str) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    some = ", ".join(repr(shown(name)) for name in names[:NAMED])
    return f"column {some}{more} is {fault}" if len(names) == 1 else f"columns {some}{more} are {fault}"
