"""What a caller can get wrong, and the answer to each: a clear one, never a 500 and never a hang."""

import json
from typing import Any

import httpx
import pytest

GOOD = {"candidates": ["A1", "A2"]}
JSON = {"content-type": "application/json"}


def inline(**features: Any) -> dict[str, Any]:
    return {"candidates": [{"id": "A1", "features": features}]}


def nested(depth: int) -> bytes:
    return b'{"candidates": ' + b"[" * depth + b"]" * depth + b"}"


BAD_BODIES: list[tuple[str, bytes | dict[str, Any] | list[Any] | str, int, str]] = [
    ("nothing", b"", 400, "not JSON"),
    ("blank", b"   ", 400, "not JSON"),
    ("cut off", b'{"candidates": ["A1"', 400, "not JSON"),
    ("two documents", b'{"candidates": []} {"candidates": []}', 400, "not JSON"),
    ("trailing comma", b'{"candidates": ["A1",]}', 400, "not JSON"),
    ("single quotes", b"{'candidates': []}", 400, "not JSON"),
    ("form", b"candidates=A1", 400, "not JSON"),
    ("utf-16", '{"candidates": []}'.encode("utf-16"), 400, "UTF-8"),
    ("byte order mark", b'\xef\xbb\xbf{"candidates": []}', 400, "not JSON"),
    ("latin-1", b'{"candidates": ["caf\xe9"]}', 400, "UTF-8"),
    ("control character", b'{"candidates": ["a\x00b"]}', 400, "not JSON"),
    ("a list", [], 422, "$"),
    ("a string", b'"A1"', 422, "$"),
    ("null", b"null", 422, "$"),
    ("a number", b"17", 422, "$"),
    ("no candidates", {}, 422, "`candidates` is missing"),
    ("candidates null", {"candidates": None}, 422, "$.candidates"),
    ("candidates an object", {"candidates": {"A1": {}}}, 422, "$.candidates"),
    ("candidates a string", {"candidates": "A1"}, 422, "$.candidates"),
    ("a candidate that is a number", {"candidates": [17]}, 422, "$.candidates[0]"),
    ("a candidate that is null", {"candidates": ["A1", None]}, 422, "$.candidates[1]"),
    ("a candidate that is a list", {"candidates": [["A1"]]}, 422, "$.candidates[0]"),
    ("an empty id", {"candidates": [""]}, 422, "$.candidates[0]"),
    ("a long id", {"candidates": ["A" * 129]}, 422, "$.candidates[0]"),
    ("no id", {"candidates": [{"features": {}}]}, 422, "`id` is missing"),
    ("id null", {"candidates": [{"id": None}]}, 422, "$.candidates[0].id"),
    ("id a number", {"candidates": [{"id": 7}]}, 422, "$.candidates[0].id"),
    ("a duplicate id", {"candidates": ["A1", "A2", "A1"]}, 422, "$.candidates[2]"),
    ("a duplicate in the other form", {"candidates": ["A1", {"id": "A1"}]}, 422, "$.candidates[1]"),
    ("an unknown field", {"candidates": ["A1"], "topk": 3}, 422, "topk"),
    ("an unknown field of a candidate", {"candidates": [{"id": "A1", "prize": 3}]}, 422, "prize"),
    ("an unknown feature", inline(prize=3), 422, "prize"),
    ("a context feature on a candidate", inline(device="mobile"), 422, "device"),
    ("an activity feature in the context", {**GOOD, "context": {"price": 3}}, 422, "$.context"),
    ("features a list", {"candidates": [{"id": "A1", "features": []}]}, 422, "$.candidates[0].features"),
    ("a number as text", inline(price="39"), 422, "$.candidates[0].features.price"),
    ("a number as boolean", inline(price=True), 422, "$.candidates[0].features.price"),
    ("a number as object", inline(price={"amount": 3}), 422, "$.candidates[0].features.price"),
    ("NaN", b'{"candidates": [{"id": "A1", "features": {"price": NaN}}]}', 422, "NaN"),
    ("Infinity", b'{"candidates": [{"id": "A1", "features": {"price": -Infinity}}]}', 422, "Infinity"),
    ("a number too large", b'{"candidates": [{"id": "A1", "features": {"price": 1e999}}]}', 422, "price"),
    (
        "a number of 5,000 digits",
        b'{"candidates": [{"id": "A1", "features": {"price": ' + b"9" * 5000 + b"}}]}",
        400,
        "",
    ),
    ("a fraction for a whole number", inline(reviews=1.5), 422, "$.candidates[0].features.reviews"),
    ("a whole number too large", inline(reviews=2**60), 422, "$.candidates[0].features.reviews"),
    ("a category as number", inline(category=3), 422, "$.candidates[0].features.category"),
    ("a category too long", inline(category="x" * 257), 422, "$.candidates[0].features.category"),
    ("a boolean as number", inline(free_cancellation=1), 422, "$.candidates[0].features.free_cancellation"),
    ("a boolean as text", inline(free_cancellation="yes"), 422, "$.candidates[0].features.free_cancellation"),
    ("context a list", {**GOOD, "context": []}, 422, "$.context"),
    ("context a string", {**GOOD, "context": "mobile"}, 422, "$.context"),
    ("top_k zero", {**GOOD, "top_k": 0}, 422, "$.top_k"),
    ("top_k negative", {**GOOD, "top_k": -1}, 422, "$.top_k"),
    ("top_k a fraction", {**GOOD, "top_k": 1.5}, 422, "$.top_k"),
    ("top_k text", {**GOOD, "top_k": "10"}, 422, "$.top_k"),
    ("nested deeper than 32", nested(40), 422, "deeper than 32"),
    ("nested 200,000 deep", nested(200_000), 422, "deeper than 32"),
    ("too many candidates", {"candidates": [f"A{n}" for n in range(5_001)]}, 413, "5000 are allowed"),
    ("too many candidates, and one wrong", {"candidates": [7] * 5_001}, 413, "5000 are allowed"),
    ("too large a body", b" " * 1_048_577, 413, "1048576 bytes"),
]

BAD_HEADERS: list[tuple[str, dict[str, str], int, str]] = [
    ("no content type", {}, 415, "application/json"),
    ("plain text", {"content-type": "text/plain"}, 415, "application/json"),
    ("a form", {"content-type": "application/x-www-form-urlencoded"}, 415, "application/json"),
    ("multipart", {"content-type": "multipart/form-data; boundary=x"}, 415, "application/json"),
    ("another charset", {"content-type": "application/json; charset=utf-16"}, 415, "UTF-8"),
    ("compressed", {**JSON, "content-encoding": "gzip"}, 415, "compressed"),
    ("a deadline of zero", {**JSON, "x-request-timeout-ms": "0"}, 422, "X-Request-Timeout-Ms"),
    ("a deadline in words", {**JSON, "x-request-timeout-ms": "soon"}, 422, "X-Request-Timeout-Ms"),
    ("an unknown priority", {**JSON, "x-priority": "urgent"}, 422, "X-Priority"),
    ("65 headers", {**JSON, **{f"x-{n}": "1" for n in range(65)}}, 431, "64 are allowed"),
    ("20 KiB of headers", {**JSON, "x-large": "1" * 20_480}, 431, "16384 are allowed"),
]

BAD_REQUESTS: list[tuple[str, str, int, str | None]] = [
    ("GET", "/v1/rank", 405, "POST"),
    ("PUT", "/v1/rank", 405, "POST"),
    ("DELETE", "/v1/rank", 405, "POST"),
    ("PATCH", "/v1/rank", 405, "POST"),
    ("OPTIONS", "/v1/rank", 405, "POST"),
    ("TRACE", "/v1/rank", 405, "POST"),
    ("BREW", "/v1/rank", 400, None),
    ("POST", "/healthz", 405, "GET"),
    ("DELETE", "/v1/models", 405, "GET"),
    ("GET", "/v3/rank", 404, None),
    ("POST", "/v1/rank/", 404, None),
    ("GET", "/v1/../etc/passwd", 404, None),
    ("GET", "/%00", 404, None),
]


def check_problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """An error answer has the form of RFC 9457 and gives nothing of the inside away."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document.keys() >= {"type", "title", "status", "detail", "request_id"}
    assert document["status"] == status
    assert document["request_id"] == response.headers["x-request-id"]
    for secret in ("Traceback", ".py", "msgspec", "starlette", "site-packages"):
        assert secret not in response.text
    return document


@pytest.mark.parametrize(("body", "status", "words"), [case[1:] for case in BAD_BODIES], ids=[c[0] for c in BAD_BODIES])
async def test_a_bad_body_gets_its_answer_and_the_place(
    client: httpx.AsyncClient, body: Any, status: int, words: str
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    document = check_problem(await client.post("/v1/rank", content=content, headers=JSON), status)
    assert words in json.dumps(document, ensure_ascii=False)


@pytest.mark.parametrize(
    ("headers", "status", "words"), [case[1:] for case in BAD_HEADERS], ids=[c[0] for c in BAD_HEADERS]
)
async def test_a_bad_header_gets_its_answer(
    client: httpx.AsyncClient, headers: dict[str, str], status: int, words: str
) -> None:
    response = await client.post("/v1/rank", content=json.dumps(GOOD).encode(), headers=headers)
    assert words in check_problem(response, status)["detail"]


@pytest.mark.parametrize(("method", "path", "status", "allow"), BAD_REQUESTS)
async def test_a_bad_method_or_path_gets_its_answer(
    client: httpx.AsyncClient, method: str, path: str, status: int, allow: str | None
) -> None:
    response = await client.request(method, path)
    check_problem(response, status)
    assert response.headers.get("allow") == allow


async def test_every_fault_of_a_body_is_named_at_once(client: httpx.AsyncClient) -> None:
    body = {
        "context": {"device": 3, "phase": "moon"},
        "candidates": ["A1", {"id": "A2", "features": {"price": "x", "reviews": 1.5}}, 7],
        "top_k": 0,
    }
    document = check_problem(await client.post("/v1/rank", json=body), 422)
    assert [fault["place"] for fault in document["faults"]] == [
        "$.context.device",
        "$.context",
        "$.candidates[1].features.price",
        "$.candidates[1].features.reviews",
        "$.candidates[2]",
        "$.top_k",
    ]


async def test_an_empty_candidate_list_is_an_empty_ranking(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/rank", json={"candidates": []})
    assert (response.status_code, response.json()["ranking"]) == (200, [])


async def test_bad_requests_are_counted_as_invalid_and_nothing_is_lost(client: httpx.AsyncClient, service: Any) -> None:
    for _, body, _, _ in BAD_BODIES[:20]:
        await client.post("/v1/rank", content=body if isinstance(body, bytes) else json.dumps(body), headers=JSON)
    await client.post("/v1/rank", json=GOOD)
    samples = service_counts(service)
    assert samples["invalid"] == 20
    assert samples["ok"] == 1
    assert samples["offered"] == 21


def service_counts(service: Any) -> dict[str, float]:
    from prometheus_client.parser import text_string_to_metric_families

    counts: dict[str, float] = {}
    for family in text_string_to_metric_families(service.metrics.exposition().decode()):
        for sample in family.samples:
            if sample.name == "frontrow_requests_total":
                outcome = sample.labels["outcome"]
                counts[outcome] = counts.get(outcome, 0) + sample.value
            if sample.name == "frontrow_requests_offered_total":
                counts["offered"] = counts.get("offered", 0) + sample.value
    return counts
