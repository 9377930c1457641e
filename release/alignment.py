"""Both arms on one clock: what each of them had counted at each look, whenever its targets happened to be scraped."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from release.evidence import COUNTS, OUTCOMES, Evidence, Scrape, Target
from release.rules import FAMILIES, Rules

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Read = Callable[[Scrape], float | None]

ARMS: Final = ("canary", "baseline")
NEIGHBOURS_SCRAPES: Final = 1.5  # further apart, one is missing between two scrapes
SETTLED_SCRAPES: Final = 1.5  # after a look, what was to be scraped around it is there, or missing
ALL: Final = "inf"  # the bucket that holds every ranking


@dataclass(frozen=True)
class Course:
    """What both arms counted, on one clock. Arms are in the order of `ARMS`, families in that of `FAMILIES`.

    moments: (looks + 1,) seconds since the epoch; counting begins at the first.
    events, finished: (arms, families, looks) bad events, and finished rankings, since the look before. Where an arm
        misses one of them, both arms wait for the next look that has all: they always cover the same time.
    offered: (arms, looks) and durations: (arms, looks, edges + 1) rankings in each bucket, likewise.
    missing: what is needed -> (looks + 1,) whether an arm misses it at a look.
    edges: seconds; the ones that all targets have. slow_over: those that count for `slow` and `very_slow`.
    targets: (arms, looks + 1) how many there are.
    """

    moments: Array
    events: Array
    finished: Array
    offered: Array
    durations: Array
    missing: Mapping[str, Flags]
    edges: Array
    slow_over: tuple[float, float]
    targets: NDArray[np.int64]

    @property
    def looks(self) -> int:
        return len(self.moments) - 1


def align(evidence: Evidence) -> Course:
    """Return the course of the evidence, up to the last look around which everything had its time to be scraped."""
    rules, arms = evidence.rules, evidence.arms.values()
    moments = look_moments(rules, evidence.start, evidence.end)
    edges = _common_edges([*evidence.canary, *evidence.baseline])
    slow_over = (_edge_from(edges, rules.slo_seconds), _edge_from(edges, 2 * rules.slo_seconds))

    def counted(read: Read) -> Array:
        return np.stack([_arm(targets, read, evidence.start, moments, rules.scrape_seconds) for targets in arms])

    counts = {name: counted(partial(_count, name=name)) for name in COUNTS}
    finished = np.sum([counts[outcome] for outcome in OUTCOMES], axis=0)
    below = {edge: counted(partial(_no_longer_than, edge=repr(edge))) for edge in [*edges.tolist(), math.inf]}
    counts["slow"], counts["very_slow"] = (
        below[math.inf] - below[edge] if edge < math.inf else np.full_like(finished, np.nan) for edge in slow_over
    )
    families = [_since_last(np.stack([counts[family.name], finished])) for family in FAMILIES]
    cumulative = np.stack(list(below.values()))
    states = {name: counted(partial(_is_known, name=name)) for name in _states(rules)}
    needed = {"durations": cumulative.sum(axis=0), "offered": counts["offered"], "finished": finished, **states}
    needed |= {family.name: counts[family.name] for family in FAMILIES}
    return Course(
        moments=moments,
        events=np.stack([family[0] for family in families], axis=1),
        finished=np.stack([family[1] for family in families], axis=1),
        offered=_since_last(counts["offered"][None])[0],
        durations=np.moveaxis(np.maximum(np.diff(_since_last(cumulative), axis=0, prepend=0.0), 0.0), 0, -1),
        missing={name: np.isnan(values).any(axis=0) for name, values in needed.items()},
        edges=edges,
        slow_over=slow_over,
        targets=np.array([[_present(targets, moment) for moment in moments] for targets in arms]),
    )


def look_moments(rules: Rules, start: float, end: float) -> Array:
    """Return when the looks are, and before them the moment at which every target was scraped once."""
    origin = start + rules.scrape_seconds
    settled = math.floor((end - origin) / rules.scrape_seconds - SETTLED_SCRAPES + 1e-6)
    looks = max(0, min(settled, rules.looks * (1 + rules.extensions)))
    return np.asarray(origin + rules.scrape_seconds * np.arange(looks + 1), dtype=np.float64)


def _count(scrape: Scrape, *, name: str) -> float | None:
    return scrape.counts.get(name)


def _no_longer_than(scrape: Scrape, *, edge: str) -> float | None:
    return scrape.durations.get(edge)


def _is_known(scrape: Scrape, *, name: str) -> float | None:
    known = getattr(scrape, name)
    return None if known is None or known == {} else 0.0


def _states(rules: Rules) -> Sequence[str]:
    models = ("models", "golden") if rules.code_only else ()
    return ("started_at", "ready", "code_version", *models)


def _common_edges(targets: Sequence[Target]) -> Array:
    """The finite edges that every target's histogram has: a release may change them."""
    found = [{edge for scrape in target.scrapes for edge in scrape.durations} - {ALL} for target in targets]
    return np.array(sorted(float(edge) for edge in set.intersection(*found)) if found else [], dtype=np.float64)


def _edge_from(edges: Array, seconds: float) -> float:
    return float(min(edges[edges >= seconds], default=math.inf))


def _present(targets: Sequence[Target], moment: float) -> int:
    return sum(bool(target.scrapes) and target.scrapes[0].at <= moment for target in targets)


def _arm(targets: Sequence[Target], read: Read, start: float, moments: Array, scrape_seconds: float) -> Array:
    """What all targets had counted at each moment since the first; NaN where one misses it, or none is there."""
    values = [_target(target, read, start, moments, scrape_seconds) for target in targets]
    there = np.array([_present(targets, moment) > 0 for moment in moments], dtype=bool)
    return np.where(there, np.sum(values, axis=0) if values else 0.0, np.nan)


def _target(target: Target, read: Read, start: float, moments: Array, scrape_seconds: float) -> Array:
    """What a target had counted when it was last scraped. One that joins late counts from its first scrape.

    Nothing is interpolated: a burst that came in one scrape must not be spread over two looks, where it would be
    evidence twice.
    """
    scrapes = [scrape for scrape in target.scrapes if scrape.at >= start]
    absent = moments < (scrapes[0].at if scrapes else math.inf)
    points = [(scrape.at, value) for scrape in scrapes if (value := read(scrape)) is not None and math.isfinite(value)]
    if not points:
        return np.where(absent, 0.0, np.nan)
    times, values = np.array(points, dtype=np.float64).T
    after = np.minimum(np.searchsorted(times, moments), len(times) - 1)
    before = np.where(times[after] <= moments, after, np.maximum(after - 1, 0))
    bracketed = (times[before] <= moments) & (moments <= times[after])
    known = bracketed & (times[after] - times[before] <= NEIGHBOURS_SCRAPES * scrape_seconds)
    counted = np.where(known, values[before], np.nan)
    joined = bool(absent[0]) or not known.any()
    base = values[0] if joined else counted[known][0]
    return np.where(absent, 0.0, counted - base)


def _since_last(counted: Array) -> Array:
    """Differences from look to look of (quantities, arms, looks + 1), of moments at which nothing is missing."""
    complete = np.asarray(np.isfinite(counted).all(axis=(0, 1)))
    last = np.maximum.accumulate(np.where(complete, np.arange(len(complete)), -1))
    held = np.where(last >= 0, np.where(complete, counted, 0.0)[..., last], 0.0)
    # A counter falls only when its process was started again, which ends the judging before the look is reached.
    return np.asarray(np.maximum(np.diff(held, axis=-1), 0.0))
