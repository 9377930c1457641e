"""Rows of a model as a caller would write them: feature -> value, what is missing left out.

A derived feature is nothing that a caller writes.
"""

import json
import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from registry.signature import Feature, Value, category_text

EXAMPLE_ROWS = 5


class _Table(msgspec.Struct):
    """MLflow's input example: a table (`columns` and `data`) or an array (`inputs`)."""

    columns: list[str | int] | None = None
    data: list[list[Value | None]] | None = None
    inputs: list[list[Value | None]] | None = None


def read_example(document: bytes, features: Sequence[Feature]) -> list[dict[str, Value]]:
    """At most 5 rows of `input_example.json`.

    What does not fit its feature is left out, and an example of another shape is none: a model need not have a good
    example to be a good model.
    """
    try:
        table = msgspec.convert(json.loads(document), _Table)  # MLflow writes NaN, which msgspec does not take
    except (msgspec.ValidationError, ValueError, RecursionError):
        return []
    names = [_plain(feature.name) for feature in features]
    columns = names if table.columns is None else [_plain(str(column)) for column in table.columns]
    rows = (table.data or table.inputs or [])[:EXAMPLE_ROWS]
    if any(len(row) != len(columns) for row in rows):
        return []
    values = [dict(zip(columns, row, strict=True)) for row in rows]
    return [
        _present(features, [_fit(feature, row.get(name)) for feature, name in zip(features, names, strict=True)])
        for row in values
    ]


def readable_rows(rows: NDArray[np.float64], features: Sequence[Feature]) -> list[dict[str, Value]]:
    """Rows (rows, features) of the model as a caller would write them."""
    return [
        _present(features, [feature.decode(number) for feature, number in zip(features, row, strict=True)])
        for row in rows.tolist()
    ]


def encoded_rows(example: Sequence[dict[str, Value]], features: Sequence[Feature]) -> NDArray[np.float64]:
    """The opposite: (rows, features) for the model."""
    rows = [[feature.encode(row.get(feature.name)) for feature in features] for row in example]
    return np.array(rows, dtype=np.float64).reshape(-1, len(features))


def _plain(name: str) -> str:
    return name.replace(" ", "_")  # as LightGBM writes it


def _present(features: Sequence[Feature], row: Sequence[Value | None]) -> dict[str, Value]:
    return {
        feature.name: value
        for feature, value in zip(features, row, strict=True)
        if value is not None and feature.role != "derived"
    }


def _fit(feature: Feature, value: Value | None) -> Value | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if feature.categories is not None:
        value = category_text(value)
    if feature.type == "boolean" and value in (0, 1):
        value = bool(value)
    try:
        return feature.decode(feature.encode(value))
    except ValueError:
        return None
