"""The canary judge: from what was scraped of both arms to PASS, FAIL or INCONCLUSIVE. No clock and no I/O.

Four gates, looked at after every scrape. G0: hard faults. G1: bad events, a sequential test of each family.
G2: the same test of windows whose p99 is over the tolerated ratio. G3, at the end of each period: everything that a
promotion needs. What is missing can only keep a canary from passing.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from release.alignment import ARMS, SETTLED_SCRAPES, Course, align
from release.collapse import LOOKS, collapsed
from release.evidence import Evidence
from release.hard_faults import Fault, hard_faults
from release.latency import Windows, compare_windows, p99, p99_bucket
from release.promotion import MARGINS, excess_rate, expected_share, median_ratio, shortfalls, split_probability
from release.rules import FAMILIES, WINDOW_SCRAPES, Rules
from release.sequential import log_factor, log_pays
from release.verdict import Outcome, Reason, Verdict

Array = NDArray[np.float64]

P99: Final = "p99"


def judge(evidence: Evidence) -> Verdict:
    """Return the verdict of the first look that decides; INCONCLUSIVE where none did yet."""
    return Trial(evidence).verdict


@dataclass(frozen=True)
class Trial:
    """The evidence on one clock, and what each gate makes of it. Look 0 is where counting begins."""

    evidence: Evidence

    @cached_property
    def course(self) -> Course:
        return align(self.evidence)

    @cached_property
    def family_pays(self) -> Array:
        """(families, looks, alternatives): the logarithm of what each bet paid for each look."""
        finished = self.course.finished
        total = finished.sum(axis=0)
        share = np.divide(finished[0], total, out=np.zeros_like(total), where=total > 0)
        return log_pays(self.course.events[0], self.course.events[1], share, MARGINS[:, None])

    @cached_property
    def family_factors(self) -> Array:
        """(families, looks), as logarithms."""
        return log_factor(self.family_pays.cumsum(axis=1))

    @cached_property
    def collapses(self) -> NDArray[np.bool_]:
        """(families, looks)."""
        return collapsed(self.course.events, self.course.finished)

    @cached_property
    def windows(self) -> Windows:
        return compare_windows(self.course.durations[0], self.course.durations[1], self.course.edges)

    @cached_property
    def window_pays(self) -> Array:
        """(windows, alternatives): in a fair comparison at most every other window is over the tolerated ratio."""
        return window_log_pays(self.windows.ratio, self._rules)

    @cached_property
    def window_factors(self) -> Array:
        """(windows,), as logarithms."""
        return log_factor(self.window_pays.cumsum(axis=0))

    @cached_property
    def verdict(self) -> Verdict:
        faults = hard_faults(self.evidence)
        for look in range(self.course.looks + 1):
            by = self.course.moments[look] + SETTLED_SCRAPES * self._rules.scrape_seconds
            if decided := self._hard(faults, look, by) or self._worse(look) or self._end_of_period(look):
                return decided
        return self._hard(faults, self.course.looks, self.evidence.end) or self._undecided()

    @property
    def _rules(self) -> Rules:
        return self.evidence.rules

    def _hard(self, faults: list[Fault], look: int, by: float) -> Verdict | None:
        """G0: what is known `by` the time at which this look is taken. Without a baseline nothing can be judged."""
        known = [fault for fault in faults if fault.at <= by]
        if not known:
            return None
        outcome: Outcome = "FAIL" if known[0].arm == "canary" else "INCONCLUSIVE"
        return self._decided(outcome, look, [Reason("G0", fault.arm, fault.says) for fault in known])

    def _worse(self, look: int) -> Verdict | None:
        """The rest of G0, G1 and G2."""
        reasons = [
            self._collapse(number, look) for number in range(len(FAMILIES)) if self.collapses[number, :look].any()
        ]
        reasons += [reason for number in range(len(FAMILIES)) if (reason := self._bad_events(number, look))]
        if not self._rules.hotfix and (reason := self._slow_windows(look)):
            reasons.append(reason)
        return self._decided("FAIL", look, reasons) if reasons else None

    def _collapse(self, number: int, look: int) -> Reason:
        family, stretch = FAMILIES[number], slice(look - LOOKS, look)
        seen = self.course.events[:, number, stretch].sum(axis=-1)
        finished = self.course.finished[:, number, stretch].sum(axis=-1)
        return Reason(
            "G0",
            family.name,
            f"{seen[0]:,.0f} {family.says} of {finished[0]:,.0f} in the last {LOOKS} looks, and {seen[1]:,.0f} of "
            f"{finished[1]:,.0f} of the baseline",
        )

    def _bad_events(self, number: int, look: int) -> Reason | None:
        needed = math.log(self._rules.factor)
        if look == 0 or self.family_factors[number, look - 1] < needed:
            return None
        family = FAMILIES[number]
        seen, finished = self.course.events[:, number, :look].sum(-1), self.course.finished[:, number, :look].sum(-1)
        return Reason(
            "G1",
            family.name,
            f"{seen[0]:,.0f} {family.says} of {finished[0]:,.0f}, and {seen[1]:,.0f} of {finished[1]:,.0f} of the "
            f"baseline: {self._against(self.family_factors[number, look - 1])}",
        )

    def _slow_windows(self, look: int) -> Reason | None:
        closed = look // WINDOW_SCRAPES
        if closed == 0 or self.window_factors[closed - 1] < math.log(self._rules.factor):
            return None
        ratio = self.windows.ratio[:closed]
        return Reason(
            "G2",
            P99,
            f"the canary's p99 was over {self._rules.p99_ratio:g} times the baseline's in "
            f"{int((ratio > self._rules.p99_ratio).sum())} of {int((~np.isnan(ratio)).sum())} windows (median "
            f"{np.nanmedian(ratio):.3f}): {self._against(self.window_factors[closed - 1])}",
        )

    def _against(self, log_factor: float) -> str:
        factor = f"{math.exp(log_factor):,.0f}" if log_factor < math.log(1e6) else f"10^{log_factor / math.log(10):.0f}"
        return f"betting factor {factor}, and {self._rules.factor:,.0f} FAILs"

    def _end_of_period(self, look: int) -> Verdict | None:
        if look == 0 or look % self._rules.looks != 0:
            return None
        gaps = shortfalls(self.evidence, self.course, self.windows, look)
        if not gaps:
            return self._decided(
                "PASS", look, [Reason("G3", "promotion", f"nothing speaks against it after {look} looks")]
            )
        if look < self._rules.looks * (1 + self._rules.extensions):
            return None
        given_up = Reason("G3", "time", f"not shown in {look} looks, {self._rules.extensions} extensions included")
        return self._decided("FAIL", look, [*gaps, given_up])

    def _undecided(self) -> Verdict:
        look, rules = self.course.looks, self._rules
        extensions = look // rules.looks
        due = rules.period_seconds * (1 + extensions)
        reasons = [
            Reason("G3", "time", f"{look * rules.scrape_seconds:g} s were judged, and the period ends after {due:g} s")
        ]
        if extensions:
            reasons += shortfalls(self.evidence, self.course, self.windows, extensions * rules.looks)
        return self._decided("INCONCLUSIVE", look, reasons, final=False)

    def _decided(self, outcome: Outcome, look: int, reasons: list[Reason], *, final: bool = True) -> Verdict:
        rules = self._rules
        return Verdict(
            verdict=outcome,
            final=final,
            reasons=tuple(reasons),
            at=datetime.fromtimestamp(self.course.moments[look], UTC).isoformat(timespec="seconds"),
            looks=look,
            judged_seconds=look * rules.scrape_seconds,
            extensions=max(0, look - 1) // rules.looks,
            stage=rules.stage,
            next_stage=rules.next_stage if outcome == "PASS" else None,
            evidence_sha256=self.evidence.sha256(),
            rules=rules,
            numbers=self._numbers(look),
        )

    def _numbers(self, look: int) -> dict[str, Any]:
        course, rules = self.course, self._rules
        offered = course.offered[:, :look].sum(axis=1)
        share = expected_share(rules, course, look)
        return {
            "targets": dict(zip(ARMS, course.targets[:, look].tolist(), strict=True)),
            "requests": dict(zip(ARMS, course.durations[:, :look].sum(axis=(1, 2)).tolist(), strict=True)),
            "share": {
                "expected": share,
                "observed": float(offered[0] / offered.sum()) if offered.sum() else None,
                "probability": float(split_probability(offered, share)),
            },
            "families": self._family_numbers(look),
            "p99": self._p99_numbers(look),
            "missing_looks": {name: int(missing[: look + 1].sum()) for name, missing in course.missing.items()},
        }

    def _family_numbers(self, look: int) -> dict[str, Any]:
        course = self.course
        events, finished = course.events[..., :look].sum(axis=-1), course.finished[..., :look].sum(axis=-1)
        excess = excess_rate(course.events[..., :look], course.finished[..., :look])
        factors = self.family_factors[:, look - 1] if look else np.zeros(len(FAMILIES))
        return {
            family.name: {
                "events": dict(zip(ARMS, events[:, number].tolist(), strict=True)),
                "requests": dict(zip(ARMS, finished[:, number].tolist(), strict=True)),
                "log10_factor": float(factors[number] / math.log(10)),
                "log10_needed": math.log10(self._rules.factor),
                "excess_rate_at_most": float(excess[number]),
            }
            for number, family in enumerate(FAMILIES)
        }

    def _p99_numbers(self, look: int) -> dict[str, Any]:
        course, closed = self.course, look // WINDOW_SCRAPES
        ratio, pooled = self.windows.ratio[:closed], course.durations[:, :look].sum(axis=1)
        return {
            "seconds": dict(zip(ARMS, p99(pooled, course.edges).tolist(), strict=True)),
            "bucket_seconds": p99_bucket(pooled[1], course.edges),
            "slow_over_seconds": course.slow_over,
            "windows": int((~np.isnan(ratio)).sum()),
            "over": int((ratio > self._rules.p99_ratio).sum()),
            "median_ratio": float(median_ratio(ratio)),
            "log10_factor": float(self.window_factors[closed - 1] / math.log(10)) if closed else 0.0,
            "log10_needed": math.log10(self._rules.factor),
        }


def window_log_pays(ratio: Array, rules: Rules) -> Array:
    """Return the logarithm of what each bet pays for each window, (..., windows) -> (..., windows, alternatives)."""
    over, under = (ratio > rules.p99_ratio).astype(np.float64), (ratio <= rules.p99_ratio).astype(np.float64)
    return log_pays(over, under, 0.5, 1.0)
