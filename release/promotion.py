"""G3: what a canary has to have shown before it is promoted. Whatever it has not shown is said, with the numbers.

The arithmetic takes arrays with further dimensions, of many runs.
"""

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc, gammaincinv

from release.alignment import ARMS, Course
from release.evidence import Evidence
from release.hard_faults import seen_digests
from release.latency import Windows, p99_bucket
from release.rules import CONFIDENCE, FAMILIES, WINDOW_SCRAPES, Rules
from release.verdict import Reason

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

LEAST_WINDOWS: Final = 5
MISMATCH: Final = 0.001  # the probability of a split so uneven, below which it is no accident
BUCKET_TOLERANCES: Final = 10  # a bucket at the p99 may be so many times as wide as the excess that is tolerated

MARGINS: Final = np.array([family.margin for family in FAMILIES])


def shortfalls(evidence: Evidence, course: Course, windows: Windows, look: int) -> list[Reason]:
    """Return what is not shown at the end of a period, after `look` looks; nothing: the canary passes."""
    gaps = [*_missing(evidence.rules, course, look), *_requests(evidence.rules, course, look)]
    gaps += [*_rates(evidence.rules, course, look), *_states(evidence, course.moments[look])]
    if not evidence.rules.hotfix:
        gaps += [*_latency(evidence.rules, course, windows, look), *_share(evidence.rules, course, look)]
    return gaps


def excess_rate(events: Array, requests: Array) -> Array:
    """Return how far each family's rate may lie above what is tolerated of the baseline: (arms, families, ..., looks).

    Both rates are taken at their upper 99 % bound (Garwood 1936, of a Poisson count), the baseline's as if it had had
    the canary's requests in every look, so that neither chance nor traffic that moves between arms counts for one of
    them. Without any event it is below 4.605 / requests. The last dimension is summed up.
    """
    canary, baseline = requests
    scaled = np.divide(events[1] * canary, baseline, out=np.zeros_like(canary), where=baseline > 0).sum(axis=-1)
    margins = MARGINS.reshape(-1, *[1] * (canary.ndim - 2))
    upper = gammaincinv(events[0].sum(axis=-1) + 1, CONFIDENCE) - margins * gammaincinv(scaled + 1, CONFIDENCE)
    total = canary.sum(axis=-1)
    return np.asarray(np.divide(upper, total, out=np.full_like(total, np.inf), where=total > 0))


def split_probability(offered: Array, share: Array | float) -> Array:
    """Return how probable a split at least as uneven is (chi-square, one degree of freedom): (arms, ...) -> (...)."""
    total = offered.sum(axis=0)
    variance = np.maximum(total * share * (1 - share), 1e-9)
    return np.asarray(erfc(np.abs(offered[0] - total * share) / np.sqrt(2 * variance)))


def is_mismatch(offered: Array, share: Array | float, rules: Rules) -> Flags:
    """Return whether the canary did not get its share of the requests: (arms, ...) -> (...).

    It has to be off by more than `share_tolerance`, too: a balancer that spreads connections splits requests less
    evenly than chance would, always.
    """
    off = np.abs(offered[0] / np.maximum(offered.sum(axis=0), 1.0) / share - 1)
    return np.asarray((split_probability(offered, share) < MISMATCH) & (off > rules.share_tolerance))


def median_ratio(ratio: Array) -> Array:
    """Return the median p99 ratio of (..., windows); NaN where fewer than `LEAST_WINDOWS` could be compared."""
    enough = (~np.isnan(ratio)).sum(axis=-1) >= LEAST_WINDOWS
    middle = np.nanmedian(np.where(enough[..., None], ratio, 1.0), axis=-1) if ratio.shape[-1] else np.nan
    return np.asarray(np.where(enough, middle, np.nan))


def expected_share(rules: Rules, course: Course, look: int) -> float:
    """Return the canary's share of the requests of both arms: as the rules say, or by the number of targets."""
    if rules.share is not None:
        return rules.share
    targets = course.targets[:, : look + 1].sum(axis=1)
    return float(targets[0] / targets.sum()) if targets.all() else 0.5


def _missing(rules: Rules, course: Course, look: int) -> Iterator[Reason]:
    """A gap costs the period that it is in: the next may show what this one could not."""
    period = slice(max(0, look - rules.looks), look + 1)
    for name, missing in course.missing.items():
        if count := int(missing[period].sum()):
            yield Reason("G3", name, f"no evidence of {name} at {count} of {len(missing[period])} looks of this period")


def _requests(rules: Rules, course: Course, look: int) -> Iterator[Reason]:
    finished = course.durations[:, :look].sum(axis=(1, 2))
    for arm, count in zip(ARMS, finished, strict=True):
        if count < rules.requests:
            yield Reason("G3", "requests", f"{count:,.0f} requests of the {arm}, and {rules.requests:,} are needed")


def _rates(rules: Rules, course: Course, look: int) -> Iterator[Reason]:
    events = course.events[..., :look]
    excesses = excess_rate(events, course.finished[..., :look])
    for family, excess, seen in zip(FAMILIES, excesses, events.sum(axis=-1).T, strict=True):
        if not excess <= rules.rate_bound:
            yield Reason(
                "G3",
                family.name,
                f"{seen[0]:,.0f} {family.says}, and {seen[1]:,.0f} of the baseline: its rate may be {excess:.2%} too "
                f"high, and only {rules.rate_bound:.1%} may be left open",
            )


def _states(evidence: Evidence, moment: float) -> Iterator[Reason]:
    for target in evidence.canary:
        known = [scrape.ready for scrape in target.scrapes if scrape.at <= moment and scrape.ready is not None]
        if known and known[-1] != 1:
            yield Reason("G3", "ready", f"{target.name} is not ready")
    if evidence.rules.code_only:
        ours, theirs = seen_digests(evidence.canary), seen_digests(evidence.baseline)
        for what, variant in sorted(ours.keys() ^ theirs.keys()):
            yield Reason("G3", what, f"{what} of {variant} are known of one arm alone, and must be equal in both")


def _latency(rules: Rules, course: Course, windows: Windows, look: int) -> Iterator[Reason]:
    closed = slice(0, look // WINDOW_SCRAPES)
    ratio = windows.ratio[closed]
    median = float(median_ratio(ratio))
    if math.isnan(median):
        count = int((~np.isnan(ratio)).sum())
        yield Reason("G3", "p99", f"{count} windows with a p99 of both arms, and {LEAST_WINDOWS} are needed")
    elif median > rules.p99_ratio:
        yield Reason("G3", "p99", f"the p99 is {median:.3f} times the baseline's, and {rules.p99_ratio:g} is tolerated")
    if beyond := int(windows.beyond[closed].sum()):
        yield Reason("G3", "p99", f"in {beyond} windows the p99 of both arms was beyond the last bucket")
    lower, upper = p99_bucket(course.durations[1, :look].sum(axis=0), course.edges)
    if upper > lower * (widest := 1 + BUCKET_TOLERANCES * (rules.p99_ratio - 1)) or math.isnan(upper):
        yield Reason(
            "G3",
            "p99",
            f"the p99 lies in the bucket from {lower * 1e3:g} to {upper * 1e3:g} ms, too wide to tell a ratio of "
            f"{rules.p99_ratio:g}: its edges may be {widest:.2f} times apart",
        )


def _share(rules: Rules, course: Course, look: int) -> Iterator[Reason]:
    offered, share = course.offered[:, :look].sum(axis=1), expected_share(rules, course, look)
    if is_mismatch(offered, share, rules):
        yield Reason(
            "G3",
            "share",
            f"the canary got {offered[0] / offered.sum():.2%} of the requests of both arms instead of {share:.2%} "
            f"(the probability of that by chance: {split_probability(offered, share):.1g})",
        )
