"""What Prometheus can scrape of the traffic itself: whether it drifts, is split as it should be, and is logged."""

import math
import os
from collections.abc import Iterable

from prometheus_client import CollectorRegistry

from app.exposition import Counter, Gauge, Histogram
from monitoring.drift import LEVELS, DriftReading
from monitoring.exposures import EXPOSURES, FEEDBACK
from monitoring.journal import Stats
from monitoring.order import Agreement
from monitoring.profile import SCORE
from monitoring.ranking_log import KIND as RANKINGS

LOG_NAMES = {RANKINGS: "ranking", EXPOSURES: "exposure", FEEDBACK: "feedback"}
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)


def end_series(gauge: Gauge, *labels: str) -> None:
    """Let a series end. One of several worker processes can only say 0."""
    gauge.labels(*labels).set(0)
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        gauge.remove(*labels)


class TrafficMetrics:
    """Series of drift exist once a window was judged. Of several processes the one that is worst off counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.feature_psi = self._gauge(
            "frontrow_feature_drift_psi",
            "How far a feature of the last window is from training: population stability index.",
            ["variant", "feature"],
        )
        self.feature_alarm = self._gauge(
            "frontrow_feature_drift_alarm",
            "0, or 1 (warn) or 2 (page) once three windows were further from training than chance explains.",
            ["variant", "feature"],
        )
        self.score_psi = self._gauge("frontrow_score_drift_psi", "The same index of the model's scores.", ["variant"])
        self.score_alarm = self._gauge("frontrow_score_drift_alarm", "The same alarm for its scores.", ["variant"])
        self.srm_alarm = self._gauge(
            "frontrow_srm_alarm", "1 while today's visitors are not split between the variants as they should be.", []
        )
        self.shadow_turned = self._histogram(
            "frontrow_shadow_pairs_turned",
            "Share of pairs of candidates that the model in the shadow ranks the other way round.",
        )
        self.shadow_overlap = self._histogram(
            "frontrow_shadow_top_overlap", "Share of the first ten places that both models give to the same candidates."
        )
        self.shadow_refused = Counter(
            "frontrow_shadow_refused", "Rankings that the shadow could not follow.", registry=registry
        )
        self.alone = Counter(
            "frontrow_interleaved_alone",
            "Answers that should have been of both models, and are of one, by the variant that had no ranking.",
            ["variant"],
            registry=registry,
        )
        self._drifting: dict[str, set[tuple[Gauge, tuple[str, ...]]]] = {}
        self._written = {kind: self._counter(name, "written", "Lines written") for kind, name in LOG_NAMES.items()}
        self._dropped = {
            kind: self._counter(name, "dropped", "Lines lost, since too many waited or the disk refused them")
            for kind, name in LOG_NAMES.items()
        }
        self._counted = dict.fromkeys(LOG_NAMES, (0, 0))

    def drifts(self, variant: str, reading: DriftReading) -> None:
        """Take in a window that was judged."""
        known = self._drifting.setdefault(variant, set())
        for one in reading.distributions:
            of_score = one.name == SCORE
            labels = (variant,) if of_score else (variant, one.name)
            psi, alarm = (self.score_psi, self.score_alarm) if of_score else (self.feature_psi, self.feature_alarm)
            psi.labels(*labels).set(one.psi or 0.0)
            alarm.labels(*labels).set(LEVELS.index(one.level))
            known |= {(psi, labels), (alarm, labels)}

    def forget_drift(self, variant: str) -> None:
        """Say no more what a model that was replaced had told."""
        for gauge, labels in self._drifting.pop(variant, ()):
            end_series(gauge, *labels)

    def wrote(self, kind: str, stats: Stats) -> None:
        """Take in what became of a log's lines since the start."""
        written, dropped = self._counted[kind]
        self._written[kind].inc(stats.written - written)
        self._dropped[kind].inc(stats.dropped - dropped)
        self._counted[kind] = (stats.written, stats.dropped)

    def agree(self, found: Iterable[Agreement]) -> None:
        """Take in how alike the two models ranked requests; tau is not known where a model sees no difference."""
        for one in found:
            if not math.isnan(one.tau):
                self.shadow_turned.observe((1 - one.tau) / 2)
            self.shadow_overlap.observe(one.overlap)

    def _histogram(self, name: str, says: str) -> Histogram:
        return Histogram(name, says, buckets=SHARES, registry=self._registry)

    def _gauge(self, name: str, says: str, labels: list[str]) -> Gauge:
        return Gauge(name, says, labels, registry=self._registry, multiprocess_mode="livemax")

    def _counter(self, log: str, outcome: str, says: str) -> Counter:
        return Counter(f"frontrow_{log}_log_{outcome}", f"{says} ({log} log).", registry=self._registry)
