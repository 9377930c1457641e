"""The OpenAPI document is valid, complete, made from the running models, and enough to make a client from."""

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate
from processes import serving

from app.openapi import describe_rank
from app.schemas import RequestShape
from app.service import Service
from registry import Feature

ARROW = "application/vnd.apache.arrow.stream"
CITIES = tuple(f"city-{n}" for n in range(400))
JSON_TYPES = {"number": "number", "integer": "integer", "boolean": "boolean", "category": "string"}


async def read_document(client: httpx.AsyncClient) -> dict[str, Any]:
    document: dict[str, Any] = (await client.get("/openapi.json")).json()
    return document


def fields_of(document: dict[str, Any], schema: str) -> dict[str, Any]:
    properties: dict[str, Any] = document["components"]["schemas"][schema]["properties"]
    return properties


def types_of(field: dict[str, Any]) -> list[str]:
    return [kind["type"] for kind in field["anyOf"]]


async def test_the_document_is_valid_openapi(client: httpx.AsyncClient) -> None:
    document = await read_document(client)
    assert document["openapi"].startswith("3.1")
    validate(document)


async def test_every_answer_of_rank_has_a_schema_and_its_headers(client: httpx.AsyncClient) -> None:
    responses = (await read_document(client))["paths"]["/v1/rank"]["post"]["responses"]
    assert responses.keys() == {"200", "400", "408", "413", "415", "422", "431", "500", "503", "504"}
    for status, response in responses.items():
        media, schema = ("json", "RankResponse") if status == "200" else ("problem+json", "ProblemDocument")
        assert response["content"].keys() == {f"application/{media}", *([ARROW] if status == "200" else [])}
        assert response["content"][f"application/{media}"] == {"schema": {"$ref": f"#/components/schemas/{schema}"}}
        assert response["headers"].keys() >= {"X-Request-Id", "X-Variant", "X-Code-Version"}
    assert "Retry-After" in responses["503"]["headers"]


async def test_the_example_fits_its_own_schema(client: httpx.AsyncClient) -> None:
    document = await read_document(client)
    body = document["paths"]["/v1/rank"]["post"]["requestBody"]["content"]["application/json"]
    validator = OAS31Validator({**body["schema"], "components": document["components"]})
    assert list(validator.iter_errors(body["example"])) == []
    assert list(validator.iter_errors({**body["example"], "top_k": 0})) != []


async def test_names_types_and_categories_of_the_running_models_stand_in_the_document(
    client: httpx.AsyncClient, service: Service
) -> None:
    document = await read_document(client)
    features = {feature for one in service.served.values() for feature in one.model.bundle.features}
    for role, schema in (("context", "Context"), ("activity", "Features")):
        fields = fields_of(document, schema)
        expected = [feature for feature in features if feature.role == role]
        assert fields.keys() == {feature.name for feature in expected}
        for feature in expected:
            assert types_of(fields[feature.name]) == [JSON_TYPES[feature.type], "null"]
            assert fields[feature.name].get("examples", []) == list(feature.categories or ())


def test_the_document_has_what_either_model_asks_for_and_every_category_however_many() -> None:
    models = {
        "control": (Feature("city", "activity", "category", CITIES), Feature("hour", "context", "integer")),
        "treatment": (Feature("city", "activity", "category", ("nowhere",)), Feature("rain", "context", "boolean")),
    }
    shape = RequestShape.of_models(models, max_candidates=7, extra={})
    document = describe_rank({"paths": {}}, shape, {"candidates": []})
    assert fields_of(document, "Context").keys() == {"hour", "rain"}
    assert fields_of(document, "Features")["city"]["examples"] == [*CITIES, "nowhere"]
    assert fields_of(document, "RankRequest")["candidates"]["maxItems"] == 7


async def test_a_whole_number_may_be_written_with_a_point_as_json_schema_allows(client: httpx.AsyncClient) -> None:
    def body(number: float, top_k: float) -> dict[str, Any]:
        mine = {"id": "A1", "features": {"reviews": number}}
        return {"context": {"days_to_trip": number}, "candidates": [mine, "A2", "A3"], "top_k": top_k}

    pointed = await client.post("/v1/rank", json=body(646.0, 2.0))
    plain = await client.post("/v1/rank", json=body(646, 2))
    assert b"646.0" in pointed.request.content
    assert len(pointed.json()["ranking"]) == 2
    assert pointed.json()["ranking"] == plain.json()["ranking"]
    assert (await client.post("/v1/rank", json=body(646.5, 2))).status_code == 422


async def test_operations_are_named_in_the_words_of_the_house(client: httpx.AsyncClient) -> None:
    paths = (await read_document(client))["paths"]
    names = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert {"rank", "healthz", "readyz", "version", "models", "experiment", "metrics"} <= set(names)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)?", name) for name in names)


async def test_the_docs_page_loads_nothing_from_another_host(client: httpx.AsyncClient) -> None:
    page = (await client.get("/docs")).text
    assert "//" not in re.sub(r"^\s*<!--.*-->$", "", page, flags=re.MULTILINE)
    linked = re.findall(r"""(?:src|href|url)\s*[=:]\s*["']([^"']+)["']""", page)
    assets = [link for link in linked if not link.startswith("data:")]
    assert {"/openapi.json"} < set(assets)
    for asset in assets:
        assert (await client.get(asset)).status_code == 200, asset
    styles = "".join([(await client.get(asset)).text for asset in assets if asset.endswith(".css")])
    assert all(target.startswith("data:") for target in re.findall(r"url\([\"']?([^)]*)", styles))
    assert "@import" not in styles


@pytest.mark.slow
def test_a_client_made_from_the_live_document_ranks_and_gets_typed_errors(
    bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A generator that does not know Arrow and CSV takes them for bytes.
    octets = "application/octet-stream"
    config = f"post_hooks: []\ncontent_type_overrides: {{{ARROW}: {octets}, text/csv: {octets}}}\n"
    (tmp_path / "config.yml").write_text(config)
    with serving(bundles, log_level="error") as service:
        subprocess.run(
            [
                *(sys.executable, "-m", "openapi_python_client", "generate", "--url", f"{service.url}/openapi.json"),
                *("--output-path", "generated_client", "--meta", "none", "--config", "config.yml", "--fail-on-warning"),
            ],
            cwd=tmp_path,
            check=True,
            timeout=100,
        )
        monkeypatch.syspath_prepend(tmp_path)
        models = importlib.import_module("generated_client.models")
        rank = importlib.import_module("generated_client.api.ranking.rank").sync
        with importlib.import_module("generated_client").Client(base_url=service.url) as client:
            mine = models.Candidate("mine", models.Features(price=12.5, category="museum", free_cancellation=True))
            request = models.RankRequest(["A1", mine], context=models.Context(device="mobile", days_to_trip=3))
            answer = rank(client=client, body=request, x_visitor_id="ada", x_priority=models.RankXPriority.CRITICAL)
            assert isinstance(answer, models.RankResponse)
            assert {one.id for one in answer.ranking} == {"A1", "mine"}
            assert answer.assignment == models.RankResponseAssignment.HASH

            refusal = rank(client=client, body=models.RankRequest(["A1", "A1"]))
            assert isinstance(refusal, models.ProblemDocument)
            assert (refusal.status, refusal.type_) == (422, "urn:frontrow:invalid-request")
            assert [fault.place for fault in refusal.faults] == ["$.candidates[1]"]
