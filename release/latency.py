"""p99 from the counts of a histogram's buckets, and the windows in which both arms' are compared."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from release.rules import WINDOW_SCRAPES

Array = NDArray[np.float64]

QUANTILE: Final = 0.99
WINDOW_REQUESTS: Final = 300  # of each arm; fewer than three lie above their p99


class Windows(NamedTuple):
    """The windows of a course, (..., windows); a window too thin to tell is joined to the next and is NaN itself.

    ratio: canary's p99 over the baseline's; NaN also when both lie beyond the last edge, see `beyond`.
    """

    ratio: Array
    beyond: NDArray[np.bool_]


def p99(counts: Array, edges: Array) -> Array:
    """Return the 99th percentile of each histogram in seconds: (..., edges + 1) -> (...); inf beyond the last edge.

    counts: rankings in each bucket, the last one without an upper edge. Events of a bucket are taken as spread evenly.
    The rank is the one whose median is the true quantile (Hyndman and Fan, Am. Stat. 50, 1996, definition 8), so that
    an arm with less traffic looks neither faster nor slower for it.
    """
    cumulative = counts.cumsum(axis=-1)
    total = cumulative[..., -1]
    rank = np.clip(QUANTILE * (total + 1 / 3) - 1 / 6, 0.0, total)
    bucket = (cumulative >= rank[..., None]).argmax(axis=-1)
    within = np.take_along_axis(counts, bucket[..., None], axis=-1)[..., 0]
    above = np.take_along_axis(cumulative, bucket[..., None], axis=-1)[..., 0] - rank
    lower = np.concatenate([[0.0], edges])
    upper = np.concatenate([edges, [np.inf]])
    part = np.divide(above, within, out=np.zeros_like(above), where=within > 0)
    width = np.where(bucket < len(edges), upper[bucket] - lower[bucket], np.inf)
    finite = upper[bucket] - part * np.where(np.isfinite(width), width, 0.0)
    return np.where(total > 0, finite, np.nan)


def p99_bucket(counts: Array, edges: Array) -> tuple[float, float]:
    """Return the edges in seconds between which the p99 of one histogram lies; NaN of an empty one."""
    value = float(p99(counts, edges))
    if np.isnan(value):
        return np.nan, np.nan
    number = int(np.searchsorted(edges, value))
    bounds = np.concatenate([[0.0], edges, [np.inf]])
    return float(bounds[number]), float(bounds[number + 1])


def compare_windows(canary: Array, baseline: Array, edges: Array) -> Windows:
    """Compare the arms window by window.

    canary, baseline: rankings in each bucket at each look, (..., looks, edges + 1). Every `WINDOW_SCRAPES` looks are a
    window; looks that are left over are in none.
    """
    windows = canary.shape[-2] // WINDOW_SCRAPES
    shape = (*canary.shape[:-2], windows, WINDOW_SCRAPES, canary.shape[-1])
    ours, theirs = (arm[..., : windows * WINDOW_SCRAPES, :].reshape(shape).sum(axis=-2) for arm in (canary, baseline))
    ours, theirs, enough = _join_thin(ours, theirs)
    above, below = p99(ours, edges), p99(theirs, edges)
    beyond = enough & np.isinf(above) & np.isinf(below)
    comparable = enough & ~beyond
    # Where only the canary's is beyond the last edge the ratio is infinite, and where only the baseline's is, 0.
    ratio = np.divide(above, below, out=np.full_like(above, np.nan), where=comparable)
    return Windows(ratio, beyond)


def _join_thin(canary: Array, baseline: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Add windows with less than `WINDOW_REQUESTS` in an arm to the next; which ones are complete afterwards."""
    canary, baseline = canary.copy(), baseline.copy()
    enough = np.zeros(canary.shape[:-1], dtype=bool)
    for number in range(canary.shape[-2]):
        ours, theirs = canary[..., number, :], baseline[..., number, :]
        full = (ours.sum(axis=-1) >= WINDOW_REQUESTS) & (theirs.sum(axis=-1) >= WINDOW_REQUESTS)
        enough[..., number] = full
        if number + 1 < canary.shape[-2]:
            canary[..., number + 1, :] += np.where(full[..., None], 0.0, ours)
            baseline[..., number + 1, :] += np.where(full[..., None], 0.0, theirs)
    return canary, baseline, enough
