"""Bulk callers: record batches in and out, with the same scores, limits and refusals as JSON."""

import itertools
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from app_models import CATEGORIES
from processes import serving as serving_process
from served import serving
from test_bad_input import check_problem, service_counts

from app.models import fetch_models, load_models
from app.service import Service
from app.settings import Settings

ARROW = "application/vnd.apache.arrow.stream"
CONTEXT = {"device": "mobile", "days_to_trip": 12}
FLIPS = int(os.environ.get("ARROW_FLIPS", "1500"))


def stream(table: pa.Table, head: object = None, **options: Any) -> bytes:
    """The body that a caller with pyarrow sends."""
    text = head if isinstance(head, bytes) else json.dumps(head or {}).encode()
    table = table.replace_schema_metadata({"frontrow": text})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


async def post(client: httpx.AsyncClient, body: bytes, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post("/v1/rank", content=body, headers={"Content-Type": ARROW, "X-Variant": "control", **names})


async def posted_json(client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    response = await client.post("/v1/rank", json=body, headers={"X-Variant": "control"})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def candidates(count: int) -> pa.Table:
    """Candidates of which the catalog knows some, with gaps, and a category that no model knows."""
    draw = np.random.default_rng(3)

    def gaps(values: np.ndarray) -> pa.Array:
        return pa.array(values, mask=draw.random(count) < 0.4)

    return pa.table(
        {
            "id": [f"A{n}" for n in range(count)],
            "price": gaps(draw.gamma(3, 15, count)),
            "category": gaps(draw.choice([*CATEGORIES, "opera"], count)),
            "reviews": gaps(draw.integers(0, 900, count)),
            "free_cancellation": gaps(draw.random(count) < 0.5),
            "rating": pa.nulls(count),
        }
    )


def as_json(table: pa.Table) -> list[Any]:
    rows = [{name: value for name, value in row.items() if value is not None} for row in table.to_pylist()]
    return [{"id": row.pop("id"), "features": row} if len(row) > 1 else row["id"] for row in rows]


@pytest.mark.parametrize("variant", ["control", "treatment"])
async def test_a_record_batch_is_ranked_as_the_same_candidates_in_json_to_the_last_bit(
    client: httpx.AsyncClient, variant: str
) -> None:
    table = candidates(300)
    if variant == "treatment":  # a column that only the other model asks for is allowed, too
        assert "free_cancellation" in table.column_names
    body = {"context": CONTEXT, "candidates": as_json(table)}
    expected = (await client.post("/v1/rank", json=body, headers={"X-Variant": variant})).json()
    response = await post(client, stream(table, {"context": CONTEXT}), X_Variant=variant)
    assert response.headers["content-type"] == "application/json"
    for part in ("ranking", "unknown_candidates", "model", "variant"):
        assert response.json()[part] == expected[part], part
    assert 0 < len(expected["unknown_candidates"]) < 250


NUMBERS = {
    "price": [pa.int8(), pa.uint8(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64()],
    "reviews": [pa.int16(), pa.uint32(), pa.int64(), pa.float32(), pa.float64()],
}
TEXTS = [
    pa.string(),
    pa.large_string(),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.uint64(), pa.large_string()),
]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, kind) for name, kinds in NUMBERS.items() for kind in kinds),
        *itertools.product(["category", "id"], TEXTS),
        ("free_cancellation", pa.bool_()),
    ],
    ids=str,
)
async def test_a_column_may_have_any_type_that_holds_its_values(
    client: httpx.AsyncClient, name: str, kind: pa.DataType
) -> None:
    values: dict[str, list[Any]] = {
        "id": ["A1", "A2", "A3"],
        "price": [12, None, 99],
        "reviews": [12, None, 99],
        "category": ["museum", None, "opera"],
        "free_cancellation": [True, None, False],
    }
    plain = pa.table({"id": values["id"], name: values[name]})
    typed = plain.set_column(plain.column_names.index(name), name, plain.column(name).cast(kind))
    expected = await posted_json(client, {"candidates": as_json(plain)})
    response = await post(client, stream(typed))
    assert response.status_code == 200, response.text
    assert response.json()["ranking"] == expected["ranking"]


async def test_a_row_without_any_feature_is_a_bare_id(client: httpx.AsyncClient) -> None:
    table = pa.table({"id": ["A1", "stranger", "new"], "price": [None, None, 3.0]})
    assert (await post(client, stream(table))).json()["unknown_candidates"] == ["stranger"]
    ids = pa.table({"id": ["A1", "stranger"]})
    assert (await post(client, stream(ids))).json()["unknown_candidates"] == ["stranger"]


async def test_the_answer_is_a_record_batch_when_it_is_asked_for(client: httpx.AsyncClient) -> None:
    body = {"context": CONTEXT, "candidates": as_json(candidates(60)), "top_k": 7}
    expected = await posted_json(client, body)
    for request in (
        post(client, stream(candidates(60), {"context": CONTEXT, "top_k": 7.0}), Accept=f"text/html, {ARROW};q=0.9"),
        client.post("/v1/rank", json=body, headers={"Accept": ARROW, "X-Variant": "control"}),
    ):
        response = await request
        assert response.headers["content-type"] == ARROW
        assert response.headers["x-model-version"] == "activity-ranker/1"
        table = pa.ipc.open_stream(response.content).read_all()
        assert table.to_pylist() == expected["ranking"]
        head = json.loads(table.schema.metadata[b"frontrow"])
        assert head == {name: head[name] for name in expected if name != "ranking"}
        assert head["request_id"] == response.headers["x-request-id"]
        assert head["model"] == expected["model"]
        assert head["unknown_candidates"] == expected["unknown_candidates"]


@pytest.mark.parametrize("accept", ["*/*", "application/json", f"x-{ARROW}", f"{ARROW}-x"])
async def test_who_does_not_name_the_media_type_gets_json(client: httpx.AsyncClient, accept: str) -> None:
    response = await post(client, stream(candidates(3)), Accept=accept)
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("batches", [[], [pa.record_batch({"id": pa.array([], pa.string())})]], ids=["none", "empty"])
async def test_a_stream_without_rows_is_an_empty_ranking(client: httpx.AsyncClient, batches: list[Any]) -> None:
    table = pa.Table.from_batches(batches, pa.schema([("id", pa.string())]))
    response = await post(client, stream(table), Accept=ARROW)
    assert response.status_code == 200, response.text
    assert pa.ipc.open_stream(response.content).read_all().num_rows == 0


GOOD = candidates(3)
TWO = ["A1", "A2"]
BAD_STREAMS: list[tuple[str, bytes, int, str]] = [
    ("nothing", b"", 400, "Arrow IPC stream"),
    ("JSON", b'{"candidates": []}', 400, "Arrow IPC stream"),
    ("half of it", stream(GOOD)[: len(stream(GOOD)) // 2], 400, "Arrow IPC stream"),
    ("metadata that is no JSON", stream(GOOD, b"{"), 400, "not JSON"),
    ("compressed", stream(GOOD, compression="zstd"), 415, "compressed"),
    ("a compressed dictionary", stream(GOOD.select(["id"]), compression="lz4"), 415, "compressed"),
    ("too many rows", stream(pa.table({"id": [f"A{n}" for n in range(5_001)]})), 413, "5000 are allowed"),
    ("no ids", stream(pa.table({"price": [1.0]})), 422, "column id"),
    ("ids that are numbers", stream(pa.table({"id": [1, 2]})), 422, "column id"),
    ("ids that are all null", stream(pa.table({"id": pa.nulls(2)})), 422, "column id"),
    ("an id that is null", stream(pa.table({"id": ["A1", None]})), 422, "column id, row 1"),
    ("an id that is empty", stream(pa.table({"id": ["A1", ""]})), 422, "column id, row 1"),
    ("an id too long", stream(pa.table({"id": ["A" * 129]})), 422, "column id, row 0"),
    ("an id that stands twice", stream(pa.table({"id": ["A1", "A2", "A1"]})), 422, "column id, row 2"),
    ("an unknown column", stream(pa.table({"id": TWO, "prize": [1, 2]})), 422, "column prize"),
    ("a context feature", stream(pa.table({"id": TWO, "device": TWO})), 422, "column device"),
    ("a column twice", stream(pa.table([TWO, [1.0, 2], [3.0, 4]], ["id", "price", "price"])), 422, "2 times"),
    ("a number as text", stream(pa.table({"id": TWO, "price": TWO})), 422, "column price"),
    ("a number as boolean", stream(pa.table({"id": TWO, "price": [True, False]})), 422, "column price"),
    ("a boolean as number", stream(pa.table({"id": TWO, "free_cancellation": [1, 0]})), 422, "free_cancellation"),
    ("a category as number", stream(pa.table({"id": TWO, "category": [1, 0]})), 422, "column category"),
    ("a category too long", stream(pa.table({"id": TWO, "category": ["x", "x" * 257]})), 422, "category, row 1"),
    ("a list", stream(pa.table({"id": TWO, "price": [[1.0], [2.0]]})), 422, "column price"),
    ("a view", stream(pa.table({"id": pa.array(TWO, pa.string_view())})), 422, "column id"),
    ("NaN", stream(pa.table({"id": TWO, "price": [1.0, float("nan")]})), 422, "column price, row 1"),
    ("infinity", stream(pa.table({"id": TWO, "price": [float("-inf"), 1.0]})), 422, "column price, row 0"),
    ("a fraction for a whole number", stream(pa.table({"id": TWO, "reviews": [1.0, 1.5]})), 422, "reviews, row 1"),
    ("a whole number too large", stream(pa.table({"id": TWO, "reviews": [2**53 + 1, 1]})), 422, "reviews, row 0"),
    ("a whole number too low", stream(pa.table({"id": TWO, "reviews": [1, -(2**63)]})), 422, "reviews, row 1"),
    ("two batches", stream(pa.concat_tables([GOOD.slice(0, 1), GOOD.slice(1)])), 422, "one record batch"),
    ("candidates in the metadata", stream(GOOD, {"candidates": ["A1"]}), 422, "candidates"),
    ("an unknown field of the context", stream(GOOD, {"context": {"price": 3}}), 422, "$.context"),
    ("a wrong context", stream(GOOD, {"context": {"device": 3}}), 422, "$.context.device"),
    ("a wrong top_k", stream(GOOD, {"top_k": 0}), 422, "$.top_k"),
    ("metadata that is a list", stream(GOOD, [1]), 422, "$"),
]


@pytest.mark.parametrize(("body", "status", "words"), [c[1:] for c in BAD_STREAMS], ids=[c[0] for c in BAD_STREAMS])
async def test_a_bad_stream_gets_its_answer_and_the_place(
    client: httpx.AsyncClient, body: bytes, status: int, words: str
) -> None:
    document = check_problem(await post(client, body, Accept=ARROW), status)
    assert words in json.dumps(document)
    assert "pyarrow" not in json.dumps(document)


async def test_every_wrong_row_is_named(client: httpx.AsyncClient) -> None:
    table = pa.table({"id": ["A1", "", "A3"], "price": [float("inf"), 1, 2], "reviews": [0.5, None, 2.5]})
    document = check_problem(await post(client, stream(table)), 422)
    assert [fault["place"] for fault in document["faults"]] == [
        "column id, row 1",
        "column price, row 0",
        "column reviews, row 0",
        "column reviews, row 2",
    ]
    many = pa.table({"id": [f"A{n}" for n in range(100)], "price": [float("nan")] * 100})
    assert len(check_problem(await post(client, stream(many)), 422)["faults"]) == 50


def damaged(body: bytes, flips: int) -> Iterator[bytes]:
    """The body cut at every eighth byte, and with one to four bits turned over."""
    yield from (body[:end] for end in range(0, len(body), 8))
    draw = random.Random(5)
    for _ in range(flips):
        wrong = bytearray(body)
        for _ in range(draw.randint(1, 4)):
            wrong[draw.randrange(len(wrong))] ^= 1 << draw.randrange(8)
        yield bytes(wrong)


async def test_a_damaged_stream_is_refused_or_ranked_and_never_a_defect(
    client: httpx.AsyncClient, service: Service
) -> None:
    table = candidates(20).set_column(2, "category", candidates(20).column("category").dictionary_encode())
    counts: dict[int, int] = {}
    for body in damaged(stream(table, {"context": CONTEXT, "top_k": 5}), FLIPS):
        response = await post(client, body)
        counts[response.status_code] = counts.get(response.status_code, 0) + 1
        if response.status_code != 200:
            check_problem(response, response.status_code)
    assert set(counts) <= {200, 400, 413, 415, 422}, counts
    assert min(counts[200], counts[400], counts[422]) > 0, counts
    outcomes = service_counts(service)
    assert (outcomes["ok"] + outcomes["invalid"], outcomes["error"]) == (sum(counts.values()), 0)


async def test_rules_see_the_candidates_of_a_record_batch_as_they_see_those_of_json(settings: Settings) -> None:
    settings = settings.model_copy(update={"processing": "docs.examples.rules:MarketplaceRules"})
    service = Service(settings, load_models(settings, fetch_models(settings)))
    table = pa.table(
        {
            "id": [f"A{n}" for n in range(20)],
            "sold_out": [True, *[None] * 19],
            "pinned": [*[None] * 18, True, False],
            "price": [None, 3.5, *[None] * 18],
        }
    )
    await service.start()
    try:
        async with serving(service) as client:
            expected = await posted_json(client, {"candidates": as_json(table), "top_k": 9})
            answer = (await post(client, stream(table, {"top_k": 9}))).json()
    finally:
        await service.stop()
    assert answer["ranking"] == expected["ranking"]
    assert answer["ranking"][0]["id"] == "A18"
    assert len(answer["ranking"]) == 9


def test_neither_way_imports_pandas_which_would_hold_up_every_caller_for_a_second(bundles: Path) -> None:
    headers = {"Content-Type": ARROW, "Accept": ARROW, "X-Variant": "control"}
    with serving_process(bundles) as process:
        response = httpx.post(f"{process.url}/v1/rank", content=stream(candidates(100)), headers=headers)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == ARROW
        maps = Path(f"/proc/{process.pid}/maps").read_text() if Path("/proc").exists() else ""
    assert "pandas" not in maps.replace("/", " ").split()


async def test_unseen_categories_are_counted_as_those_of_json(client: httpx.AsyncClient, service: Service) -> None:
    def unseen() -> float:
        lines = service.metrics.exposition().decode().splitlines()
        return sum(float(line.split()[1]) for line in lines if line.startswith("frontrow_unknown_category_total{"))

    table = candidates(100)
    await posted_json(client, {"candidates": as_json(table)})
    by_json = unseen()
    assert (await post(client, stream(table))).status_code == 200
    assert unseen() == 2 * by_json > 0
