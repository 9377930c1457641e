"""`"explain": true`: why candidates got their scores."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest
from app_models import FEATURES, booster
from history_models import write_history_models
from served import serving

from app.explanation import EXPLAINED, TOP, WAITING
from app.models import fetch_models, load_models
from app.schemas import Explanation
from app.service import Service
from app.settings import Settings
from scoring import ReferenceEngine

BODY = {
    "context": {"device": "mobile", "days_to_trip": 12},
    "candidates": [*(f"A{n}" for n in range(20)), {"id": "new", "features": {"price": 20.0, "category": "museum"}}],
    "explain": True,
}
CONTROL = {"X-Variant": "control", "X-Visitor-Id": "ada"}


async def ask(client: httpx.AsyncClient, **changes: object) -> dict:
    answer = await client.post("/v1/rank", json={**BODY, **changes}, headers=CONTROL)
    assert answer.status_code == 200, answer.text
    document: dict = answer.json()
    return document


def total(explanation: dict) -> float:
    return float(
        explanation["base"] + sum(one["contribution"] for one in explanation["features"]) + explanation["others"]
    )


def test_contributions_are_those_of_lightgbm(bundles: Path) -> None:
    oracle = booster(bundles / "control")
    rows = np.random.default_rng(3).normal(size=(30, len(FEATURES)))
    rows[::4, 3] = np.nan
    engine = ReferenceEngine((bundles / "control" / "model.lgb").read_bytes())
    added = engine.contributions(rows)
    assert np.array_equal(added, oracle.predict(rows, pred_contrib=True))
    assert added.sum(axis=1) == pytest.approx(engine.score(rows), abs=1e-9)
    assert engine.contributions(rows[:0]).shape == (0, len(FEATURES) + 1)


async def test_contributions_add_up_to_the_score(client: httpx.AsyncClient) -> None:
    answer = await ask(client)
    first = answer["ranking"][:EXPLAINED]
    assert [one["id"] for one in answer["explanations"]] == [one["id"] for one in first]
    for ranked, explained in zip(first, answer["explanations"], strict=True):
        assert total(explained) == pytest.approx(ranked["score"], abs=1e-9)


async def test_the_features_that_moved_a_score_most_are_named_with_their_values(client: httpx.AsyncClient) -> None:
    answer = await ask(client, candidates=BODY["candidates"][-1:])
    [explained] = answer["explanations"]
    sizes = [abs(one["contribution"]) for one in explained["features"]]
    assert len(sizes) == TOP
    assert sizes == sorted(sizes, reverse=True)
    values = {one["feature"]: one["value"] for one in explained["features"]}
    given = {
        "price": 20.0,
        "category": "museum",
        "device": "mobile",
        "days_to_trip": 12,
        "rating": None,
        "reviews": None,
    }
    assert values.keys() & given.keys()
    assert all(value == given.get(name) for name, value in values.items())


async def test_what_a_visitor_did_is_explained_too(settings: Settings, bundles: Path, tmp_path: Path) -> None:
    write_history_models(tmp_path, bundles / "catalog.parquet")
    looking = settings.model_copy(update={"control_model": str(tmp_path / "pairs"), "feature_budget_ms": 1_000})
    service = Service(looking, load_models(looking, fetch_models(looking)))
    await service.start()
    async with serving(service) as client:
        events = [{"visitor_id": "ada", "activity_id": "A3", "type": kind} for kind in ("view", "click", "booking")]
        assert (await client.post("/v1/events", json=events)).status_code == 202
        answer = await ask(client)
        for ranked, explained in zip(answer["ranking"], answer["explanations"], strict=False):
            assert total(explained) == pytest.approx(ranked["score"], abs=1e-9)
    await service.stop()


async def test_who_does_not_ask_gets_no_explanations(client: httpx.AsyncClient) -> None:
    for explain in (False, None):
        assert "explanations" not in await ask(client, explain=explain)
    wrong = await client.post("/v1/rank", json={**BODY, "explain": "yes"}, headers=CONTROL)
    assert wrong.status_code == 422
    assert wrong.json()["faults"][0]["place"] == "$.explain"


async def test_a_setting_turns_explanations_off(settings: Settings) -> None:
    silent = settings.model_copy(update={"explanations": False})
    service = Service(silent, load_models(silent, fetch_models(silent)))
    await service.start()
    async with serving(service) as client:
        assert "explanations" not in await ask(client)
    await service.stop()


class Slow:
    """Explains when it is told to."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.future: asyncio.Future[list[Explanation]] = asyncio.get_running_loop().create_future()

    def explain(self, variant: str, ids: Sequence[str], rows: np.ndarray) -> "asyncio.Future[list[Explanation]]":
        self.asked.set()
        return self.future

    def close(self) -> None:
        pass


async def test_a_caller_that_leaves_while_it_is_explained_is_counted_once(settings: Settings) -> None:
    service = Service(settings, load_models(settings, fetch_models(settings)))
    await service.start()
    slow = Slow()
    service.explainer = slow  # type: ignore[assignment]
    async with serving(service) as client:
        asking = asyncio.create_task(ask(client))
        await asyncio.wait_for(slow.asked.wait(), 30)
        asking.cancel()
        for _ in range(1_000):
            if counted(service, "cancelled"):
                break
            await asyncio.sleep(0.01)
        slow.future.set_result([])
        await asyncio.sleep(0)
        assert counted(service, "cancelled") == 1
        assert counted(service, "ok") == 0
    lane = service.batcher.stats().lanes["control"]
    assert lane.offered == sum(lane.outcomes.values()) == 1
    await service.stop()


def counted(service: Service, outcome: str) -> float:
    [value] = [
        line.rpartition(b" ")[2]
        for line in service.metrics.exposition().splitlines()
        if line.startswith(b'frontrow_requests_total{outcome="%b",variant="control"}' % outcome.encode())
    ]
    return float(value)


async def test_when_too_many_are_explained_an_answer_comes_without(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(ask(client) for _ in range(8 * WAITING)))
    assert all(len(answer["ranking"]) == 21 for answer in answers)
    assert any("explanations" in answer for answer in answers)
