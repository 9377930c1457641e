"""Ranking metrics: NDCG, MAP and MRR, one value for each query.

Rows of a query stand next to each other and `sizes` are the rows of each query, as in LightGBM. A higher score ranks
first and equal scores rank by position, the order that the service answers with. A query without a relevant row counts
as 1, as LightGBM counts it: no order of it is wrong.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Scores = NDArray[np.float64]
Sizes = NDArray[np.int64]


def ndcg(labels: Labels, scores: Scores, sizes: Sizes, k: int) -> NDArray[np.float64]:
    """Normalised discounted cumulative gain of the first `k` places: gain 2^label - 1, discount 1/log2(1 + place).

    Jarvelin and Kekalainen, "Cumulated gain-based evaluation of IR techniques", 2002; gains of Burges et al., 2005.
    """
    best = _discounted(labels, labels.astype(np.float64), sizes, k)
    got = _discounted(labels, scores, sizes, k)
    return np.divide(got, best, out=np.ones(len(sizes)), where=best > 0)


def average_precision(labels: Labels, scores: Scores, sizes: Sizes) -> NDArray[np.float64]:
    """Mean over the relevant rows (label above 0) of the share of such rows down to their place; its mean is MAP."""
    relevant = (labels > 0)[_ranked(scores, sizes)]
    found = np.cumsum(relevant)
    before: NDArray[np.int64] = np.repeat((found - relevant)[_starts(sizes)], sizes)
    precision = np.where(relevant, (found - before) / _places(sizes), 0.0)
    total = _sums(relevant.astype(np.float64), sizes)
    return np.divide(_sums(precision, sizes), total, out=np.ones(len(sizes)), where=total > 0)


def reciprocal_rank(labels: Labels, scores: Scores, sizes: Sizes) -> NDArray[np.float64]:
    """One over the place of the first relevant row (label above 0); its mean is MRR."""
    relevant = (labels > 0)[_ranked(scores, sizes)]
    first = np.maximum.reduceat(np.where(relevant, 1.0 / _places(sizes), 0.0), _starts(sizes))
    return np.where(first > 0, first, 1.0)


def per_query(labels: Labels, scores: Scores, sizes: Sizes) -> dict[str, NDArray[np.float64]]:
    """All metrics, each with a value for every query."""
    values = {f"ndcg@{k}": ndcg(labels, scores, sizes, k) for k in (1, 3, 5, 10)}
    values["map"] = average_precision(labels, scores, sizes)
    values["mrr"] = reciprocal_rank(labels, scores, sizes)
    return values


def summary(labels: Labels, scores: Scores, sizes: Sizes) -> dict[str, float]:
    """Average each metric over the queries: what a training run reports."""
    return means(per_query(labels, scores, sizes))


def means(values: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    return {name: float(each.mean()) for name, each in values.items()}


def _discounted(labels: Labels, scores: Scores, sizes: Sizes, k: int) -> NDArray[np.float64]:
    places = _places(sizes)
    gains = np.exp2(labels[_ranked(scores, sizes)]) - 1
    return _sums(np.where(places <= k, gains / np.log2(1 + places), 0.0), sizes)


def _ranked(scores: Scores, sizes: Sizes) -> NDArray[np.int64]:
    """Row numbers, query by query, best score first and equal scores by position (lexsort is stable)."""
    return np.lexsort((-scores, np.repeat(np.arange(len(sizes)), sizes)))


def _places(sizes: Sizes) -> NDArray[np.int64]:
    """1, 2, 3, ... within each query."""
    return np.arange(1, sizes.sum() + 1) - np.repeat(_starts(sizes), sizes)


def _starts(sizes: Sizes) -> NDArray[np.int64]:
    return np.cumsum(sizes) - sizes


def _sums(values: NDArray[np.float64], sizes: Sizes) -> NDArray[np.float64]:
    return np.add.reduceat(values, _starts(sizes))
