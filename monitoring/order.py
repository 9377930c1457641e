"""How alike two orders of the same candidates are."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]

TOP: Final = 10
COMPARED: Final = 64  # 2,016 pairs: more cost as their square and hardly tell more of how alike two models are
_CHUNK: Final = 256


def kendall_tau(one: Scores, other: Scores) -> float:
    """Kendall's tau-b of two scores of the same candidates, (n,) each: 1 the same order, -1 the opposite one.

    Kendall, "The treatment of ties in ranking problems", Biometrika 33, 1945. NaN where either knows no order. Time
    grows with the square of n: 5,000 candidates take a tenth of a second.
    """
    agreed = told_by_one = told_by_other = 0
    for start in range(0, len(one), _CHUNK):
        stop = start + _CHUNK
        ours, theirs = (np.sign(each[start:stop, None] - each[None, :]).astype(np.int8) for each in (one, other))
        agreed += int((ours * theirs).sum(dtype=np.int64))
        told_by_one += int(np.count_nonzero(ours))
        told_by_other += int(np.count_nonzero(theirs))
    if not told_by_one or not told_by_other:
        return math.nan
    return agreed / math.sqrt(told_by_one) / math.sqrt(told_by_other)


def top_overlap(one: Scores, other: Scores, k: int) -> float:
    """The share of the first k candidates of one order that are among the first k of the other; ties by position."""
    size = min(k, len(one))
    if not size:
        return math.nan
    return len(set(best(one, size)) & set(best(other, size))) / size


def best(scores: Scores, k: int) -> list[int]:
    """The places of the k best scores, best first; equal ones keep their order, as in an answer of the service."""
    found: list[int] = (-scores).argsort(kind="stable")[:k].tolist()
    return found


class Agreement(NamedTuple):
    """How alike two models rank: Kendall's tau of the first 64 candidates, and the overlap of the first ten places."""

    tau: float
    overlap: float


def agreements(served: Sequence[Scores], shadow: Sequence[Scores]) -> list[Agreement]:
    """Compare the scores of each of some requests by the model that answered and by one that only looked on.

    The taus of all of them are computed at once: alone, one costs as much as ten.
    """
    width = min(COMPARED, max(map(len, served), default=0))
    ours, theirs = (_above(_padded(scores, width)) for scores in (served, shadow))
    agreed = _pairs(ours & theirs) - _pairs(ours & theirs.transpose(0, 2, 1))
    told = np.sqrt(_pairs(ours) * _pairs(theirs))
    with np.errstate(invalid="ignore"):
        taus = (agreed / told).tolist()  # 0 / 0 is NaN: a model that knows no order
    overlaps = [top_overlap(one, other, TOP) for one, other in zip(served, shadow, strict=True)]
    return list(map(Agreement, taus, overlaps))


def _padded(scores: Sequence[Scores], width: int) -> Scores:
    """(requests, width): NaN, which is above nothing, behind those that have fewer."""
    table = np.full((len(scores), width), np.nan)
    for row, one in zip(table, scores, strict=True):
        row[: len(one)] = one[:width]
    return table


def _above(table: Scores) -> NDArray[np.bool_]:
    """(requests, width, width): whether a candidate is above another one."""
    return table[:, :, None] > table[:, None, :]


def _pairs(flags: NDArray[np.bool_]) -> Scores:
    return np.array([np.count_nonzero(each) for each in flags], np.float64)  # with an axis it takes twice as long
