"""Scores in order."""

from typing import Any

import numpy as np
from numba import int64
from numpy.typing import NDArray

from app.words import BARE
from scoring.kernel_cache import compiled

FEW = 100  # scores that are ordered sooner by comparing each with all, many at once, than by sorting them

Floats = NDArray[np.float64]
Places = NDArray[np.int64]


def best_first(scores: Floats) -> Places:
    """Indexes from the highest score to the lowest, NaN last; ties keep their order."""
    if len(scores) <= FEW:
        order = np.empty(len(scores), np.int64)
        order_few(scores, order)
        return order
    order = (-scores).argsort()  # without regard to ties: half the time, if there are none
    ordered = scores[order]
    if (ordered[:-1] > ordered[1:]).all():
        return order
    return (-scores).argsort(kind="stable")


def _order_few(scores, order):  # type: ignore[no-untyped-def]
    """A score's place is the number of higher ones, or the next that no equal one before it has."""
    order[:] = -1
    for index in range(scores.size):
        place = int64(0)
        for other in range(scores.size):
            place += int64(scores[other] > scores[index])
        if np.isnan(scores[index]):  # nothing is higher, and yet it is behind all others
            for other in range(scores.size):
                place += int64(scores[other] == scores[other])
        while order[place] >= 0:
            place += 1
        order[place] = index


order_few: Any = compiled(_order_few, **BARE)
best_first(np.zeros(1))  # compiles
