"""What a difference between two arms is that were measured in turns, with how sure that is."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RESAMPLES: Final = 1_000
SURE: Final = (0.025, 0.975)
SEED: Final = 1


class Interval(NamedTuple):
    """An estimate, and where it lies in 95 of 100 bootstrap samples."""

    value: float
    low: float
    high: float


def median_of(values: Sequence[float]) -> Interval:
    """The median of independent values, by the percentile bootstrap (Efron, 1979)."""
    each = np.array(values)
    drawn = np.random.default_rng(SEED).integers(len(each), size=(RESAMPLES, len(each)))
    return _interval(float(np.median(each)), np.median(each[drawn], axis=1))


def p99_ratio(ours: Sequence[Floats], theirs: Sequence[Floats]) -> Interval:
    """The p99 of all that is in the stretches of one arm to that of the other, a pair of stretches at a time.

    Whole pairs are drawn (a block bootstrap), because the latencies of a stretch resemble each other: what slows one
    slows many.
    """
    table = _Table(ours), _Table(theirs)
    random = np.random.default_rng(SEED)
    drawn = [np.bincount(random.integers(len(ours), size=len(ours)), minlength=len(ours)) for _ in range(RESAMPLES)]
    one, other = ([each.p99(times) for times in (np.ones(len(ours), np.int64), *drawn)] for each in table)
    ratios = np.array(one) / np.array(other)
    return _interval(float(ratios[0]), ratios[1:])


class _Table:
    """All latencies of an arm in order, with the stretch of each: a quantile of any mixture is one pass."""

    def __init__(self, stretches: Sequence[Floats]) -> None:
        values = np.concatenate(stretches)
        stretch = np.repeat(np.arange(len(stretches)), [len(one) for one in stretches])
        order = values.argsort(kind="stable")
        self._values, self._stretch = values[order], stretch[order]

    def p99(self, times: npt.NDArray[np.int64]) -> float:
        """Of a sample that has each stretch so many times."""
        upto = times[self._stretch].cumsum()
        return float(self._values[np.searchsorted(upto, np.ceil(0.99 * upto[-1]))])


def _interval(value: float, resampled: Floats) -> Interval:
    low, high = np.quantile(resampled, SURE)
    return Interval(value, float(low), float(high))
