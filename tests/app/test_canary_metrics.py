"""What a canary is judged by, and what an operator sees of how models score."""

import hashlib
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from app_models import booster
from prometheus_client.parser import text_string_to_metric_families
from served import serving

from app.models import fetch_models, load_models
from app.processing import Processing
from app.service import Service
from app.settings import Settings
from release.simulation import FINE_EDGES


def samples(service: Service, name: str) -> dict[tuple[str, ...], float]:
    """Values by the values of the labels, sorted by the labels' names."""
    found = {}
    for family in text_string_to_metric_families(service.metrics.exposition().decode()):
        for sample in family.samples:
            if sample.name == name:
                found[tuple(value for _, value in sorted(sample.labels.items()))] = sample.value
    return found


async def test_ready_is_1_exactly_while_readyz_answers_200(settings: Settings) -> None:
    service = Service(settings, load_models(settings, fetch_models(settings)))
    assert samples(service, "frontrow_ready") == {(): 0}
    await service.start()
    async with serving(service) as client:
        assert (await client.get("/readyz")).status_code == 200
        assert samples(service, "frontrow_ready") == {(): 1}
        service.begin_draining()
        assert (await client.get("/readyz")).status_code == 503
        assert samples(service, "frontrow_ready") == {(): 0}
    await service.stop()
    assert samples(service, "frontrow_ready") == {(): 0}


async def test_the_golden_scores_that_each_model_gave_are_named_by_their_digest(
    service: Service, bundles: Path
) -> None:
    expected = {}
    for variant, one in service.served.items():
        scores = booster(bundles / variant).predict(one.model.bundle.golden().rows, num_threads=1)
        expected[hashlib.sha256(scores.astype("<f8").tobytes()).hexdigest(), str(variant)] = 1.0
    assert samples(service, "frontrow_golden_info") == expected


async def test_durations_are_told_a_tenth_apart_and_the_promise_is_an_edge(service: Service) -> None:
    written = {edge for edge, _ in samples(service, "frontrow_request_duration_seconds_bucket")}
    assert {"0.1", "0.2", "1.0"} <= written
    assert max(map(len, written)) == len("0.0011")  # and not 0.0011000000000000001
    edges = sorted(edge for edge in map(float, written) if 0.001 <= edge <= 1)
    assert max(after / before for before, after in pairwise(edges)) < 1.2
    judged = [edge for edge in FINE_EDGES if 0.001 <= edge < 0.1]
    assert edges[: len(judged)] == pytest.approx(judged)


class Nothing(Processing):
    def arrange(self, context: Any, ranked: Any, top_k: int) -> Any:
        return []


class NobodyToScore(Processing):
    def select(self, context: Any, candidates: Any) -> Any:
        return []


@pytest.mark.parametrize("rules", [Nothing, NobodyToScore])
async def test_an_answer_without_a_ranking_is_unusable_unless_nothing_was_asked(
    settings: Settings, rules: type[Processing]
) -> None:
    settings = settings.model_copy(update={"processing": f"{__name__}:{rules.__name__}"})
    service = Service(settings, load_models(settings, fetch_models(settings)))
    assert samples(service, "frontrow_unusable_rankings_total") == {("control",): 0, ("treatment",): 0}
    await service.start()
    async with serving(service) as client:
        for candidates in ([], ["A1"], ["A1", "A2"]):
            response = await client.post("/v1/rank", json={"candidates": candidates}, headers={"X-Variant": "control"})
            assert response.json()["ranking"] == []
    await service.stop()
    assert samples(service, "frontrow_unusable_rankings_total") == {("control",): 2, ("treatment",): 0}


class NotANumber(Processing):
    def arrange(self, context: Any, ranked: Any, top_k: int) -> Any:
        ranked[-1].score = math.nan
        return ranked


async def test_rules_that_make_a_score_no_number_make_the_ranking_unusable(settings: Settings) -> None:
    settings = settings.model_copy(update={"processing": f"{__name__}:NotANumber"})
    service = Service(settings, load_models(settings, fetch_models(settings)))
    await service.start()
    async with serving(service) as client:
        await client.post("/v1/rank", json={"candidates": ["A1", "A2"]}, headers={"X-Variant": "control"})
    await service.stop()
    assert samples(service, "frontrow_unusable_rankings_total") == {("control",): 1, ("treatment",): 0}


async def test_a_score_that_is_not_finite_is_unusable(
    client: httpx.AsyncClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = service.rankers["treatment"].scorer.catalog
    score = catalog.score

    def endless(*arguments: Any) -> np.ndarray:
        scores: np.ndarray = score(*arguments)
        scores[0] = np.inf
        return scores

    monkeypatch.setattr(catalog, "score", endless)
    for variant in ("treatment", "treatment", "control"):
        await client.post("/v1/rank", json={"candidates": ["A1", "A2"]}, headers={"X-Variant": variant})
    assert samples(service, "frontrow_unusable_rankings_total") == {("control",): 0, ("treatment",): 2}


async def test_models_say_how_they_score_and_why_and_in_how_much_memory(
    client: httpx.AsyncClient, service: Service
) -> None:
    models = (await client.get("/v1/models")).json()["models"]
    for model in models:
        assert model["engine"] == "compiled"
        assert "scored as the reference engine scores them" in model["engine_reason"]
        assert model["catalog_reason"].startswith("masks of 32 bits")
        assert 0 < model["engine_bytes"] < 2**20
        assert model["catalog_bytes"] >= 51 * model["trees"] * 4  # activities, the unknown one included
    assert samples(service, "frontrow_scoring_bytes") == {
        (model["variant"],): model["engine_bytes"] + model["catalog_bytes"] for model in models
    }


async def test_the_reference_engine_says_that_it_was_asked_for(settings: Settings) -> None:
    settings = settings.model_copy(update={"engine": "reference", "treatment_model": ""})
    service = Service(settings, load_models(settings, fetch_models(settings)))
    await service.start()
    async with serving(service) as client:
        (model,) = (await client.get("/v1/models")).json()["models"]
    await service.stop()
    assert (model["engine"], model["engine_reason"], model["engine_bytes"]) == ("reference", "asked for", 0)
    assert "the reference engine has no masks" in model["catalog_reason"]
