"""Whether one model ranks better than another: the same queries, metric by metric, with what chance may have done."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000
CONFIDENCE = 0.95


class Difference(NamedTuple):
    """The mean difference of a metric over queries, and an interval that holds it with 95 % confidence."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.4f} ({self.low:+.4f} to {self.high:+.4f})"


def difference(new: NDArray[np.float64], old: NDArray[np.float64], *, seed: int = 0) -> Difference:
    """How much better `new` is than `old`, both (queries,) values of one metric on the same queries.

    The paired percentile bootstrap: queries are drawn with replacement, 2,000 times (Efron and Tibshirani, "An
    Introduction to the Bootstrap", 1993, chapter 13; for rankings: Sakai, "Evaluating evaluation metrics based on the
    bootstrap", SIGIR 2006). The same values give the same interval.
    """
    gains = new - old
    random = np.random.default_rng(seed)
    means = [gains[random.integers(len(gains), size=len(gains))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Difference(float(gains.mean()), float(low), float(high))
