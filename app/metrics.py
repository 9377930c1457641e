"""What Prometheus can scrape. Every label value is from a fixed set; none ever comes from a caller."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import cast, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)

from app.errors import Outcome
from app.experiment import Assignment, Reason, Variant
from app.rows import Rows
from batching import BatchReport, LaneStats
from registry import Model

OUTCOMES: tuple[Outcome, ...] = ("ok", "shed", "expired", "cancelled", "invalid", "error")
STAGES = ("decode", "queue", "features", "score", "encode")
REASONS: tuple[Reason, ...] = get_args(Reason)
IGNORABLE_HEADERS = ("X-Visitor-Id", "X-Variant", "X-Request-Id")

# Seconds. The service promises 100 ms, so buckets are dense below and say by how much it was missed above.
DURATIONS = (
    0.0005,
    0.001,
    0.002,
    0.003,
    0.005,
    0.0075,
    0.01,
    0.015,
    0.02,
    0.03,
    0.05,
    0.075,
    0.1,
    0.15,
    0.25,
    0.5,
    1,
    2.5,
)
STAGE_DURATIONS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)
ROWS = (1, 10, 25, 50, 100, 200, 350, 512, 1_000, 2_500, 5_000)
REQUESTS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The service's metrics in a registry of their own.

    With `PROMETHEUS_MULTIPROC_DIR` set (several worker processes), any of them answers a scrape for all.
    """

    def __init__(self, variants: Sequence[Variant]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # memory, CPU and files of a process alone; of several, the platform's task
        variant = ["variant"]
        self.offered = Counter(
            "frontrow_requests_offered", "Rankings asked for, however they ended.", variant, registry=registry
        )
        self.requests = Counter(
            "frontrow_requests", "Rankings by how they ended.", [*variant, "outcome"], registry=registry
        )
        self.duration = Histogram(
            "frontrow_request_duration_seconds",
            "From the arrival of a ranking's headers to its answer, all outcomes.",
            variant,
            buckets=DURATIONS,
            registry=registry,
        )
        self.stage = Histogram(
            "frontrow_stage_duration_seconds",
            "Where the time of an answered ranking went.",
            ["stage"],
            buckets=STAGE_DURATIONS,
            registry=registry,
        )
        self.batch_rows = Histogram("frontrow_batch_rows", "Rows in a batch.", variant, buckets=ROWS, registry=registry)
        self.batch_requests = Histogram(
            "frontrow_batch_requests", "Requests in a batch.", variant, buckets=REQUESTS, registry=registry
        )
        self.batch_dispatch = Counter(
            "frontrow_batch_dispatch", "Batches by why they were cut.", [*variant, "reason"], registry=registry
        )
        self.queue_rows = Gauge(
            "frontrow_queue_rows",
            "Rows that wait to be scored.",
            variant,
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.queue_wait = Histogram(
            "frontrow_queue_wait_seconds",
            "Wait of a scored request before its batch began.",
            variant,
            buckets=STAGE_DURATIONS,
            registry=registry,
        )
        self.batch_seconds = Gauge(
            "frontrow_calibrated_batch_seconds",
            "What a batch costs whatever its rows, as measured at the start.",
            variant,
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.row_seconds = Gauge(
            "frontrow_calibrated_row_seconds",
            "What a row adds to a batch, as measured at the start.",
            variant,
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.batch_limit = Gauge(
            "frontrow_batch_limit_rows",
            "Most rows that a batch takes, by the calibration.",
            variant,
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.cost_scale = Gauge(
            "frontrow_cost_scale",
            "How many times slower scoring is now than the calibration said.",
            variant,
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.utilization = Gauge(
            "frontrow_offered_utilization",
            "Seconds of scoring offered a second, refused ones included (the autoscaler's signal).",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.shed = Counter(
            "frontrow_shed", "Rankings refused at the door, by why.", [*variant, "reason"], registry=registry
        )
        self.lag = Gauge(
            "frontrow_event_loop_lag_seconds",
            "Longest lag of the event loop in the last second.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.assignments = Counter(
            "frontrow_assignments", "Assignments to a variant, by why.", [*variant, "reason"], registry=registry
        )
        self.ignored_headers = Counter(
            "frontrow_ignored_headers", "Headers passed over as garbled or repeated.", ["header"], registry=registry
        )
        self.unknown_category = Counter(
            "frontrow_unknown_category", "Values that are no category of the model.", ["feature"], registry=registry
        )
        self.unknown_candidate = Counter(
            "frontrow_unknown_candidate", "Candidates of which nothing was known but the id.", registry=registry
        )
        self.model_info = Gauge(
            "frontrow_model_info",
            "1 for each model that serves.",
            [*variant, "name", "version", "run_id", "sha256", "engine"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.model_loaded = Gauge(
            "frontrow_model_loaded_timestamp_seconds",
            "When the model was loaded.",
            variant,
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.model_last_known_good = Gauge(
            "frontrow_model_last_known_good",
            "1 while a model serves from the last known good bundle because the registry could not be reached.",
            variant,
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.model_verified = Gauge(
            "frontrow_model_verified_timestamp_seconds",
            "When the registry last said that this is the model to serve.",
            variant,
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.build_info = Gauge(
            "frontrow_build_info",
            "1 for the code that runs.",
            ["code_version", "python", "lightgbm"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        # Children are looked up once; a series that can occur exists from the start, so no rate over it is blind.
        self._offered = {name: self.offered.labels(name) for name in variants}
        self._outcomes = {
            (name, outcome): self.requests.labels(name, outcome) for name in variants for outcome in OUTCOMES
        }
        self._durations = {name: self.duration.labels(name) for name in variants}
        self._assignments = {
            (name, reason): self.assignments.labels(name, reason) for name in variants for reason in REASONS
        }
        self._batches = {name: (self.batch_rows.labels(name), self.batch_requests.labels(name)) for name in variants}
        self._queue_waits = {name: self.queue_wait.labels(name) for name in variants}
        self._stages = [self.stage.labels(stage) for stage in STAGES]
        for header in IGNORABLE_HEADERS:
            self.ignored_headers.labels(header)

    def arrived(self, assignment: Assignment, ignored: Sequence[str]) -> None:
        self._offered[assignment.variant].inc()
        self._assignments[assignment.variant, assignment.reason].inc()
        for header in ignored:
            self.ignored_headers.labels(header).inc()

    def finished(self, variant: Variant, outcome: Outcome, seconds: float) -> None:
        self._outcomes[variant, outcome].inc()
        self._durations[variant].observe(seconds)

    def answered(self, variant: Variant, seconds: Sequence[float], rows: Rows | None) -> None:
        """Take in an answer that is on its way; `seconds` are those of each of `STAGES`, in their order.

        `rows` is None for an empty ranking, which was not scored.
        """
        for stage, value in zip(self._stages, seconds, strict=True):
            stage.observe(value)
        if rows is None:
            return
        self._queue_waits[variant].observe(seconds[1])
        if rows.unknown:
            self.unknown_candidate.inc(len(rows.unknown))
        for feature, count in rows.unseen.items():
            self.unknown_category.labels(feature).inc(count)

    def scored(self, report: BatchReport) -> None:
        """Take in a batch: the batcher's observer."""
        rows, requests = self._batches[cast("Variant", report.lane)]
        rows.observe(report.rows)
        requests.observe(report.requests)
        self.batch_dispatch.labels(report.lane, report.reason).inc()

    def refused(self, variant: Variant, reason: str) -> None:
        """Count a refusal at the door; `reason` is the refusal's own name for itself."""
        self.shed.labels(variant, reason).inc()

    def serves(self, variant: Variant, model: Model, *, last_known_good: bool, verified_at: float) -> None:
        """Name the model that answers for `variant` from now on."""
        bundle = model.bundle
        self.model_info.labels(
            variant, bundle.name, bundle.version, bundle.run_id or "", bundle.sha256, model.engine.name
        ).set(1)
        self.model_loaded.labels(variant).set(model.loaded_at.timestamp())
        self.model_last_known_good.labels(variant).set(last_known_good)
        self.model_verified.labels(variant).set(verified_at)

    def calibrated(self, variant: Variant, lane: LaneStats) -> None:
        self.batch_seconds.labels(variant).set(lane.fixed_seconds)
        self.row_seconds.labels(variant).set(lane.row_seconds)
        self.batch_limit.labels(variant).set(lane.limit_rows)

    def runs(self, code_version: str) -> None:
        self.build_info.labels(code_version, platform.python_version(), version("lightgbm")).set(1)

    def exposition(self) -> bytes:
        """The text of a scrape, for all worker processes."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)
        everyone = CollectorRegistry()
        multiprocess.MultiProcessCollector(everyone)  # type: ignore[no-untyped-call]
        return generate_latest(everyone)
