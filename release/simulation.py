"""Many canaries and baselines at once: what they would have counted, put through the judge's own arithmetic.

What the judge promises of its errors is measured with it, in the tests and by `python -m benchmarks.canary_power`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from release.collapse import collapsed
from release.judge import window_log_pays
from release.latency import compare_windows
from release.promotion import MARGINS, excess_rate, is_mismatch, median_ratio
from release.rules import FAMILIES, WINDOW_SCRAPES, Rules
from release.sequential import log_factor, log_pays

Array = NDArray[np.float64]

CHUNK: Final = 500  # runs that are in memory at once
# Seconds. Up to two thirds apart, as histograms usually are, and a tenth, which tells a p99 that is 5 % slower.
COARSE_EDGES: Final = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5,
)  # fmt: skip
E24: Final = (10, 11, 12, 13, 15, 16, 18, 20, 22, 24, 27, 30, 33, 36, 39, 43, 47, 51, 56, 62, 68, 75, 82, 91)
FINE_EDGES: Final = (*(step * decade for decade in (1e-4, 1e-3, 1e-2) for step in E24), 1.0, 2.5)
BAD_SHARES: Final = {"error": 5e-4, "shed": 2e-3, "expired": 5e-4, "cancelled": 1e-3, "invalid": 5e-3, "unusable": 0.0}


@dataclass(frozen=True)
class World:
    """What happens to a canary and its baseline.

    rate: the canary's requests a second. share: its share of the requests of both arms.
    bad: outcome -> share of the baseline's requests. times: outcome -> how many times that of the canary.
    slower: how many times longer each request of the canary takes. spread: of the logarithm of the durations.
    stragglers: share of requests that take about ten times as long.
    burst: how many bad events come at once. moving: whether the canary gets more replicas, and so a larger share, while
        everybody's bad events become five times as many.
    """

    rate: float = 100.0
    share: float = 0.5
    bad: Mapping[str, float] = field(default_factory=lambda: BAD_SHARES)
    times: Mapping[str, float] = field(default_factory=dict)
    slower: float = 1.0
    median_seconds: float = 0.004
    spread: float = 0.4
    stragglers: float = 0.003
    burst: int = 1
    moving: bool = False
    edges: Sequence[float] = COARSE_EDGES

    def buckets(self, slower: float) -> Array:
        """The probability of each bucket, the last without an edge."""
        logs = np.log(np.array(self.edges) / (self.median_seconds * slower))
        below = (1 - self.stragglers) * ndtr(logs / self.spread) + self.stragglers * ndtr(logs - math.log(10))
        return np.diff(below, prepend=0.0, append=1.0)


class Counts(NamedTuple):
    """Of many runs: events (arms, families, runs, looks) and durations (arms, runs, looks, edges + 1)."""

    events: Array
    durations: Array

    @property
    def finished(self) -> Array:
        return np.asarray(self.durations.sum(axis=-1))

    def of(self, runs: NDArray[np.bool_]) -> "Counts":
        return Counts(self.events[:, :, runs], self.durations[:, runs])

    def then(self, later: "Counts") -> "Counts":
        return Counts(
            np.concatenate([self.events, later.events], axis=-1),
            np.concatenate([self.durations, later.durations], axis=-2),
        )


class Ends(NamedTuple):
    """How each run ended, (runs,): PASS or FAIL, after how many looks, and the tests that FAILed it, (tests, runs)."""

    passed: NDArray[np.bool_]
    looks: NDArray[np.int64]
    tests: NDArray[np.bool_]


def draw(world: World, runs: int, looks: slice, rules: Rules, rng: np.random.Generator) -> Counts:
    """Draw the counts of some looks of many runs."""
    moments = np.arange(looks.start, looks.stop)
    halfway = (moments >= rules.looks // 2) & world.moving
    weight = np.where(halfway, 5.0, 1.0)
    rates = world.rate * rules.scrape_seconds * np.stack([weight, np.full(len(moments), 1 / world.share - 1)])
    durations = np.stack(
        [
            rng.poisson(rate[None, :, None] * world.buckets(slower), (runs, len(moments), len(world.edges) + 1))
            for rate, slower in zip(rates, (world.slower, 1.0), strict=True)
        ]
    ).astype(np.float64)
    finished, upper = durations.sum(axis=-1), np.array([0.0, *world.edges])
    events = []
    for family in FAMILIES:
        if family.name in ("slow", "very_slow"):
            limit = rules.slo_seconds * (1 if family.name == "slow" else 2)
            first = int(np.searchsorted(world.edges, limit - 1e-12))
            events.append(durations[..., upper >= world.edges[first]].sum(axis=-1))
        else:
            times = np.array([world.times.get(family.name, 1.0), 1.0])[:, None, None]
            mean = world.bad[family.name] * times * weight * finished / world.burst
            events.append(np.minimum(rng.poisson(mean) * float(world.burst), finished))
    return Counts(np.stack(events, axis=1), durations)


def run(world: World, runs: int, rules: Rules, seed: int) -> Ends:
    """Judge many runs to their ends."""
    chunks = [
        _run(world, min(CHUNK, runs - first), rules, np.random.default_rng((seed, first)))
        for first in range(0, runs, CHUNK)
    ]
    return Ends(*(np.concatenate(parts, axis=-1) for parts in zip(*chunks, strict=True)))


def _run(world: World, runs: int, rules: Rules, rng: np.random.Generator) -> Ends:
    ends = Ends(np.zeros(runs, bool), np.zeros(runs, np.int64), np.zeros((len(FAMILIES) + 1, runs), bool))
    alive = np.arange(runs)
    counts: Counts | None = None
    for period in range(1 + rules.extensions):
        later = draw(world, len(alive), slice(period * rules.looks, (period + 1) * rules.looks), rules, rng)
        counts = later if counts is None else counts.then(later)
        hits, tests = failures(counts, world, rules)
        passes = (hits > counts.events.shape[-1]) & promoted(counts, world, rules)
        over = passes | (hits <= counts.events.shape[-1])
        if period == rules.extensions:
            over[:] = True
        done = alive[over]
        ends.passed[done] = passes[over]
        ends.looks[done] = np.minimum(hits, counts.events.shape[-1])[over]
        ends.tests[:, done] = tests[:, over]
        alive, counts = alive[~over], counts.of(~over)
        if not len(alive):
            break
    return ends


def failures(counts: Counts, world: World, rules: Rules) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return after how many looks G1 or G2 FAIL each run (one more than there are: not yet), and which tests do."""
    needed, looks = math.log(rules.factor), counts.events.shape[-1]
    finished = counts.finished
    share = finished[0] / np.maximum(finished.sum(axis=0), 1.0)
    pays = log_pays(counts.events[0], counts.events[1], share, MARGINS[:, None, None])
    hits = np.full((len(FAMILIES) + 1, counts.events.shape[2]), looks + 1)
    every = np.broadcast_to(finished[:, None], counts.events.shape)
    crossed = (log_factor(pays.cumsum(axis=-2)) >= needed) | collapsed(counts.events, every)
    hits[:-1] = np.where(crossed.any(axis=-1), crossed.argmax(axis=-1) + 1, looks + 1)
    if not rules.hotfix:
        windows = window_log_pays(_windows(counts, world), rules).cumsum(axis=-2)
        crossed = log_factor(windows) >= needed
        hits[-1] = np.where(crossed.any(axis=-1), (crossed.argmax(axis=-1) + 1) * WINDOW_SCRAPES, looks + 1)
    first = hits.min(axis=0)
    return first, (hits == first) & (first <= looks)


def promoted(counts: Counts, world: World, rules: Rules) -> NDArray[np.bool_]:
    """Return which runs G3 lets pass, (runs,)."""
    every = np.broadcast_to(counts.finished[:, None], counts.events.shape)
    finished = counts.finished.sum(axis=-1)
    good = (finished >= rules.requests).all(axis=0)
    good &= (excess_rate(counts.events, every) <= rules.rate_bound).all(axis=0)
    if rules.hotfix:
        return np.asarray(good)
    if not world.moving:  # whose share is not a number
        good &= ~is_mismatch(finished, world.share, rules)
    return np.asarray(good & (median_ratio(_windows(counts, world)) <= rules.p99_ratio))


def _windows(counts: Counts, world: World) -> Array:
    return compare_windows(counts.durations[0], counts.durations[1], np.array(world.edges)).ratio
