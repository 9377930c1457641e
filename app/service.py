"""The composition root: from settings to a running service, opened in order and closed in reverse."""

import asyncio
import weakref
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import structlog
from msgspec import Struct

from app.beside import beside
from app.catalog_watch import CatalogWatch
from app.equipment import Equipment, Fitter, over
from app.events import Intake
from app.experiment import VARIANTS, Experiment, Variant
from app.explanation import Explainer
from app.hangup import listen_to_sighup
from app.heartbeat import LAG_SHARE, Heartbeat, LoopLate
from app.histories import bounds, open_visitors
from app.lame_duck import begin_lame_duck_on_sigterm
from app.memory import give_back
from app.metrics import Metrics, SwapResult
from app.model_watch import ModelWatch, identity_of
from app.models import Served, fetch_each, load_one, read_snapshot
from app.onlooker import Onlooker
from app.openapi import example_request
from app.processing import extra_fields, load_processing
from app.rank_drift import RankDrift, check_drift, golden_pairs, rank_drift, ranked_pairs
from app.ranking import Ranker, Scorer, Scores, Work
from app.schemas import ModelVersion, RequestShape
from app.settings import Settings
from app.siblings import Agreed, agree
from app.tracing import open_traces
from batching import Batcher, Cost, Lane, LaneStats, Limits, Priority
from registry import Bundle, Feature, Fetched, Model, code_revision

log = structlog.get_logger("frontrow")

# The part of a request's time limit that it may spend in line and in its batch; the rest is for the way there and back.
WAIT_SHARE = 0.35


class Passport(Struct, frozen=True, gc=False):
    """Whose answer it is: as the body says it, and as header lines."""

    model: ModelVersion
    lines: bytes


class Replacement(NamedTuple):
    """What ranks in place of a live model, and how alike the two rank; `returned` when it is the one before that."""

    equipment: Equipment
    drift: RankDrift
    result: SwapResult


class Swap(NamedTuple):
    """What became of a variant's last new model; `replaced` is the name and version of the one before it."""

    replaced: str
    at: datetime
    result: SwapResult
    drift: RankDrift


class Service:
    """Everything that answers requests. `start` and `stop` bracket its life on the event loop."""

    def __init__(
        self,
        settings: Settings,
        served: Mapping[Variant, Served],
        *,
        shared: Path | None = None,
        features: Mapping[str, tuple[Feature, ...]] | None = None,
    ) -> None:
        """`shared` is a folder for what several worker processes hold in common.

        `features` are those that requests are made of, by default the models'; they stay when models change.
        """
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
        self._features = features or {str(name): one.model.bundle.features for name, one in served.items()}
        self.shape = RequestShape.of_models(
            self._features,
            max_candidates=settings.max_candidates,
            extra=extra_fields(processing),
        )
        self.metrics = Metrics(
            [variant for variant in VARIANTS if variant in served], interleaves=settings.assignment == "interleave"
        )
        self.visitors = open_visitors(settings, self.metrics)
        self.explainer = Explainer()
        self.traces = open_traces(self.code_version)
        self.onlooker = Onlooker(settings, self.experiment, self.metrics)
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
        self._fitter = Fitter(settings, self.shape, processing, self.visitors, self._limits, shared=shared)
        self._parts = {variant: self._fitter.parts(one) for variant, one in served.items()}
        self._drifts = {variant: self.onlooker.drift_of(one.model) for variant, one in served.items()}
        self.rules_see_candidates = any(made.rules.selects or made.rules.arranges for made in self._parts.values())
        self._changing = asyncio.Lock()  # models or catalogs; one change begins with what the other one left
        self._kept: dict[Variant, Equipment] = {}
        self._swaps: dict[Variant, Swap] = {}
        self.catalog_watch = self._watch_catalog(settings.catalog)
        self.model_watch = self._watch_models()
        self.heartbeat = Heartbeat(self._refresh_gauges)
        self.code_headers = [(b"x-code-version", self.code_version.encode())]
        self._passports: dict[int, Passport] = {}

    async def start(self) -> None:
        """Warm up, measure what scoring costs, and say who serves. The service is ready afterwards."""
        self._equipment = {
            variant: self._fitter.priced(self._fitter.equip(parts, self._drifts.pop(variant)))
            for variant, parts in self._parts.items()
        }
        self._parts.clear()
        lanes: dict[str, Lane[Work, Scores]] = {
            variant: _lane(one.scorer, one.cost) for variant, one in self._equipment.items()
        }
        self.batcher: Batcher[Work, Scores] = Batcher(lanes, limits=self._limits, observer=self.metrics.scored)
        await self.batcher.start()
        self.rankers: dict[Variant, Ranker] = {}
        for variant, one in self._equipment.items():
            self.rankers[variant] = Ranker(variant, self.batcher, one.scorer, one.rules)
            self.onlooker.watch(variant, one.scorer, one.drift)
        self.onlooker.start(self.batcher)
        self._offered_rows: dict[str, int] = dict.fromkeys(self.served, 0)
        self._refresh_gauges()  # a scrape that comes within the first second finds them too
        self.heartbeat.start()
        self.metrics.runs(self.code_version)
        for variant in self.served:
            self._say_who_serves(variant)
        if self.catalog_watch is not None:
            self.catalog_watch.start()
        self.model_watch.start()
        self._end_of_listening = listen_to_sighup(self.model_watch.look_soon)
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
        self._end_of_listening()
        await self.model_watch.stop()
        if self.catalog_watch is not None:
            await self.catalog_watch.stop()
        await self.visitors.close()
        self.onlooker.stop()
        if self.traces is not None:
            await asyncio.to_thread(self.traces.close)  # it waits for the collector
        self.explainer.close()
        self.heartbeat.stop()
        self.metrics.count_observed()

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
        found = self._passports.get(id(model))
        if found is None:
            found = self._passports[id(model)] = self.joint_passport(model)
            weakref.finalize(model, self._passports.pop, id(model), None).atexit = False
        return found

    def joint_passport(self, *models: Model) -> Passport:
        """That of an answer which all of these models made, control's first."""
        name = "+".join(model.bundle.name for model in models)
        version = "+".join(model.bundle.version for model in models)
        lines = f"x-model-version: {name}/{version}\r\nx-code-version: {self.code_version}\r\n"
        return Passport(ModelVersion(name, version), lines.encode())

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
        ] + [
            f"{variant} serves {_name(self.served[variant])}, and what is named in its place is refused: {reason}"
            for variant, reason in self.model_watch.refused().items()
        ]

    def describe_models(self) -> list[dict[str, Any]]:
        lanes = self.batcher.stats().lanes
        return [
            {
                **_facts(variant, one),
                **_scoring(self._equipment[variant].scorer),
                **self._last_swap(variant),
                "calibration": _calibration(lanes[variant]),
                "features": [asdict(feature) for feature in one.model.bundle.features],
            }
            for variant, one in self.served.items()
        ]

    def example(self, one: Served | None = None) -> dict[str, Any]:
        """A request that works, for people to copy; by default one in the terms of the control model."""
        one = one or self.served["control"]
        return example_request(self.shape, one.model.bundle, one.catalog)

    # When models or catalogs change

    def _watch_catalog(self, path: Path | None) -> CatalogWatch[dict[Variant, Equipment]] | None:
        if path is None:
            return None
        return CatalogWatch(
            path,
            seconds=self.settings.catalog_poll_seconds,
            seen=self.served["control"].snapshot,
            load=partial(self._renew, path),
            use=self._use_catalog,
            refused=self.metrics.catalog_refused.inc,
            lock=self._changing,
        )

    def _renew(self, path: Path) -> dict[Variant, Equipment]:
        """What ranks over the snapshot that is there now; made in a thread. Raises `CatalogError`."""
        version, catalog = read_snapshot(path)
        return {
            variant: self._fitter.renew(live, replace(live.one, catalog=catalog, snapshot=version))
            for variant, live in self._equipment.items()
        }

    def _use_catalog(self, equipment: Mapping[Variant, Equipment]) -> None:
        self._use(equipment)
        for variant, one in equipment.items():
            self.metrics.knows(variant, len(one.one.catalog))
            log.info("ranks other activities", variant=variant, activities=len(one.one.catalog), **_scoring(one.scorer))

    def _watch_models(self) -> ModelWatch[Replacement]:
        return ModelWatch(
            seconds=self.settings.model_poll_seconds,
            served=self.served,
            fetch=partial(fetch_each, self.settings),
            prepare=self._replacement,
            use=self._replace,
            confirm=self._confirm,
            metrics=self.metrics,
            lock=self._changing,
        )

    async def _replacement(self, variant: Variant, fetched: Fetched, bundle: Bundle) -> Replacement:
        """What ranks with a model that was fetched, or kept. Raises what is wrong with it."""
        live, kept, learned = self._equipment[variant], self._kept.get(variant), self._learned_cost(variant)
        if kept is not None and identity_of(kept.one.model.bundle) == identity_of(bundle):
            if not self._is_current(kept):
                kept = await beside(partial(self._fitter.renew, kept, over(kept.one, live.one)))
            return Replacement(kept, await self._rank_drift(live, kept), "returned")
        made = await beside(partial(self._load, fetched, live, learned))
        drift = await self._rank_drift(live, made)
        check_drift(drift, self.settings.swap_min_kendall_tau)
        return Replacement(made, drift, "swapped")

    def _is_current(self, kept: Equipment) -> bool:
        """Whether it ranks the activities of now: those of the settings' snapshot, if it has one."""
        return self.settings.catalog is None or kept.one.catalog is self.served["control"].catalog

    def _load(self, fetched: Fetched, live: Equipment, learned: Cost) -> Equipment:
        """What ranks with a new model; made in a thread."""
        shared = None if self.settings.catalog is None else (live.one.snapshot, live.one.catalog)
        one = load_one(fetched, self.settings, shared)
        made = self._fitter.equip(self._fitter.parts(one), self.onlooker.drift_of(one.model))
        return self._fitter.priced_beside(made, live, learned)

    async def _rank_drift(self, live: Equipment, new: Equipment) -> RankDrift:
        works = list(self.onlooker.recent)
        await new.scorer.look_up(works)
        return await beside(
            lambda: rank_drift(golden_pairs(live.one, new.one) + ranked_pairs(live.scorer, new.scorer, works))
        )

    async def _replace(self, replacements: Mapping[Variant, Replacement]) -> None:
        """Rank with new models from the next batches on, all at once."""
        before = {variant: _name(self.served[variant]) for variant in replacements}
        bundles = {variant: one.fetched for variant, one in self.served.items()}
        bundles |= {variant: new.equipment.one.fetched for variant, new in replacements.items()}
        if self._shared is not None:  # first, so that no worker that is started meanwhile is behind this one
            await beside(partial(agree, self._shared, Agreed(bundles, self._features)))
        self._use({variant: new.equipment for variant, new in replacements.items()})
        for variant, (_, drift, result) in replacements.items():
            self._swaps[variant] = Swap(before[variant], datetime.now(UTC), result, drift)
            self.metrics.swap_ended(variant, result, drift)
            self._say_who_serves(variant, result=result, replaced=before[variant], **drift._asdict())
        await beside(give_back)

    def _confirm(self, variant: Variant, fetched: Fetched) -> None:
        """The model that serves is still the one to serve."""
        self.served[variant] = one = replace(self.served[variant], fetched=fetched)
        self._equipment[variant] = self._equipment[variant]._replace(one=one)
        self.metrics.verified(variant, last_known_good=False, at=fetched.fetched_at.timestamp())

    def _use(self, equipment: Mapping[Variant, Equipment]) -> None:
        """Rank with it from the next batch on; who waits keeps waiting, and what is partly scored ends as it began."""
        for variant, new in equipment.items():
            live, learned = self._equipment[variant], self._learned_cost(variant)
            if new.one.model is not live.one.model:
                self._kept[variant] = live._replace(cost=learned)
            self.batcher.swap(variant, _lane(new.scorer, new.cost or learned))
            self.served[variant], self._equipment[variant] = new.one, new
            self.rankers[variant] = Ranker(variant, self.batcher, new.scorer, new.rules)
            self.onlooker.watch(variant, new.scorer, new.drift)

    def _learned_cost(self, variant: Variant) -> Cost:
        """What batches cost by now."""
        lane = self.batcher.stats().lanes[variant]
        return Cost(lane.scale * lane.fixed_seconds, lane.scale * lane.row_seconds)

    # What is said of it

    def _say_who_serves(self, variant: Variant, **facts: Any) -> None:
        one, scoring = self.served[variant], _scoring(self._equipment[variant].scorer)
        lane = self.batcher.stats().lanes[variant]
        last_known_good, verified_at = one.fetched.origin == "last-known-good", one.fetched.fetched_at.timestamp()
        self.metrics.serves(variant, one.model, last_known_good=last_known_good, verified_at=verified_at)
        self.metrics.knows(variant, len(one.catalog))
        self.metrics.calibrated(variant, lane)
        self.metrics.scoring_bytes.labels(variant).set(scoring["engine_bytes"] + scoring["catalog_bytes"])
        log.info("serves", **_facts(variant, one), **scoring, calibration=_calibration(lane), **facts)

    def _last_swap(self, variant: Variant) -> dict[str, Any]:
        swap, kept = self._swaps.get(variant), self._kept.get(variant)
        return {
            "swap": None if swap is None else swap._replace(drift=swap.drift._asdict())._asdict(),  # type: ignore[arg-type]
            "kept": None if kept is None else _name(kept.one),
            "refused": self.model_watch.refused().get(variant),
        }

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
        self.metrics.count_observed()


def _lane(scorer: Scorer, cost: Cost | None) -> Lane[Work, Scores]:
    assert cost is not None  # it was measured, or learned from the one before
    return Lane(scorer.score, scorer.split, scorer.join, cost, scorer.prepare)


def _name(one: Served) -> str:
    return f"{one.model.bundle.name}/{one.model.bundle.version}"


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
