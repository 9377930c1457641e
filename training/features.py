"""Model features from a table: their roles, types and categories, and rows as the model sees them."""

from collections.abc import Collection, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from registry import Feature, Value
from training.errors import TableError
from training.tables import RankingTable


def infer_features(
    table: RankingTable, context: Sequence[str] | None = None, *, catalog: Collection[str] = ()
) -> tuple[Feature, ...]:
    """List the features of a table, in the order of its columns.

    Texts are categories, in sorted order. `context` names the features that are the same for all candidates of a
    request; when None they are the columns of a named table that never vary within a query and do between queries,
    without those of the `catalog`: a city that was searched for is still a property of the activities found there.
    What the table derived from histories is as it was declared there.

    Raises `TableError` when a named context column is missing or varies within a query.
    """
    derived = {feature.name for feature in table.derived}
    names = [name for name in table.columns.column_names if name not in derived]
    if context is not None:
        _check_context(table, context)
        found = [_feature(table, name, is_context=name in context) for name in names]
    else:
        found = [
            _feature(table, name, is_context=table.named and name not in catalog and _is_context(table, name))
            for name in names
        ]
    return (*found, *table.derived)


def encode(table: RankingTable, features: Sequence[Feature]) -> NDArray[np.float64]:
    """Make the rows of a table into those of a model of these features: (rows, features), C-contiguous.

    A category is its index in `categories`; missing values and categories that the model does not know are NaN.
    Raises `TableError` when the table lacks a feature or holds texts for a number.
    """
    names = table.columns.column_names
    if missing := [feature.name for feature in features if feature.name not in names]:
        raise TableError(table.path, [f"feature {name!r} is missing" for name in missing])
    matrix = np.empty((table.rows, len(features)))
    for index, feature in enumerate(features):
        matrix[:, index] = _encode_column(table, feature)
    return matrix


def model_frame(matrix: NDArray[np.float64], features: Sequence[Feature]) -> pd.DataFrame:
    """Give the same rows as LightGBM learns from: category columns, so that the booster remembers its categories."""
    columns = zip(features, matrix.T, strict=True)
    return pd.DataFrame({feature.name: _model_column(feature, column) for feature, column in columns})


def readable(matrix: NDArray[np.float64], features: Sequence[Feature]) -> list[dict[str, Value]]:
    """Write rows as a caller does: feature -> text, number or boolean, missing ones left out."""
    return [_readable_row(row, features) for row in matrix.tolist()]


def _readable_row(row: Sequence[float], features: Sequence[Feature]) -> dict[str, Value]:
    values = {feature.name: feature.decode(number) for feature, number in zip(features, row, strict=True)}
    return {name: value for name, value in values.items() if value is not None}


def _feature(table: RankingTable, name: str, *, is_context: bool) -> Feature:
    column = table.columns[name]
    role: Literal["context", "activity"] = "context" if is_context else "activity"
    if pa.types.is_string(column.type):
        return Feature(name, role, "category", tuple(sorted(pc.unique(column.drop_null()).to_pylist())))
    if pa.types.is_boolean(column.type):
        return Feature(name, role, "boolean", None)
    return Feature(name, role, "integer" if pa.types.is_integer(column.type) else "number", None)


def _check_context(table: RankingTable, context: Sequence[str]) -> None:
    names = table.columns.column_names
    faults = [f"context column {name!r} is missing" for name in context if name not in names]
    for name in context:
        if name in names and (varying := _varying_queries(table, name)).any():
            row = int(table.starts[varying.argmax()]) + 1
            faults.append(
                f"context column {name!r} varies within {varying.sum():,} of {table.queries:,} queries, "
                f"first in the one that starts in row {row:,} (queries put together)"
            )
    if faults:
        raise TableError(table.path, faults)


def _is_context(table: RankingTable, name: str) -> bool:
    first = _codes(table.columns[name])[table.starts]
    return bool((first != first[0]).any()) and not _varying_queries(table, name).any()


def _varying_queries(table: RankingTable, name: str) -> NDArray[np.bool_]:
    """Say for each query whether this column has more than one value in it."""
    codes = _codes(table.columns[name])
    varies = codes != np.repeat(codes[table.starts], table.sizes)
    return np.logical_or.reduceat(varies, table.starts)


def _codes(column: Any) -> NDArray[np.int64]:
    """Equal numbers for equal values; missing is a value of its own."""
    combined = pc.fill_null(column, float("nan")) if pa.types.is_floating(column.type) else column
    encoded = combined.combine_chunks().dictionary_encode()
    return np.asarray(pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False), dtype=np.int64)


def _encode_column(table: RankingTable, feature: Feature) -> NDArray[np.float64]:
    column = table.columns[feature.name]
    if feature.categories is not None:
        column = pc.index_in(column.cast(pa.string()), value_set=pa.array(feature.categories, pa.string()))
    elif pa.types.is_string(column.type):
        raise TableError(table.path, [f"feature {feature.name!r} holds texts and the model wants a {feature.type}"])
    return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy())


def _model_column(feature: Feature, column: NDArray[np.float64]) -> "NDArray[np.float64] | pd.Categorical[str]":
    if feature.categories is None:
        return column
    codes: NDArray[np.int64] = np.where(np.isnan(column), -1, column).astype(np.int64)
    return pd.Categorical.from_codes(codes, categories=pd.Index(list(feature.categories)))
