"""What a visitor just did counts in the next ranking, whatever the batch, the pieces and the store."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import structlog
from app_models import booster
from history_models import expected_rows
from processes import Process
from served import running

from app.models import fetch_models, load_models
from app.service import Service
from app.settings import Settings
from features import NOTHING, Event, History, StoreUnavailable, Visitor
from features.events import visitor_key
from features.history import unpack
from features.stores.memory import MemoryStore
from registry import BundleError, read_bundle, write_bundle

CONTEXT = {"device": "mobile", "days_to_trip": 12}
IDS = [f"A{n}" for n in range(50)]
MIXED = [*IDS[:30], "stranger", {"id": "A31", "features": {"price": 4.5}}, {"id": "new", "features": {"price": 9.5}}]
BODY = {"context": CONTEXT, "candidates": MIXED}


class WatchedStore(MemoryStore):
    """Remembers what it was asked for; raises `error` if there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.fetches: list[Sequence[bytes]] = []
        self.error: Exception | None = None

    async def fetch(self, visitors: Sequence[bytes]) -> list[bytes | None]:
        self.fetches.append(visitors)
        if self.error is not None:
            raise self.error
        return await super().fetch(visitors)


@pytest.fixture
def history_settings(settings: Settings, history_bundles: Path) -> Settings:
    """Control looks at pairs, treatment at visitors; on a busy machine no store is too slow."""
    return settings.model_copy(
        update={
            "control_model": str(history_bundles / "pairs"),
            "treatment_model": str(history_bundles / "visitors"),
            "feature_budget_ms": 1_000,
        }
    )


class World:
    """A service, its client and its store."""

    def __init__(self, service: Service, client: httpx.AsyncClient, store: WatchedStore) -> None:
        self.service = service
        self.client = client
        self.store = store

    async def send(self, *events: dict[str, Any]) -> dict[str, Any]:
        response = await self.client.post("/v1/events", json=list(events))
        assert response.status_code == 202, response.text
        receipt: dict[str, Any] = response.json()
        return receipt

    async def rank(self, variant: str, visitor: str | None, body: dict[str, Any] = BODY) -> dict[str, Any]:
        headers = {"X-Variant": variant} | ({} if visitor is None else {"X-Visitor-Id": visitor})
        response = await self.client.post("/v1/rank", json=body, headers=headers)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    async def known(self, visitor: str) -> History:
        (value,) = await MemoryStore.fetch(self.store, [visitor_key(visitor)])
        return NOTHING if value is None else unpack(value, visitor_key(visitor))

    async def found(self, visitor: str, logs: Sequence[Any]) -> Visitor:
        """What the one ranking in the logs should have known."""
        (moment,) = moments(logs)
        return Visitor(await self.known(visitor), moment, degraded=False)

    def expected(self, variant: str, found: Visitor, body: dict[str, Any] = BODY) -> dict[str, float]:
        """What `Booster.predict` says of the rows that this request should make."""
        one = self.service.served[variant]  # type: ignore[index]
        rows = expected_rows(one.model.bundle.features, one.catalog, body, found.history, found.moment)
        scores = booster(one.fetched.folder).predict(rows, num_threads=1)
        ids = [one if isinstance(one, str) else one["id"] for one in body["candidates"]]
        return dict(zip(ids, scores.tolist(), strict=True))


@pytest.fixture
async def world(history_settings: Settings) -> AsyncIterator[World]:
    store = WatchedStore()
    async with running(history_settings, store) as (service, client):
        yield World(service, client, store)


def scores(answer: dict[str, Any]) -> dict[str, float]:
    return {one["id"]: one["score"] for one in answer["ranking"]}


def moments(logs: Sequence[Any]) -> list[int]:
    return [line["moment"] for line in logs if line["event"] == "rank"]


def viewing(visitor: str, activity: str, kind: str = "view") -> dict[str, Any]:
    return {"visitor_id": visitor, "activity_id": activity, "type": kind}


NOBODY = Visitor(NOTHING, 0, degraded=False)


@pytest.mark.parametrize("variant", ["control", "treatment"])
async def test_scores_with_a_history_are_those_of_booster_predict_bit_for_bit(world: World, variant: str) -> None:
    await world.send(viewing("ada", "A3"), viewing("ada", "A7", "booking"), viewing("ada", "A31", "click"))
    with structlog.testing.capture_logs() as logs:
        answer = await world.rank(variant, "ada")
    found = await world.found("ada", logs)
    assert len(found.history.at) == 3
    assert scores(answer) == world.expected(variant, found)
    assert scores(answer) != world.expected(variant, NOBODY)
    assert not answer["degraded"]


async def test_each_event_counts_in_the_very_next_ranking(world: World) -> None:
    for number in range(20):
        await world.send(viewing("ada", f"A{number % 5}"))
        with structlog.testing.capture_logs() as logs:
            answer = await world.rank("control", "ada")
        found = await world.found("ada", logs)
        assert len(found.history.at) == number + 1
        assert scores(answer) == world.expected("control", found)


async def test_a_visitor_without_a_history_or_without_an_id_is_a_new_one(world: World) -> None:
    await world.send(viewing("ada", "A3"))
    expected = world.expected("control", NOBODY)
    assert scores(await world.rank("control", "ben")) == expected
    assert len(world.store.fetches) == 1
    answer = await world.rank("control", None)
    assert (scores(answer), answer["degraded"]) == (expected, False)
    assert len(world.store.fetches) == 1


async def test_rankings_of_one_batch_cost_one_round_trip_and_do_not_mix(world: World) -> None:
    visitors = [f"v{n}" for n in range(12)]
    await world.send(*(viewing(visitor, f"A{n}") for n, visitor in enumerate(visitors)))
    await asyncio.gather(*(world.rank("control", visitor) for visitor in visitors))  # connections are open now
    world.store.fetches.clear()
    reports = world.service.batcher.stats().lanes["control"]
    with structlog.testing.capture_logs() as logs:
        answers = await asyncio.gather(*(world.rank("control", visitor) for visitor in visitors))
    assert len(world.store.fetches) < len(visitors)
    asked = [key for fetch in world.store.fetches for key in fetch]
    assert sorted(asked) == sorted(visitor_key(visitor) for visitor in visitors)
    assert reports.offered == len(visitors)
    by_request = {line["request_id"]: line["moment"] for line in logs if line["event"] == "rank"}
    for visitor, answer in zip(visitors, answers, strict=True):
        found = Visitor(await world.known(visitor), by_request[answer["request_id"]], degraded=False)
        assert scores(answer) == world.expected("control", found)


async def test_a_ranking_larger_than_a_batch_has_one_look_and_one_moment_for_all_of_its_pieces(world: World) -> None:
    strangers = [{"id": f"B{n}", "features": {"price": n / 7}} for n in range(1_500)]
    body = {"context": CONTEXT, "candidates": [*IDS, *strangers, "stranger"]}
    assert world.service.batcher.stats().lanes["control"].limit_rows < len(strangers)
    await world.send(viewing("ada", "A3"), viewing("ada", "A4"))
    with structlog.testing.capture_logs() as logs:
        answer = await world.rank("control", "ada", body)
    assert len(world.store.fetches) == 1
    found = await world.found("ada", logs)
    assert scores(answer) == world.expected("control", found, body)


async def test_a_model_without_derived_features_never_asks(history_settings: Settings, bundles: Path) -> None:
    store = WatchedStore()
    settings = history_settings.model_copy(update={"treatment_model": str(bundles / "control")})
    async with running(settings, store) as (service, client):
        world = World(service, client, store)
        await world.rank("treatment", "ada")
        assert store.fetches == []
        await world.rank("control", "ada")
        assert len(store.fetches) == 1


async def test_a_store_that_fails_degrades_rankings_and_fails_none(world: World) -> None:
    await world.send(viewing("ada", "A3"))
    world.store.error = StoreUnavailable("gone")
    with structlog.testing.capture_logs() as logs:
        answer = await world.rank("control", "ada")
    assert answer["degraded"]
    assert scores(answer) == world.expected("control", NOBODY)
    assert [line["degraded"] for line in logs if line["event"] == "rank"] == [True]
    exposition = world.service.metrics.exposition().decode()
    assert 'frontrow_degraded_total{variant="control"} 1.0' in exposition
    assert 'frontrow_feature_store_errors_total{reason="error",store="memory"} 1.0' in exposition
    assert not (await world.rank("control", None))["degraded"]
    world.store.error = None
    assert not (await world.rank("control", "ada"))["degraded"]


async def test_the_store_is_timed_and_its_breaker_shows(world: World) -> None:
    await world.rank("control", "ada")
    exposition = world.service.metrics.exposition().decode()
    assert 'frontrow_feature_store_duration_seconds_count{store="memory"} 1.0' in exposition
    assert 'frontrow_feature_store_degraded{store="memory"} 0.0' in exposition
    world.store.error = StoreUnavailable("gone")
    for _ in range(3):
        await world.rank("control", "ada")
    assert 'frontrow_feature_store_degraded{store="memory"} 1.0' in world.service.metrics.exposition().decode()


async def test_looking_a_visitor_up_belongs_to_the_features_in_server_timing(world: World) -> None:
    response = await world.client.post("/v1/rank", json=BODY, headers={"X-Visitor-Id": "ada"})
    timing = dict(part.strip().split(";dur=") for part in response.headers["server-timing"].split(","))
    assert timing.keys() == {"decode", "queue", "features", "score"}
    assert all(float(milliseconds) >= 0 for milliseconds in timing.values())


def test_a_model_with_a_derived_feature_that_nobody_knows_is_refused_by_its_name(
    history_settings: Settings, history_bundles: Path, tmp_path: Path
) -> None:
    newer = rename_feature(history_bundles / "pairs", tmp_path / "newer", "booked_before", "smiled_before")
    settings = history_settings.model_copy(update={"control_model": str(newer)})
    with pytest.raises(BundleError, match=r"derived feature 'smiled_before' \(1 such\), which this code does not have"):
        load_models(settings, fetch_models(settings))


def serve_and_fail(bundles: Path, *arguments: str, **settings: object) -> tuple[int, str]:
    """Exit code and output of a service that is not expected to start."""
    environment = {f"FRONTROW_{name.upper()}": str(value) for name, value in settings.items()}
    process = Process(["--port", "0", *arguments], environment, bundles)
    return process.wait(), process.output


def test_histories_in_memory_are_not_for_several_workers(history_bundles: Path) -> None:
    models = {"control_model": history_bundles / "pairs", "treatment_model": ""}
    code, output = serve_and_fail(history_bundles, "--workers", "2", **models)
    assert code == 2, output
    assert "FRONTROW_FEATURE_STORE: memory: is for one process, and FRONTROW_WORKERS is 2" in output


@pytest.mark.parametrize(
    ("store", "words"),
    [
        ("rediss:/typo", "FRONTROW_FEATURE_STORE: the URL of the store must start with"),
        ("sqlite:/proc/no/such.db", "FRONTROW_FEATURE_STORE: such.db: "),
        ("feast:nowhere", "FRONTROW_FEATURE_STORE: "),
    ],
)
def test_a_store_that_cannot_be_opened_is_exit_code_2_and_named(history_bundles: Path, store: str, words: str) -> None:
    models = {"control_model": history_bundles / "pairs", "treatment_model": ""}
    code, output = serve_and_fail(history_bundles, feature_store=store, **models)
    assert code == 2, output
    assert words in output
    assert "Traceback" not in output


def rename_feature(source: Path, target: Path, name: str, other: str) -> Path:
    """A bundle whose model and feature list call a feature by another name."""
    bundle = read_bundle(source)
    features = tuple(
        type(one)(other if one.name == name else one.name, one.role, one.type, one.categories)
        for one in bundle.features
    )
    write_bundle(
        target,
        model_text=(source / "model.lgb").read_bytes().replace(name.encode(), other.encode()),
        features=features,
        golden_rows=np.zeros((1, len(features))),
        example=[],
        name="activity-ranker",
        version="9",
        source="models:/activity-ranker/9",
        trained_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return target


def test_events_reach_no_further_back_than_settings_say(history_settings: Settings) -> None:
    settings = history_settings.model_copy(update={"history_events": 2, "history_days": 1})
    service = Service(settings, load_models(settings, fetch_models(settings)))

    async def kept() -> int:
        now = service.visitors.now()
        await service.visitors.record([Event("ada", "A1", "view", now - ago) for ago in (1, 2, 3, 90_000_000)])
        (ada,) = await service.visitors.fetch(["ada"])
        await service.visitors.close()
        return len(ada.history.at)

    assert asyncio.run(kept()) == 2
