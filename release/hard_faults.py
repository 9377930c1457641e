"""What ends the judging at once, whatever the counts say: restarts, lost readiness, wrong code, silence."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from release.evidence import Evidence, Scrape, Target
from release.rules import Rules

MISSED_SCRAPES: Final = 3  # may be missed by a target, all in all
SAME_START_SECONDS: Final = 1.0


class Fault(NamedTuple):
    """`at`: seconds since the epoch from which on it is known."""

    at: float
    arm: str
    says: str


def hard_faults(evidence: Evidence) -> list[Fault]:
    """Return every hard fault of both arms, in order of time."""
    return sorted(fault for arm in evidence.arms for fault in _arm_faults(evidence, arm))


def seen_digests(targets: Iterable[Target]) -> dict[tuple[str, str], dict[str, float]]:
    """Return (`models` or `golden`, variant) -> each digest that was seen, and when it was first."""
    seen: dict[tuple[str, str], dict[str, float]] = {}
    for target in targets:
        for scrape in target.scrapes:
            for what, digests in (("models", scrape.models), ("golden", scrape.golden)):
                for variant, digest in digests.items():
                    moments = seen.setdefault((what, variant), {})
                    moments[digest] = min(scrape.at, moments.get(digest, math.inf))
    return seen


def _arm_faults(evidence: Evidence, arm: str) -> Iterator[Fault]:
    rules, targets = evidence.rules, evidence.arms[arm]
    expected = rules.canary_code if arm == "canary" else rules.baseline_code
    if not any(target.scrapes for target in targets):
        yield from (
            Fault(at, arm, f"no target was ever scraped in {evidence.end - evidence.start:.0f} s")
            for at in _silence(evidence.start, [], rules, evidence.end)
        )
    for target in targets:
        scrapes = [scrape for scrape in target.scrapes if scrape.at >= evidence.start]
        if scrapes:
            for fault in (*_restarts(scrapes), *_flaps(scrapes), *_wrong_code(scrapes, expected)):
                yield Fault(fault[0], arm, f"{target.name} {fault[1]}")
            yield from _missed(target.name, scrapes, evidence, arm)
    if arm == "canary" and rules.code_only:
        yield from _changed_models(targets, evidence.baseline)


Found = tuple[float, str]


def _restarts(scrapes: Sequence[Scrape]) -> Iterator[Found]:
    for earlier, later in pairwise(scrape for scrape in scrapes if scrape.started_at is not None):
        assert earlier.started_at is not None and later.started_at is not None  # noqa: PT018 one thought
        if abs(later.started_at - earlier.started_at) > SAME_START_SECONDS:
            yield later.at, f"was restarted: its process is {later.started_at - earlier.started_at:.0f} s younger"
    highest: dict[str, float] = {}
    for scrape in scrapes:
        for name, value in _counters(scrape):
            if value < highest.get(name, 0.0):
                yield scrape.at, f"was restarted: {name} fell from {highest[name]:.0f} to {value:.0f}"
            highest[name] = value


def _counters(scrape: Scrape) -> Iterator[tuple[str, float]]:
    buckets = {f"durations up to {edge}": value for edge, value in scrape.durations.items()}
    for name, value in (scrape.counts | buckets).items():
        if value is not None and math.isfinite(value):
            yield name, value


def _flaps(scrapes: Sequence[Scrape]) -> Iterator[Found]:
    for earlier, later in pairwise(scrape for scrape in scrapes if scrape.ready is not None):
        if earlier.ready == 1 and later.ready != 1:
            yield later.at, "was ready and is not any more"


def _wrong_code(scrapes: Sequence[Scrape], expected: str | None) -> Iterator[Found]:
    for scrape in scrapes:
        if expected is not None and scrape.code_version not in (None, expected):
            yield scrape.at, f"runs code {scrape.code_version}, and {expected} was expected"


def _missed(name: str, scrapes: Sequence[Scrape], evidence: Evidence, arm: str) -> Iterator[Fault]:
    good = [scrape.at for scrape in scrapes if scrape.up]
    for at in _silence(scrapes[0].at - evidence.rules.scrape_seconds, good, evidence.rules, evidence.end):
        yield Fault(at, arm, f"{name} missed more than {MISSED_SCRAPES} scrapes")


def _silence(since: float, good: Sequence[float], rules: Rules, end: float) -> Iterator[float]:
    """When more than `MISSED_SCRAPES` were missed, if that was before the end; `good`: when it was scraped."""
    missed = 0
    for earlier, later in pairwise((since, *good, math.inf)):
        known_at = earlier + (MISSED_SCRAPES - missed + 1.5) * rules.scrape_seconds
        if known_at <= min(later, end):
            yield known_at
            return
        if later < math.inf:
            missed += max(0, round((later - earlier) / rules.scrape_seconds) - 1)


def _changed_models(canary: Iterable[Target], baseline: Iterable[Target]) -> Iterator[Fault]:
    """A release of code alone keeps the models, and the code must give their golden scores to the last bit."""
    theirs = seen_digests(baseline)
    for (what, variant), digests in seen_digests(canary).items():
        for digest, at in digests.items():
            known = theirs.get((what, variant), {})
            if known and digest not in known:
                says = "golden scores" if what == "golden" else "model"
                yield Fault(at, "canary", f"{says} of {variant}: {digest[:12]}, and the baseline's: {min(known)[:12]}")
