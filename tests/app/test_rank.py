"""The main job: candidates in, their order out, with scores that are LightGBM's own."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from app_models import FEATURES, booster

from app.service import Service

CONTEXT = {"device": "mobile", "days_to_trip": 12}
IDS = [f"A{n}" for n in range(50)]


async def rank(client: httpx.AsyncClient, body: dict[str, Any], **headers: str) -> dict[str, Any]:
    response = await client.post("/v1/rank", json=body, headers={k.replace("_", "-"): v for k, v in headers.items()})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def expected_scores(
    bundles: Path, service: Service, variant: str, context: dict[str, Any], candidates: list[Any]
) -> dict[str, float]:
    """What `Booster.predict` says of rows that are made here, value by value."""
    catalog = service.served[variant].catalog  # type: ignore[index]
    features = service.served[variant].model.bundle.features  # type: ignore[index]
    rows, ids = [], []
    for candidate in candidates:
        own = {} if isinstance(candidate, str) else candidate.get("features", {})
        name = candidate if isinstance(candidate, str) else candidate["id"]
        ids.append(name)
        row = []
        for feature in features:
            value = context.get(feature.name) if feature.role == "context" else own.get(feature.name)
            if value is None and feature.role == "activity":
                value = catalog.value(name, feature.name)
            row.append(feature.encode(value))
        rows.append(row)
    scores = booster(bundles / variant).predict(np.array(rows), num_threads=1)
    return dict(zip(ids, scores.tolist(), strict=True))


@pytest.mark.parametrize("variant", ["control", "treatment"])
async def test_scores_are_those_of_booster_predict_bit_for_bit(
    client: httpx.AsyncClient, bundles: Path, service: Service, variant: str
) -> None:
    candidates = [
        *IDS[:20],
        "stranger",
        {"id": "A30", "features": {"price": 1.5}},
        {"id": "A31", "features": {"price": 39, "category": "opera", "free_cancellation": True}},
        {"id": "new", "features": {"rating": 4.9, "reviews": 3, "category": "museum"}},
        {"id": "empty", "features": {}},
    ]
    answer = await rank(client, {"context": CONTEXT, "candidates": candidates}, X_Variant=variant)
    expected = expected_scores(bundles, service, variant, CONTEXT, candidates)
    assert {one["id"]: one["score"] for one in answer["ranking"]} == expected
    assert answer["variant"] == variant


async def test_the_best_score_comes_first_and_ties_keep_the_order_of_the_request(client: httpx.AsyncClient) -> None:
    candidates = ["x", *IDS, "y", "z"]
    ranking = (await rank(client, {"candidates": candidates}))["ranking"]
    scores = [one["score"] for one in ranking]
    assert scores == sorted(scores, reverse=True)
    assert [one["position"] for one in ranking] == list(range(1, len(candidates) + 1))
    for one, next_one in itertools.pairwise(ranking):
        if one["score"] == next_one["score"]:
            assert candidates.index(one["id"]) < candidates.index(next_one["id"])


async def test_top_k_cuts_the_answer(client: httpx.AsyncClient) -> None:
    whole = (await rank(client, {"candidates": IDS}))["ranking"]
    assert (await rank(client, {"candidates": IDS, "top_k": 7}))["ranking"] == whole[:7]
    assert (await rank(client, {"candidates": IDS, "top_k": 700}))["ranking"] == whole


async def test_an_id_that_nobody_knows_is_ranked_and_listed(client: httpx.AsyncClient) -> None:
    answer = await rank(client, {"candidates": ["A1", "stranger", {"id": "new", "features": {"price": 3}}]})
    assert answer["unknown_candidates"] == ["stranger"]
    assert len(answer["ranking"]) == 3


async def test_null_is_the_same_as_not_given(client: httpx.AsyncClient) -> None:
    bare = await rank(client, {"candidates": ["A1", "A2"]})
    nulls = await rank(
        client,
        {
            "context": {"device": None},
            "candidates": [{"id": "A1", "features": None}, {"id": "A2", "features": {"price": None}}],
            "top_k": None,
        },
    )
    assert nulls["ranking"] == bare["ranking"]


async def test_the_answer_carries_its_passport(client: httpx.AsyncClient, service: Service) -> None:
    response = await client.post(
        "/v1/rank",
        json={"candidates": ["A1"]},
        headers={"X-Visitor-Id": "ada", "X-Request-Id": "r-17", "X-Variant": "treatment"},
    )
    answer = response.json()
    assert answer["request_id"] == response.headers["x-request-id"] == "r-17"
    assert answer["variant"] == response.headers["x-variant"] == "treatment"
    assert answer["assignment"] == "forced"
    assert answer["model"] == {"name": "activity-ranker", "version": "2"}
    assert response.headers["x-model-version"] == "activity-ranker/2"
    assert response.headers["x-code-version"] == "test"
    stages = [part.split(";")[0].strip() for part in response.headers["server-timing"].split(",")]
    assert stages == ["decode", "queue", "features", "score"]


async def test_a_visitor_stays_in_one_variant_and_both_variants_answer(client: httpx.AsyncClient) -> None:
    seen: dict[str, set[str]] = {}
    for _ in range(3):
        for n in range(30):
            answer = await rank(client, {"candidates": ["A1"]}, X_Visitor_Id=f"v{n}")
            assert answer["assignment"] == "hash"
            seen.setdefault(f"v{n}", set()).add(answer["variant"])
    assert all(len(variants) == 1 for variants in seen.values())
    assert set().union(*seen.values()) == {"control", "treatment"}


async def test_a_garbled_header_gets_an_ordinary_answer_and_is_counted(
    client: httpx.AsyncClient, service: Service
) -> None:
    answer = await rank(client, {"candidates": ["A1"]}, X_Visitor_Id="a b", X_Variant="blue", X_Request_Id="a b")
    assert (answer["variant"], answer["assignment"]) == ("control", "fallback")
    exposition = service.metrics.exposition().decode()
    for header in ("X-Visitor-Id", "X-Variant", "X-Request-Id"):
        assert f'frontrow_ignored_headers_total{{header="{header}"}} 1.0' in exposition


async def test_unseen_categories_and_unknown_candidates_are_counted(
    client: httpx.AsyncClient, service: Service
) -> None:
    await rank(
        client,
        {
            "context": {"device": "spaceship"},
            "candidates": ["who", {"id": "B", "features": {"category": "opera"}}, {"id": "C", "features": {}}],
        },
        X_Variant="control",
    )
    exposition = service.metrics.exposition().decode()
    assert 'frontrow_unknown_category_total{feature="device"} 1.0' in exposition
    assert 'frontrow_unknown_category_total{feature="category"} 1.0' in exposition
    assert "frontrow_unknown_candidate_total 1.0" in exposition


async def test_answers_do_not_depend_on_who_else_asks(client: httpx.AsyncClient) -> None:
    bodies = [
        {
            "context": {"days_to_trip": n},
            "candidates": [{"id": f"B{m}", "features": {"price": m + n / 7}} for m in range(n % 9)],
        }
        for n in range(60)
    ]
    alone = [await rank(client, body, X_Variant="control") for body in bodies]
    together = await asyncio.gather(*(rank(client, body, X_Variant="control") for body in bodies))
    assert [one["ranking"] for one in together] == [one["ranking"] for one in alone]


async def test_a_request_larger_than_a_batch_is_scored_in_pieces_with_equal_scores(
    client: httpx.AsyncClient, service: Service, bundles: Path
) -> None:
    candidates = [{"id": f"B{n}", "features": {"price": n / 7, "rating": n % 5}} for n in range(2_000)]
    assert service.batcher.stats().lanes["control"].limit_rows < 2_000
    answer = await rank(client, {"context": CONTEXT, "candidates": candidates}, X_Variant="control")
    expected = expected_scores(bundles, service, "control", CONTEXT, candidates)
    assert {one["id"]: one["score"] for one in answer["ranking"]} == expected


async def test_the_example_of_the_openapi_document_works(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/v1/rank"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    answer = await rank(client, example)
    assert answer["unknown_candidates"] == []
    assert len(answer["ranking"]) == len(example["candidates"]) == 3


async def test_identity_names_code_and_models_everywhere(client: httpx.AsyncClient, service: Service) -> None:
    version = (await client.get("/version")).json()
    models = (await client.get("/v1/models")).json()["models"]
    assert version["code_version"] == "test"
    for described, listed in zip(version["models"], models, strict=True):
        bundle = service.served[described["variant"]].model.bundle
        for facts in (described, listed):
            assert facts["version"] == bundle.version
            assert facts["run_id"] == bundle.run_id
            assert facts["sha256"] == bundle.sha256
    assert [feature["name"] for feature in models[0]["features"]] == [feature.name for feature in FEATURES]
    exposition = service.metrics.exposition().decode()
    for variant, one in service.served.items():
        assert f'run_id="{one.model.bundle.run_id}"' in exposition
        assert f'variant="{variant}"' in exposition
    assert 'frontrow_build_info{code_version="test"' in exposition


async def test_the_service_is_ready_until_it_drains(client: httpx.AsyncClient, service: Service) -> None:
    assert (await client.get("/healthz")).json()["status"] == "ok"
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "missing": [], "notes": []})
    service.begin_draining()
    draining = await client.get("/readyz")
    assert (draining.status_code, draining.json()["missing"]) == (503, ["the service is draining"])
    late = await client.post("/v1/rank", json={"candidates": ["A1"]})
    assert (late.status_code, late.headers["connection"]) == (200, "close")


async def test_a_defect_is_a_500_that_says_nothing_of_the_inside(
    client: httpx.AsyncClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object, **__: object) -> None:
        raise RuntimeError("the secret of the inside")

    monkeypatch.setattr(service.rankers["control"], "_order", explode)
    response = await client.post("/v1/rank", json={"candidates": ["A1"]})
    assert response.status_code == 500
    assert "secret" not in response.text
    assert msgspec.json.decode(response.content)["type"] == "urn:frontrow:internal-error"
