"""What is kept of the traffic is what happened in it."""

import asyncio
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pyarrow as pa
import pytest
from app_models import booster
from history_models import write_history_models
from served import serving

from app.derived import DerivedColumns
from app.models import fetch_models, load_models
from app.ranking import Scorer
from app.rows import RowMaker, Rows
from app.schemas import RequestShape
from app.service import Service
from app.settings import Settings, SettingsError, read_settings
from features import Catalog, Visitors
from features.events import Event, visitor_key
from features.stores.memory import MemoryStore
from monitoring.drift import BLOCK, Drift, DriftReading, Watch
from monitoring.exposures import EXPOSURES, FEEDBACK, Exposure, Feedback
from monitoring.journal import Reader
from monitoring.order import COMPARED
from monitoring.profile import parse_profile
from monitoring.ranking_log import KIND, LoggedRanking
from monitoring.replay import replay, summary
from registry import load_model, read_bundle, write_bundle
from training.profile import profile

MANY = [{"id": f"B{n}", "features": {"price": float(n)}} for n in range(500)]
IDS = [f"A{n}" for n in range(0, 50, 2)]
MIXED = [
    *IDS,
    "stranger",
    {"id": "A31", "features": {"price": 4.5, "category": "no such"}},
    {"id": "new", "features": {}},
]


@pytest.fixture(scope="session")
def watched_bundles(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundles `pairs` and `visitors`, with profiles of their golden rows."""
    plain, folder = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("watched")
    write_history_models(plain, bundles / "catalog.parquet")
    for name in ("pairs", "visitors"):
        bundle = read_bundle(plain / name)
        golden = bundle.golden()
        write_bundle(
            folder / name,
            model_text=bundle.read("model.lgb"),
            features=bundle.features,
            golden_rows=golden.rows,
            example=bundle.example,
            name=bundle.name,
            version=bundle.version,
            source=bundle.source,
            trained_at=bundle.trained_at,
            profile=msgspec.json.encode(profile(bundle.features, golden.rows, golden.scores)),
            catalog=bundle.read("catalog.parquet"),
        )
    return folder


@pytest.fixture
def watched_settings(settings: Settings, watched_bundles: Path, tmp_path: Path) -> Settings:
    return settings.model_copy(
        update={
            "control_model": str(watched_bundles / "pairs"),
            "treatment_model": str(watched_bundles / "visitors"),
            "feature_budget_ms": 1_000,
            "log_folder": tmp_path / "logs",
            "ranking_log_share": 1.0,
        }
    )


@pytest.fixture
async def watched(watched_settings: Settings) -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    service = Service(watched_settings, load_models(watched_settings, fetch_models(watched_settings)))
    await service.start()
    async with serving(service) as client:
        yield service, client
    await service.stop()


async def visit(client: httpx.AsyncClient, count: int) -> None:
    """Visitors who look, click and have activities ranked for them, two times each."""
    for number in range(count):
        visitor = f"visitor-{number}"
        events = [{"visitor_id": visitor, "activity_id": IDS[number % 25], "type": kind} for kind in ("view", "click")]
        assert (await client.post("/v1/events", json=events)).status_code == 202
        body = {"context": {"device": "mobile", "days_to_trip": number}, "candidates": MIXED, "top_k": 5}
        for _ in range(2):
            answer = await client.post("/v1/rank", json=body, headers={"X-Visitor-Id": visitor})
            assert answer.status_code == 200


async def test_every_logged_ranking_is_replayed_to_the_last_bit(
    watched: tuple[Service, httpx.AsyncClient], watched_bundles: Path, tmp_path: Path
) -> None:
    service, client = watched
    await visit(client, 12)
    await service.stop()
    logged = list(Reader(tmp_path / "logs", KIND, LoggedRanking))
    assert len(logged) == 24
    for name in ("pairs", "visitors"):
        model = load_model(watched_bundles / name, "reference")
        own = [one for one in logged if one.sha256 == model.bundle.sha256]
        found = summary(replay(own, model))
        assert found.rankings > 4
        assert found.differ == 0
        assert all(len(one.ranking) == 5 for one in own)
        assert any(one.history for one in own)


async def test_a_ranking_asked_for_in_columns_is_replayed_like_any_other(
    watched: tuple[Service, httpx.AsyncClient], watched_bundles: Path, tmp_path: Path
) -> None:
    service, client = watched
    batch = pa.record_batch(
        {"id": ["A1", "A2", "new"], "price": [None, 3.5, 9.25], "category": pa.array([None, "museum", None])}
    )
    sink = pa.BufferOutputStream()
    head = {b"frontrow": msgspec.json.encode({"context": {"device": "tablet"}})}
    with pa.ipc.new_stream(sink, batch.schema.with_metadata(head)) as writer:
        writer.write_batch(batch)
    answer = await client.post(
        "/v1/rank",
        content=sink.getvalue().to_pybytes(),
        headers={"Content-Type": "application/vnd.apache.arrow.stream", "X-Variant": "control"},
    )
    assert answer.status_code == 200, answer.text
    await service.stop()
    [logged] = Reader(tmp_path / "logs", KIND, LoggedRanking)
    assert logged.ids == ["A1", "A2", "new"]
    assert summary(replay([logged], load_model(watched_bundles / "pairs", "reference"))).differ == 0


async def test_exposures_and_feedback_are_logged_without_the_visitors_names(
    watched: tuple[Service, httpx.AsyncClient], tmp_path: Path
) -> None:
    service, client = watched
    await visit(client, 6)
    await service.stop()
    exposures = list(Reader(tmp_path / "logs", EXPOSURES, Exposure))
    assert sorted(one.unit for one in exposures) == sorted(visitor_key(f"visitor-{n}").hex() for n in range(6))
    assert {one.reason for one in exposures} == {"hash"}
    assert len(list(Reader(tmp_path / "logs", FEEDBACK, Feedback))) == 12
    assert b"visitor-" not in b"".join(path.read_bytes() for path in (tmp_path / "logs").iterdir())


async def test_without_a_folder_nothing_is_kept_and_the_split_is_judged_all_the_same(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    service = Service(settings, load_models(settings, fetch_models(settings)))
    await service.start()
    async with serving(service) as client:
        await client.post("/v1/rank", json={"candidates": IDS}, headers={"X-Visitor-Id": "ada"})
        service.onlooker.each_second()
        metrics = (await client.get("/metrics")).text
    await service.stop()
    assert "frontrow_srm_alarm 0.0" in metrics
    assert "frontrow_ranking_log_dropped_total 0.0" in metrics
    assert files_in(tmp_path) == []


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def test_a_folder_that_cannot_be_made_is_a_setting_at_fault(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    bad = settings.model_copy(update={"log_folder": tmp_path / "file" / "logs"})
    with pytest.raises(SettingsError, match="FRONTROW_LOG_FOLDER"):
        Service(bad, load_models(bad, fetch_models(bad)))


async def test_drift_is_told_by_the_page_and_by_the_metrics(watched: tuple[Service, httpx.AsyncClient]) -> None:
    service, client = watched
    await visit(client, 3)
    drift = msgspec.json.decode((await client.get("/v1/drift")).content, type=dict[str, DriftReading])
    assert set(drift) == {"control", "treatment"}
    names = [one.name for one in drift["control"].distributions]
    assert names == [*(one.name for one in service.served["control"].model.bundle.features), "score"]
    service.metrics.traffic.drifts("control", judged(service))
    metrics = (await client.get("/metrics")).text
    assert 'frontrow_feature_drift_alarm{feature="price",variant="control"} 2.0' in metrics
    assert 'frontrow_score_drift_psi{variant="control"}' in metrics


async def test_the_model_in_the_shadow_scores_what_it_does_not_answer(watched_settings: Settings) -> None:
    shadowed = watched_settings.model_copy(update={"shadow_share": 1.0, "treatment_share": 0.0})
    service = Service(shadowed, load_models(shadowed, fetch_models(shadowed)))
    await service.start()
    async with serving(service) as client:
        await visit(client, 5)
        async with asyncio.timeout(30):
            while "frontrow_shadow_top_overlap_count 10.0" not in (metrics := (await client.get("/metrics")).text):
                pass  # a turn in the shadow is soon, and not now
    await service.stop()
    assert "frontrow_shadow_refused_total 0.0" in metrics
    assert 'frontrow_requests_total{outcome="ok",variant="control"} 10.0' in metrics
    assert 'frontrow_requests_total{outcome="ok",variant="treatment"} 0.0' in metrics


async def test_without_a_share_nothing_stands_in_the_shadow(watched: tuple[Service, httpx.AsyncClient]) -> None:
    service, client = watched
    await visit(client, 2)
    await service.batcher.drain()
    stats = service.batcher.stats().lanes
    assert sum(lane.offered for lane in stats.values()) == 4
    assert "frontrow_shadow_top_overlap_count 0.0" in (await client.get("/metrics")).text


def judged(service: Service) -> DriftReading:
    """Three windows in which prices are in cents."""
    model = service.served["control"].model
    golden = model.bundle.golden()
    trained = parse_profile(profile(model.bundle.features, golden.rows, golden.scores), model.bundle.features)
    drift = Drift(trained, "m/1", window_seconds=1, now=0)
    rows = np.column_stack((golden.rows, golden.scores))
    rows[:, [one.name for one in model.bundle.features].index("price")] *= 100
    for window in range(3):
        drift.count(np.repeat(rows, 10, axis=0))
        assert drift.tick(window + 1.0)
    return drift.reading()


class Collected:
    """Stands for a drift; keeps what it is given."""

    def __init__(self) -> None:
        self.blocks: list[np.ndarray] = []

    def count(self, rows: np.ndarray) -> None:
        self.blocks.append(rows.copy())


@pytest.mark.parametrize("name", ["pairs", "visitors"])
async def test_the_rows_that_are_looked_at_are_those_that_were_scored(watched_bundles: Path, name: str) -> None:
    model = load_model(watched_bundles / name, "reference")
    features = model.bundle.features
    assert model.bundle.catalog is not None
    catalog = Catalog.read(model.bundle.catalog)
    shape = RequestShape.of_models({"control": features}, max_candidates=100, extra={})
    visitors = Visitors(MemoryStore(), budget_seconds=5)
    maker = RowMaker(features, shape, catalog)
    scorer = Scorer(model, maker, DerivedColumns(features, catalog, maker.known), visitors, budget_bytes=2**26)
    collected = Collected()
    scorer.watch = Watch[Rows](collected, scorer.picked, Rows.alone)  # type: ignore[arg-type]
    await visitors.record([Event("ada", "A2", "booking", visitors.now() - 5_000)])
    request = shape.decode(msgspec.json.encode({"context": {"device": "tablet"}, "candidates": MIXED}))
    for number in range(2 * BLOCK):
        visitor: Any = "ada" if number % 2 else None
        assert scorer.prepare is not None
        scorer.score(await scorer.prepare([scorer.work(request.context, request.candidates, visitor)]))
    await visitors.close()
    rows = np.concatenate(collected.blocks)
    assert len(rows) == 2 * BLOCK
    assert np.array_equal(booster(watched_bundles / name).predict(rows[:, :-1]), rows[:, -1])
    price = rows[:, [one.name for one in features].index("price")]
    assert np.isnan(price).any()
    assert len(np.unique(price)) > 10


async def test_of_a_request_that_is_looked_at_one_row_alone_stays_in_memory(service: Service) -> None:
    scorer = service.rankers["control"].scorer
    scorer.watch = Watch[Rows](Collected(), scorer.picked, Rows.alone)  # type: ignore[arg-type]
    request = service.shape.decode(msgspec.json.encode({"candidates": MANY}))
    work = scorer.work(request.context, request.candidates, None)
    rows = weakref.ref(work.rows.own)
    scorer.score([work])
    del work
    assert rows() is None


async def test_of_rankings_that_new_models_are_compared_on_the_first_candidates_alone_stay_in_memory(
    service: Service,
) -> None:
    async with serving(service) as client:
        await client.post("/v1/rank", json={"candidates": MANY})
    (recent,) = service.onlooker.recent
    assert list(recent.candidates) == [one["id"] for one in MANY[:COMPARED]]
    assert len(recent.rows.items) == len(recent.rows.own) == COMPARED
    assert recent.candidates.values.base is recent.rows.own.base is None


def test_the_settings_say_what_a_log_may_take(bundles: Path) -> None:
    with pytest.raises(SettingsError, match="FRONTROW_LOG_FOLDER_MB"):
        read_settings(control_model=str(bundles / "control"), log_folder_mb=1)
