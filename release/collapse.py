"""A canary that fails nearly everybody: found within three looks, where the sequential test needs its dozen."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

LOOKS: Final = 3
BAD_SHARE: Final = 0.5  # of the canary's requests, in each of the looks
FINE_SHARE: Final = 0.1  # of the baseline's, at most: otherwise it is the world that fails
LEAST_REQUESTS: Final = 20  # of each arm in each look


def collapsed(events: NDArray[np.float64], finished: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return when a family was out of all proportion for `LOOKS` looks: (arms, ..., looks) -> (..., looks).

    No chance is computed: short of an outage, two fair arms with so many requests do not differ by so much so long.
    """
    bad = (events[0] > BAD_SHARE * finished[0]) & (events[1] < FINE_SHARE * finished[1])
    bad &= (finished >= LEAST_REQUESTS).all(axis=0)
    held = np.zeros_like(bad)
    if bad.shape[-1] >= LOOKS:
        held[..., LOOKS - 1 :] = np.all([bad[..., n : bad.shape[-1] - LOOKS + 1 + n] for n in range(LOOKS)], axis=0)
    return np.asarray(held)
