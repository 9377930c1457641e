"""Estimates with 95 % confidence intervals: shares, means, and their differences."""

import math
from typing import Final, NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CONFIDENCE: Final = 0.95
_Z: Final = float(scipy.stats.norm.isf((1 - CONFIDENCE) / 2))


class Estimate(NamedTuple):
    """A value, and the interval that holds the true one with 95 % confidence. All NaN where nothing is known."""

    value: float
    low: float
    high: float

    @property
    def is_known(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def is_above_zero(self) -> bool:
        return self.low > 0

    @property
    def is_below_zero(self) -> bool:
        return self.high < 0


UNKNOWN: Final = Estimate(math.nan, math.nan, math.nan)


def share(successes: int, trials: int) -> Estimate:
    """The score interval of a share (Wilson, JASA 22, 1927)."""
    if not trials:
        return UNKNOWN
    p = successes / trials
    center = (p + _Z**2 / (2 * trials)) / (1 + _Z**2 / trials)
    half = _Z / (1 + _Z**2 / trials) * math.sqrt(p * (1 - p) / trials + _Z**2 / (4 * trials**2))
    return Estimate(p, max(0.0, center - half), min(1.0, center + half))


def share_difference(one: Estimate, other: Estimate) -> Estimate:
    """How much larger the first of two `share`s is (Newcombe, Statistics in Medicine 17, 1998, method 10)."""
    difference = one.value - other.value
    down = math.hypot(one.value - one.low, other.high - other.value)
    up = math.hypot(one.high - one.value, other.value - other.low)
    return Estimate(difference, difference - down, difference + up)


def mean(values: Floats) -> Estimate:
    """The t interval of a mean of independent values, (n,)."""
    if len(values) < 2:
        return UNKNOWN
    half = float(scipy.stats.t.isf((1 - CONFIDENCE) / 2, len(values) - 1)) * _standard_error(values)
    value = float(values.mean())
    return Estimate(value, value - half, value + half)


def mean_difference(one: Floats, other: Floats) -> Estimate:
    """How much larger the first of two means is, their spreads need not be equal (Welch, Biometrika 34, 1947)."""
    if len(one) < 2 or len(other) < 2:
        return UNKNOWN
    a, b = _standard_error(one) ** 2, _standard_error(other) ** 2
    value = float(one.mean() - other.mean())
    if a + b == 0:
        return Estimate(value, value, value)
    degrees = (a + b) ** 2 / (a**2 / (len(one) - 1) + b**2 / (len(other) - 1))
    half = float(scipy.stats.t.isf((1 - CONFIDENCE) / 2, degrees)) * math.sqrt(a + b)
    return Estimate(value, value - half, value + half)


def _standard_error(values: Floats) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))
