"""The training profile: how each feature and the score were distributed, which serving compares its traffic with."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from registry import Feature

BINS = 10


def profile(features: Sequence[Feature], matrix: NDArray[np.float64], scores: NDArray[np.float64]) -> dict[str, Any]:
    """Count what `profile.json` holds, for the training matrix (rows, features) and its scores (rows,).

    A number has up to 10 bins: one for each value where there are at most 10 different ones, else the training deciles
    (equal deciles are one). Bin i holds edges[i] < value <= edges[i + 1] and the first one edges[0] too, so
    `searchsorted(edges[1:], value)` is the bin; what is below the first or above the last edge is out of range. Every
    edge is a value that training saw. A category has one count for each of its values. Missing ones are counted beside.
    """
    columns = zip(features, matrix.T, strict=True)
    return {
        "format": 1,
        "rows": len(matrix),
        "features": {feature.name: _column(feature, column) for feature, column in columns},
        "score": _bins(scores),
    }


def _column(feature: Feature, column: NDArray[np.float64]) -> dict[str, Any]:
    return _bins(column) if feature.categories is None else _categories(feature.categories, column)


def _categories(categories: Sequence[str], column: NDArray[np.float64]) -> dict[str, Any]:
    known = column[~np.isnan(column)].astype(np.int64)
    counts = np.bincount(known, minlength=len(categories))
    return {
        "categories": dict(zip(categories, counts.tolist(), strict=True)),
        "missing": len(column) - len(known),
    }


def _bins(column: NDArray[np.float64]) -> dict[str, Any]:
    known = column[~np.isnan(column)]
    upper = np.unique(known)
    if len(upper) > BINS:
        upper = np.unique(np.quantile(known, np.arange(1, BINS + 1) / BINS, method="inverted_cdf"))
    return {
        "edges": [float(known.min()), *upper.tolist()],
        "counts": np.bincount(np.searchsorted(upper, known), minlength=len(upper)).tolist(),
        "missing": len(column) - len(known),
        "out_of_range": 0,
    }
