"""The composition root: from settings to a running service, opened in order and closed in reverse."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import structlog

from app.catalog_watch import CatalogWatch
from app.derived import DerivedColumns, Lookup
from app.events import Intake
from app.experiment import VARIANTS, Experiment, Variant
from app.explanation import Explainer
from app.heartbeat import LAG_SHARE, Heartbeat, LoopLate
from app.histories import bounds, open_visitors
from app.lame_duck import begin_lame_duck_on_sigterm
from app.metrics import Metrics
from app.models import Served, read_snapshot
from app.onlooker import Onlooker
from app.openapi import example_request
from app.processing import Rules, extra_fields, load_processing
from app.ranking import Ranker, Scorer, Scores, Work
from app.rows import RowMaker, Rows
from app.schemas import ModelVersion, RequestShape
from app.settings import Settings
from app.tracing import open_traces
from batching import Batcher, Cost, Lane, LaneStats, Limits, Priority, calibrate
from registry import Model, code_revision

log = structlog.get_logger("frontrow")

# The part of a request's time limit that it may spend in line and in its batch; the rest is for the way there and back.
WAIT_SHARE = 0.35

# Between parts of half a millisecond of loading a new catalog, so that rankings have most of the interpreter's time.
PAUSE_SECONDS = 0.003


class Passport(NamedTuple):
    """Whose answer it is: as the body says it, and as header lines."""

    model: ModelVersion
    lines: bytes


class Equipment(NamedTuple):
    """What ranks for a variant over one catalog."""

    one: Served
    scorer: Scorer
    rules: Rules


class Service:
    """Everything that answers requests. `start` and `stop` bracket its life on the event loop."""

    def __init__(self, settings: Settings, served: Mapping[Variant, Served], *, shared: Path | None = None) -> None:
        """`shared` is a folder for what several worker processes hold in common."""
        self.settings = settings
        self._shared = shared
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
            treated="interleaved" if settings.assignment == "interleave" else "treatment",
        )
        processing = load_processing(settings.processing)
        self.shape = RequestShape.of_models(
            {variant: one.model.bundle.features for variant, one in served.items()},
            max_candidates=settings.max_candidates,
            extra=extra_fields(processing),
        )
        self.metrics = Metrics(
            [variant for variant in VARIANTS if variant in served], interleaves=settings.assignment == "interleave"
        )
        self._processing = processing
        self._makers = {variant: self._maker(one) for variant, one in served.items()}
        self.uses_histories = any(derived is not None for _, derived in self._makers.values())
        self.visitors = open_visitors(settings, self.metrics)
        self.explainer = Explainer({variant: one.model for variant, one in served.items()})
        self.traces = open_traces(self.code_version)
        self.onlooker = Onlooker(settings, served, self.experiment, self.metrics)
        self.intake = Intake(
            self.visitors,
            self.metrics,
            knows=self.knows,
            told=self.onlooker.told,
            max_events=settings.max_events,
            ttl_ms=bounds(settings).ttl_ms,
        )
        self._limits = Limits(
            max_batch_rows=settings.max_batch_rows,
            max_wait_seconds=WAIT_SHARE * settings.request_timeout_ms / 1e3,
        )
        self._rules = {variant: Rules(processing, self.shape, one.catalog) for variant, one in served.items()}
        self.catalog_watch = self._watch_catalog(settings.catalog)
        self.heartbeat = Heartbeat(self._refresh_gauges)
        self.code_headers = [(b"x-code-version", self.code_version.encode())]
        self._passports = {id(one.model): self._passport_of(one.model) for one in served.values()}
        self.joint_passport = self._passport_of(*(one.model for one in served.values()))

    async def start(self) -> None:
        """Warm up, measure what scoring costs, and say who serves. The service is ready afterwards."""
        self._scorers = scorers = {
            variant: self._scorer(one, *self._makers.pop(variant)) for variant, one in self.served.items()
        }
        lanes: dict[str, Lane[Work, Scores]] = {
            variant: self._lane(scorers[variant], one) for variant, one in self.served.items()
        }
        self.batcher: Batcher[Work, Scores] = Batcher(lanes, limits=self._limits, observer=self.metrics.scored)
        await self.batcher.start()
        self.rankers = {
            variant: Ranker(variant, self.batcher, scorers[variant], self._rules[variant]) for variant in self.served
        }
        self.onlooker.start(scorers, self.batcher)
        self._offered_rows: dict[str, int] = dict.fromkeys(self.served, 0)
        self._refresh_gauges()  # a scrape that comes within the first second finds them too
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
            self.metrics.knows(variant, len(one.catalog))
            self.metrics.calibrated(variant, stats[variant])
            scoring = _scoring(scorers[variant])
            self.metrics.scoring_bytes.labels(variant).set(scoring["engine_bytes"] + scoring["catalog_bytes"])
            log.info("serves", **_facts(variant, one), **scoring, calibration=_calibration(stats[variant]))
        if self.catalog_watch is not None:
            self.catalog_watch.start()
        begin_lame_duck_on_sigterm(self.begin_draining, self.settings.lame_duck_seconds)
        self.ready = True
        self.metrics.ready.set(1)

    def begin_draining(self) -> None:
        """From now on `/readyz` fails and answers close their connection; requests are served on."""
        self.draining = True
        self.metrics.ready.set(0)
        log.info("draining", lame_duck_seconds=self.settings.lame_duck_seconds)

    async def stop(self) -> None:
        """Answer everything that was admitted, then close. Nothing is admitted any more."""
        self.draining = True
        self.ready = False
        self.metrics.ready.set(0)
        try:
            async with asyncio.timeout(self.settings.drain_seconds):
                await self.batcher.drain()
        except TimeoutError:
            log.error("drain took too long", limit_seconds=self.settings.drain_seconds)  # noqa: TRY400 nothing to trace
        if self.catalog_watch is not None:
            await self.catalog_watch.stop()
        await self.visitors.close()
        self.onlooker.stop()
        if self.traces is not None:
            await asyncio.to_thread(self.traces.close)  # it waits for the collector
        self.explainer.close()
        self.heartbeat.stop()

    def check_lag(self, variant: Variant, priority: Priority, due_seconds: float) -> None:
        """Refuse what a late event loop had better not take on, due so soon. Raises `LoopLate`."""
        lag = self.heartbeat.lag_seconds()
        allowed = LAG_SHARE[priority] * due_seconds
        if lag > allowed:
            raise LoopLate(variant, rows=0, needed=lag, allowed=allowed, retry_after_seconds=lag)

    def knows(self, activity: str) -> bool:
        """Whether any model's catalog has the activity."""
        return any(activity in one.catalog.rows for one in self.served.values())

    def passport(self, model: Model) -> Passport:
        """What an answer says of the model and the code that made it."""
        return self._passports[id(model)]

    def _passport_of(self, *models: Model) -> Passport:
        """That of an answer which all of these models made, control's first."""
        name = "+".join(model.bundle.name for model in models)
        version = "+".join(model.bundle.version for model in models)
        lines = f"x-model-version: {name}/{version}\r\nx-code-version: {self.code_version}\r\n"
        return Passport(ModelVersion(name, version), lines.encode())

    @property
    def rules_see_candidates(self) -> bool:
        """Whether the rules around scoring look at candidates, which they do one by one."""
        return any(rules.selects or rules.arranges for rules in self._rules.values())

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
                **_scoring(self._scorers[variant]),
                "calibration": _calibration(lanes[variant]),
                "features": [asdict(feature) for feature in one.model.bundle.features],
            }
            for variant, one in self.served.items()
        ]

    def example(self, one: Served | None = None) -> dict[str, Any]:
        """A request that works, for people to copy; by default one in the terms of the control model."""
        one = one or self.served["control"]
        return example_request(self.shape, one.model.bundle, one.catalog)

    def _maker(self, one: Served) -> tuple[RowMaker, DerivedColumns | None]:
        features = one.model.bundle.features
        has_derived = any(feature.role == "derived" for feature in features)
        maker = RowMaker(features, self.shape, one.catalog)
        return maker, DerivedColumns(features, one.catalog) if has_derived else None

    def _scorer(self, one: Served, maker: RowMaker, derived: DerivedColumns | None) -> Scorer:
        budget_bytes = self.settings.catalog_budget_mb * 2**20
        return Scorer(one.model, maker, derived, self.visitors, budget_bytes=budget_bytes, shared=self._shared)

    def _watch_catalog(self, path: Path | None) -> CatalogWatch[dict[Variant, Equipment]] | None:
        if path is None:
            return None
        return CatalogWatch(
            path,
            seconds=self.settings.catalog_poll_seconds,
            seen=self.served["control"].snapshot,
            load=partial(self._equip, path),
            use=self._use,
            refused=self.metrics.catalog_refused.inc,
        )

    def _equip(self, path: Path) -> dict[Variant, Equipment]:
        """What ranks over the snapshot that is there now; made in a thread. Raises `CatalogError`."""
        version, catalog = read_snapshot(path, pause_seconds=PAUSE_SECONDS)
        renewed = {variant: replace(one, catalog=catalog, snapshot=version) for variant, one in self.served.items()}
        return {
            variant: Equipment(one, self._scorer(one, *self._maker(one)), Rules(self._processing, self.shape, catalog))
            for variant, one in renewed.items()
        }

    def _use(self, equipment: Mapping[Variant, Equipment]) -> None:
        """Rank with it from the next batch on; who waits keeps waiting, and what is partly scored ends as it began."""
        stats = self.batcher.stats().lanes
        for variant, (one, scorer, rules) in equipment.items():
            known = stats[variant]  # the model is the same, so what was learned about its cost stays true
            cost = Cost(known.scale * known.fixed_seconds, known.scale * known.row_seconds)
            self.batcher.swap(variant, Lane(scorer.score, scorer.split, scorer.join, cost, scorer.prepare))
            self.served[variant], self._scorers[variant], self._rules[variant] = one, scorer, rules
            self.rankers[variant] = Ranker(variant, self.batcher, scorer, rules)
            self.onlooker.watch(variant, scorer)
            self.metrics.knows(variant, len(one.catalog))
            log.info("ranks other activities", variant=variant, activities=len(one.catalog), **_scoring(scorer))

    def _lane(self, scorer: Scorer, one: Served) -> Lane[Work, Scores]:
        cost = self._pinned_cost() or calibrate(scorer.score, partial(_sample, scorer, one), limits=self._limits)
        return Lane(scorer.score, scorer.split, scorer.join, cost, scorer.prepare)

    def _pinned_cost(self) -> Cost | None:
        fixed, row = self.settings.pinned_batch_us, self.settings.pinned_row_us
        return None if fixed is None or row is None else Cost(fixed / 1e6, row / 1e6)

    def _refresh_gauges(self) -> None:
        """Once a second: what is known only by looking."""
        self.onlooker.each_second()
        utilization = 0.0
        for variant, lane in self.batcher.stats().lanes.items():
            offered = lane.offered_rows - self._offered_rows[variant]
            self._offered_rows[variant] = lane.offered_rows
            utilization += offered / lane.capacity_rows_per_second
            self.metrics.queue_rows.labels(variant).set(lane.waiting_rows)
            self.metrics.cost_scale.labels(variant).set(lane.scale)
        self.metrics.utilization.set(utilization)
        self.metrics.lag.set(self.heartbeat.longest_lag_seconds)


def _sample(scorer: Scorer, one: Served, rows: int) -> Work:
    """Work to measure with: known activities where there are any, since those are what is asked for mostly.

    Else golden rows, mixed anew column by column: a few rows over and over would teach the processor their branches,
    and cost a third of what rows cost in truth.
    """
    random = np.random.default_rng(0)
    golden = one.model.bundle.golden().rows
    known = len(one.catalog)
    items = random.integers(known, size=rows) if known else ~np.arange(rows)
    own = golden[random.integers(len(golden), size=(0 if known else rows, golden.shape[1])), np.arange(golden.shape[1])]
    pairs = None
    if scorer.derived is not None:
        pairs = golden[random.integers(len(golden), size=rows)][:, scorer.derived.pairs]
    made = Rows(golden[0].tolist(), items.tolist(), own, [], {}, pairs)
    return Work(None, range(rows), scorer.maker, made, Lookup(None))


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


def _scoring(scorer: Scorer) -> dict[str, Any]:
    """How the model scores and why so, and the memory that it takes."""
    engine, catalog = scorer.model.engine, scorer.catalog
    return {
        "engine_reason": engine.reason,
        "engine_bytes": engine.bytes_used,
        "catalog_reason": catalog.reason,
        "catalog_bytes": catalog.bytes_used,
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
