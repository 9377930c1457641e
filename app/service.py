"""The composition root: from settings to a running service, opened in order and closed in reverse."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import cycle, islice
from typing import Any, NamedTuple

import msgspec
import structlog

from app.experiment import VARIANTS, Experiment, Variant
from app.heartbeat import LAG_SHARE, Heartbeat, LoopLate
from app.lame_duck import begin_lame_duck_on_sigterm
from app.metrics import Metrics
from app.models import Served
from app.openapi import example_request
from app.processing import Rules, extra_fields, load_processing
from app.ranking import Ranker, Scorer, Scores, Work
from app.rows import RowMaker
from app.schemas import ModelVersion, RequestShape
from app.settings import Settings
from batching import Batcher, Cost, Lane, LaneStats, Limits, Priority, calibrate
from registry import Model, code_revision

log = structlog.get_logger("frontrow")

# The part of a request's time limit that it may spend in line and in its batch; the rest is for the way there and back.
WAIT_SHARE = 0.4


class Passport(NamedTuple):
    """Whose answer it is: as the body says it, and as header lines."""

    model: ModelVersion
    lines: bytes


class Service:
    """Everything that answers requests. `start` and `stop` bracket its life on the event loop."""

    def __init__(self, settings: Settings, served: Mapping[Variant, Served]) -> None:
        self.settings = settings
        self.served = dict(served)
        self.code_version = code_revision(settings.code_version)
        self.started_at = datetime.now(UTC)
        self.draining = False
        self.ready = False
        self.experiment = Experiment(
            name=settings.experiment,
            salt=settings.split_salt,
            treatment_share=settings.treatment_share,
            fallback=settings.fallback_variant,
            forcing_allowed=settings.allow_forced_variant,
            has_treatment="treatment" in served,
        )
        processing = load_processing(settings.processing)
        self.shape = RequestShape.of_models(
            {variant: one.model.bundle.features for variant, one in served.items()},
            max_candidates=settings.max_candidates,
            extra=extra_fields(processing),
        )
        self.metrics = Metrics([variant for variant in VARIANTS if variant in served])
        self._limits = Limits(
            max_batch_rows=settings.max_batch_rows,
            max_wait_seconds=WAIT_SHARE * settings.request_timeout_ms / 1e3,
        )
        self._rules = {variant: Rules(processing, self.shape, one.catalog) for variant, one in served.items()}
        self.heartbeat = Heartbeat(self._refresh_gauges)
        self.code_headers = [(b"x-code-version", self.code_version.encode())]
        self._passports = {id(one.model): self._passport_of(one.model) for one in served.values()}

    async def start(self) -> None:
        """Warm up, measure what scoring costs, and say who serves. The service is ready afterwards."""
        scorers = {variant: self._scorer(one) for variant, one in self.served.items()}
        lanes: dict[str, Lane[Work, Scores]] = {
            variant: self._lane(scorers[variant], one) for variant, one in self.served.items()
        }
        self.batcher: Batcher[Work, Scores] = Batcher(lanes, limits=self._limits, observer=self.metrics.scored)
        await self.batcher.start()
        self.rankers = {
            variant: Ranker(variant, self.batcher, scorers[variant], self._rules[variant]) for variant in self.served
        }
        self._offered_rows: dict[str, int] = dict.fromkeys(self.served, 0)
        self.heartbeat.start()
        self.metrics.runs(self.code_version)
        stats = self.batcher.stats().lanes
        for variant, one in self.served.items():
            origin = one.fetched.origin
            self.metrics.serves(
                variant,
                one.model,
                last_known_good=origin == "last-known-good",
                verified_at=one.fetched.fetched_at.timestamp(),
            )
            self.metrics.calibrated(variant, stats[variant])
            log.info("serves", **_facts(variant, one), calibration=_calibration(stats[variant]))
        begin_lame_duck_on_sigterm(self.begin_draining, self.settings.lame_duck_seconds)
        self.ready = True

    def begin_draining(self) -> None:
        """From now on `/readyz` fails and answers close their connection; requests are served on."""
        self.draining = True
        log.info("draining", lame_duck_seconds=self.settings.lame_duck_seconds)

    async def stop(self) -> None:
        """Answer everything that was admitted, then close. Nothing is admitted any more."""
        self.draining = True
        self.ready = False
        try:
            async with asyncio.timeout(self.settings.drain_seconds):
                await self.batcher.drain()
        except TimeoutError:
            log.error("drain took too long", limit_seconds=self.settings.drain_seconds)  # noqa: TRY400 nothing to trace
        self.heartbeat.stop()

    def check_lag(self, variant: Variant, priority: Priority) -> None:
        """Refuse what a late event loop had better not take on. Raises `LoopLate`."""
        lag = self.heartbeat.standing_lag_seconds
        allowed = LAG_SHARE[priority] * self.settings.request_timeout_ms / 1e3
        if lag > allowed:
            raise LoopLate(variant, rows=0, needed=lag, allowed=allowed, retry_after_seconds=lag)

    def passport(self, model: Model) -> Passport:
        """What an answer says of the model and the code that made it."""
        return self._passports[id(model)]

    def _passport_of(self, model: Model) -> Passport:
        name, version = model.bundle.name, model.bundle.version
        headers = f"content-type: application/json\r\nx-model-version: {name}/{version}\r\n"
        return Passport(ModelVersion(name, version), f"{headers}x-code-version: {self.code_version}\r\n".encode())

    def missing(self) -> list[str]:
        """Why no request should be sent here, in words; empty when ready."""
        if self.draining:
            return ["the service is draining"]
        return [] if self.ready else ["the models are not warm"]

    def notes(self) -> list[str]:
        """What an operator should know although the service is ready."""
        return [
            f"{variant} serves its last known good bundle: {one.fetched.detail}"
            for variant, one in self.served.items()
            if one.fetched.origin == "last-known-good"
        ]

    def describe_models(self) -> list[dict[str, Any]]:
        lanes = self.batcher.stats().lanes
        return [
            {
                **_facts(variant, one),
                "calibration": _calibration(lanes[variant]),
                "features": [asdict(feature) for feature in one.model.bundle.features],
            }
            for variant, one in self.served.items()
        ]

    def example(self, one: Served | None = None) -> dict[str, Any]:
        """A request that works, for people to copy; by default one in the terms of the control model."""
        one = one or self.served["control"]
        return example_request(self.shape, one.model.bundle, one.catalog)

    def _scorer(self, one: Served) -> Scorer:
        maker = RowMaker(one.model.bundle.features, self.shape, one.catalog)
        return Scorer(one.model, maker, budget_bytes=self.settings.catalog_budget_mb * 2**20)

    def _lane(self, scorer: Scorer, one: Served) -> Lane[Work, Scores]:
        example = self.shape.decode(msgspec.json.encode(self.example(one)))
        # What is known to the catalog is what is asked for mostly; the scale of the cost follows what comes in truth.
        usual = list(one.catalog.rows) or example.candidates

        def sample(rows: int) -> Work:
            return scorer.work(example.context, list(islice(cycle(usual), rows)))

        cost = self._pinned_cost() or calibrate(scorer.score, sample, limits=self._limits)
        return Lane(scorer.score, scorer.split, scorer.join, cost)

    def _pinned_cost(self) -> Cost | None:
        fixed, row = self.settings.pinned_batch_us, self.settings.pinned_row_us
        return None if fixed is None or row is None else Cost(fixed / 1e6, row / 1e6)

    def _refresh_gauges(self) -> None:
        """Once a second: what is known only by looking."""
        utilization = 0.0
        for variant, lane in self.batcher.stats().lanes.items():
            offered = lane.offered_rows - self._offered_rows[variant]
            self._offered_rows[variant] = lane.offered_rows
            utilization += offered / lane.capacity_rows_per_second
            self.metrics.queue_rows.labels(variant).set(lane.waiting_rows)
            self.metrics.cost_scale.labels(variant).set(lane.scale)
        self.metrics.utilization.set(utilization)
        self.metrics.lag.set(self.heartbeat.longest_lag_seconds)


def _facts(variant: Variant, one: Served) -> dict[str, Any]:
    """What identifies a model that serves."""
    bundle, engine = one.model.bundle, one.model.engine
    return {
        "variant": variant,
        "name": bundle.name,
        "version": bundle.version,
        "run_id": bundle.run_id,
        "alias": bundle.alias,
        "sha256": bundle.sha256,
        "objective": bundle.objective,
        "trees": bundle.trees,
        "trained_at": bundle.trained_at,
        "training_code_version": bundle.code_revision,
        "loaded_at": one.model.loaded_at,
        "origin": one.fetched.origin,
        "origin_detail": one.fetched.detail,
        "engine": engine.name,
        "activities": len(one.catalog),
    }


def _calibration(lane: LaneStats) -> dict[str, float]:
    return {
        "fixed_us": round(1e6 * lane.fixed_seconds, 2),
        "row_us": round(1e6 * lane.row_seconds, 4),
        "scale": round(lane.scale, 3),
        "spread": round(lane.spread, 3),
        "limit_rows": lane.limit_rows,
        "capacity_rows_per_second": round(lane.capacity_rows_per_second),
    }
