"""The Open Inference Protocol v2, as NVIDIA's own client speaks it and as nobody should."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from app_models import FEATURES
from history_models import expected_rows
from processes import serving as serving_process
from served import running, serving
from tritonclient.utils import InferenceServerException
from whole_rows import Floats, counted, draw_rows, expected, held_up

from app.models import fetch_models, load_models
from app.open_inference import InferRoute, ModelDoor
from app.ranking import ModelReplaced
from app.score_route import AT_ONCE_BYTES
from app.service import Service
from app.settings import Settings
from features import NOTHING

INFER = "/v2/models/control/infer"
WIDTH = len(FEATURES)
ROWS = draw_rows(FEATURES, 400)
GOOD: dict[str, Any] = {
    "inputs": [{"name": "rows", "datatype": "FP64", "shape": [2, WIDTH], "data": [1.5] * 2 * WIDTH}]
}


@pytest.fixture(scope="module")
def address(bundles: Path) -> Iterator[str]:
    """A process that serves, as its clients name it."""
    with serving_process(bundles, log_level="error") as process:
        yield process.url.removeprefix("http://")


@pytest.fixture
def caller(address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address) as client:
        yield client


def ask(
    client: triton.InferenceServerClient,
    rows: Floats,
    *,
    model: str = "control",
    version: str = "",
    binary: bool = True,
    binary_out: bool | None = None,
    kind: Literal["FP64", "FP32"] = "FP64",
    **options: Any,
) -> triton.InferResult:
    """What NVIDIA's client gets for these rows."""
    given = triton.InferInput("rows", list(rows.shape), kind)
    given.set_data_from_numpy(rows.astype(np.float32) if kind == "FP32" else rows, binary_data=binary)
    outputs = None if binary_out is None else [triton.InferRequestedOutput("scores", binary_data=binary_out)]
    return client.infer(model, [given], model_version=version, outputs=outputs, **options)


# ---- with the client that everybody has


@pytest.mark.parametrize("binary_out", [None, True, False], ids=["out unasked", "out binary", "out json"])
@pytest.mark.parametrize("binary", [True, False], ids=["in binary", "in json"])
def test_the_triton_client_gets_the_scores_of_booster_predict_to_the_last_bit(
    caller: triton.InferenceServerClient, bundles: Path, *, binary: bool, binary_out: bool | None
) -> None:
    result = ask(caller, ROWS, binary=binary, binary_out=binary_out)
    scores = result.as_numpy("scores")
    assert scores.dtype == np.float64
    assert scores.tobytes() == expected(bundles / "control", ROWS)


def test_single_precision_is_widened_and_nothing_more(caller: triton.InferenceServerClient, bundles: Path) -> None:
    with np.errstate(over="ignore"):
        widened = ROWS.astype(np.float32).astype(np.float64)
    with np.errstate(over="ignore"):
        for binary in (True, False):
            scores = ask(caller, ROWS, kind="FP32", binary=binary).as_numpy("scores")
            assert scores.tobytes() == expected(bundles / "control", widened)


def test_a_model_is_named_by_its_variant_or_by_its_name_and_version(
    caller: triton.InferenceServerClient, bundles: Path
) -> None:
    of_control, of_treatment = expected(bundles / "control", ROWS), expected(bundles / "treatment", ROWS[:, :-1])
    assert ask(caller, ROWS, model="activity-ranker").as_numpy("scores").tobytes() == of_control
    assert ask(caller, ROWS, model="activity-ranker", version="1").as_numpy("scores").tobytes() == of_control
    for name, version in (("activity-ranker", "2"), ("treatment", ""), ("treatment", "2")):
        answer = ask(caller, ROWS[:, :-1].copy(), model=name, version=version)
        assert answer.as_numpy("scores").tobytes() == of_treatment
        assert answer.get_response()["model_name"] == name
        assert answer.get_response()["model_version"] == "2"


def test_a_request_larger_than_a_batch_gets_the_same_scores(
    caller: triton.InferenceServerClient, bundles: Path
) -> None:
    rows = draw_rows(FEATURES, 5_000, seed=6)
    assert ask(caller, rows).as_numpy("scores").tobytes() == expected(bundles / "control", rows)


def test_the_triton_client_finds_what_it_looks_at_before_it_asks(caller: triton.InferenceServerClient) -> None:
    assert caller.is_server_live()
    assert caller.is_server_ready()
    assert caller.get_server_metadata() == {
        "name": "frontrow",
        "version": "test",
        "extensions": ["binary_tensor_data"],
    }
    for name, version, versions in (
        ("activity-ranker", "", ["1", "2"]),
        ("activity-ranker", "2", ["2"]),
        ("treatment", "", ["2"]),
    ):
        assert caller.is_model_ready(name, version)
        width = WIDTH - 1 if versions == ["2"] else WIDTH
        assert caller.get_model_metadata(name, version) == {
            "name": name,
            "versions": versions,
            "platform": "lightgbm",
            "inputs": [{"name": "rows", "datatype": "FP64", "shape": [-1, width]}],
            "outputs": [{"name": "scores", "datatype": "FP64", "shape": [-1]}],
        }
    assert not caller.is_model_ready("activity-ranker", "3")
    assert not caller.is_model_ready("nobody")


def test_an_id_comes_back_and_no_rows_are_no_scores(caller: triton.InferenceServerClient) -> None:
    assert ask(caller, ROWS, request_id="r-17").get_response()["id"] == "r-17"
    assert "id" not in ask(caller, ROWS).get_response()
    for binary_out in (True, False):
        assert ask(caller, ROWS[:0], binary_out=binary_out).as_numpy("scores").shape == (0,)


def test_what_is_not_offered_is_an_error_that_the_triton_client_can_read(caller: triton.InferenceServerClient) -> None:
    given = triton.InferInput("rows", [1, WIDTH], "FP64")
    given.set_data_from_numpy(ROWS[:1])
    classes = [triton.InferRequestedOutput("scores", class_count=2)]
    shared = triton.InferInput("rows", [1, WIDTH], "FP64")
    shared.set_shared_memory("region", 8 * WIDTH)
    asked = {
        "nobody": lambda: ask(caller, ROWS, model="nobody"),
        "activity-ranker/3": lambda: ask(caller, ROWS, model="activity-ranker", version="3"),
        "compressed": lambda: ask(caller, ROWS, request_compression_algorithm="gzip"),
        "classification": lambda: caller.infer("control", [given], outputs=classes),
        "shared_memory_region": lambda: caller.infer("control", [shared]),
        "no model stats": caller.get_inference_statistics,
        "nothing at this path": caller.get_model_repository_index,
        "5000 are allowed": lambda: ask(caller, np.zeros((5_001, WIDTH))),
    }
    statuses = []
    for words, call in asked.items():
        with pytest.raises(InferenceServerException, match=words) as caught:
            call()
        statuses.append(caught.value.status())
    assert statuses == ["404", "404", "415", "400", "400", "404", "404", "413"]


# ---- the same way, seen from inside


async def post(client: httpx.AsyncClient, body: Any, path: str = INFER, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await client.post(path, content=content, headers={k.replace("_", "-"): v for k, v in headers.items()})


def asking(rows: Floats) -> dict[str, Any]:
    return {"inputs": [{"name": "rows", "datatype": "FP64", "shape": list(rows.shape), "data": rows.tolist()}]}


def scores_in(response: httpx.Response) -> bytes:
    assert response.status_code == 200, response.text
    return np.array(response.json()["outputs"][0]["data"], np.float64).tobytes()


@pytest.mark.parametrize("engine", ["reference", "compiled"])
async def test_either_engine_gives_the_scores_of_booster_predict(
    settings: Settings, bundles: Path, engine: str
) -> None:
    async with running(settings.model_copy(update={"engine": engine})) as (_, client):
        assert scores_in(await post(client, asking(ROWS))) == expected(bundles / "control", ROWS)


async def test_null_is_missing_as_nan_is_and_rows_may_be_nested_or_flat(
    client: httpx.AsyncClient, bundles: Path
) -> None:
    rows = ROWS[:20]
    truth = expected(bundles / "control", rows)
    nested = asking(rows)
    flat = {"inputs": [{**nested["inputs"][0], "data": rows.ravel().tolist()}]}
    nulls = json.dumps(nested).replace("NaN", "null").encode()
    assert b"NaN" not in nulls
    for body in (nested, flat, nulls):
        assert scores_in(await post(client, body)) == truth


async def test_derived_features_are_those_that_the_caller_gave(settings: Settings, history_bundles: Path) -> None:
    names = {"control_model": str(history_bundles / "pairs"), "treatment_model": str(history_bundles / "visitors")}
    async with running(settings.model_copy(update=names)) as (service, client):
        for variant, name in (("control", "pairs"), ("treatment", "visitors")):
            features = service.served[variant].model.bundle.features  # type: ignore[index]
            rows = draw_rows(features, 700)
            body = {"candidates": ["A1", "A2", {"id": "B", "features": {"price": 3.5}}]}
            asked = [
                post(client, asking(rows[n::3]), f"/v2/models/{variant}/infer", X_Request_Id=f"{n}") for n in range(3)
            ]
            ranked = [client.post("/v1/rank", json=body, headers={"X-Variant": variant}) for _ in range(3)]
            answers = await asyncio.gather(*(one for pair in zip(asked, ranked, strict=True) for one in pair))
            for n, answer in enumerate(answers[::2]):
                assert scores_in(answer) == expected(history_bundles / name, rows[n::3])
            moment = service.visitors.now()
            one = service.served[variant]  # type: ignore[index]
            truth = expected_rows(features, one.catalog, body, NOTHING, moment)
            by_id = dict(zip(["A1", "A2", "B"], np.frombuffer(expected(history_bundles / name, truth)), strict=True))
            for answer in answers[1::2]:
                assert {one["id"]: one["score"] for one in answer.json()["ranking"]} == by_id


async def test_an_answer_carries_its_passport_and_is_counted(client: httpx.AsyncClient, service: Service) -> None:
    response = await post(client, GOOD, X_Request_Id="r-9")
    assert response.headers["x-request-id"] == "r-9"
    assert response.headers["x-variant"] == "control"
    assert response.headers["x-model-version"] == "activity-ranker/1"
    assert "queue;dur=" in response.headers["server-timing"]
    await post(client, {})
    assert counted(service) == {"offered": 2, "ok": 1, "invalid": 1}
    lane = service.batcher.stats().lanes["control"]
    assert lane.offered_rows == 2


def tensor(**changes: Any) -> dict[str, Any]:
    """A good request with an input that is different; what is None is left out."""
    given = {**GOOD["inputs"][0], **changes}
    return {"inputs": [{name: value for name, value in given.items() if value is not None}]}


def sized(size: Any, binary: bytes, **changes: Any) -> bytes:
    """A request with so much binary data, and what it says of that."""
    return json.dumps(tensor(data=None, parameters={"binary_data_size": size}, **changes)).encode() + binary


def length(body: bytes) -> dict[str, str]:
    return {"inference-header-content-length": str(body.rindex(b"}") + 1)}


BINARY = np.ones((2, WIDTH)).tobytes()
SENT = sized(len(BINARY), BINARY)

BAD: list[tuple[str, Any, dict[str, str], int, str]] = [
    ("nothing", b"", {}, 400, "not JSON"),
    ("cut off", json.dumps(GOOD).encode()[:-3], {}, 400, "not JSON"),
    ("utf-16", json.dumps(GOOD).encode("utf-16"), {}, 400, "UTF-8"),
    ("a list", [GOOD], {}, 400, "object"),
    ("null", b"null", {}, 400, "object"),
    ("no inputs", {}, {}, 400, "inputs"),
    ("inputs empty", {"inputs": []}, {}, 400, "0 inputs"),
    ("inputs an object", {"inputs": GOOD["inputs"][0]}, {}, 400, "$.inputs"),
    ("two inputs", {"inputs": 2 * GOOD["inputs"]}, {}, 400, "2 inputs"),
    ("another input", tensor(name="input__0"), {}, 400, "no input 'input__0'"),
    ("no name", tensor(name=None), {}, 400, "name"),
    ("no shape", tensor(shape=None), {}, 400, "shape"),
    ("no datatype", tensor(datatype=None), {}, 400, "datatype"),
    ("another datatype", tensor(datatype="INT64"), {}, 400, "FP64 or FP32"),
    ("no such datatype", tensor(datatype="fp64"), {}, 400, "'fp64'"),
    ("one dimension", tensor(shape=[2 * WIDTH]), {}, 400, f"[rows, {WIDTH}]"),
    ("three dimensions", tensor(shape=[1, 2, WIDTH]), {}, 400, f"[rows, {WIDTH}]"),
    ("no dimension", tensor(shape=[]), {}, 400, f"[rows, {WIDTH}]"),
    ("too few features", tensor(shape=[2, WIDTH - 1]), {}, 400, f"[2, {WIDTH - 1}]"),
    ("transposed", tensor(shape=[WIDTH, 2]), {}, 400, f"[rows, {WIDTH}]"),
    ("minus one row", tensor(shape=[-1, WIDTH]), {}, 400, "[-1, 7]"),
    ("a fraction of a row", tensor(shape=[1.5, WIDTH]), {}, 400, "shape"),
    ("a row in words", tensor(shape=["2", WIDTH]), {}, 400, "shape"),
    ("true rows", tensor(shape=[True, WIDTH]), {}, 400, "shape"),
    ("too many rows", tensor(shape=[5_001, WIDTH]), {}, 413, "5000 are allowed"),
    ("petabytes of rows", tensor(shape=[2**53, WIDTH]), {}, 413, "5000 are allowed"),
    ("rows that overflow", tensor(shape=[2**62, WIDTH]), {}, 400, "$.inputs[0].shape[0]"),
    ("features that overflow", tensor(shape=[2, 2**64]), {}, 400, "$.inputs[0].shape[1]"),
    (
        "a number of rows of 3,000 digits",
        json.dumps(tensor(shape=[7, 7])).replace("[7", "[" + 3_000 * "9").encode(),
        {},
        400,
        "$.inputs[0].shape[0]",
    ),
    ("no data", tensor(data=None), {}, 400, "neither data nor"),
    ("data too short", tensor(data=[1.0] * 13), {}, 400, "13 numbers"),
    ("data too long", tensor(data=[1.0] * 15), {}, 400, "15 numbers"),
    ("data empty", tensor(data=[]), {}, 400, "0 numbers"),
    ("too few rows of data", tensor(data=[[1.0] * WIDTH]), {}, 400, f"1 rows of {WIDTH}"),
    ("rows of different lengths", tensor(data=[[1.0] * WIDTH, [1.0]]), {}, 400, "different lengths"),
    ("rows among numbers", tensor(data=[1.0, [1.0] * WIDTH]), {}, 400, "different lengths"),
    ("data nested too deep", tensor(data=[[[1.0] * WIDTH] * 2]), {}, 400, "$.inputs[0].data[0][0]"),
    ("data nested 100,000 deep", b'{"inputs": ' + 100_000 * b"[" + 100_000 * b"]" + b"}", {}, 400, "deeper"),
    ("data in words", tensor(data=["1.5"] * 2 * WIDTH), {}, 400, "$.inputs[0].data[0]"),
    ("NaN in words", tensor(data=["NaN"] * 2 * WIDTH), {}, 400, "$.inputs[0].data[0]"),
    ("nan", json.dumps(GOOD).replace("1.5", "nan").encode(), {}, 400, "not JSON"),
    ("booleans", tensor(data=[True] * 2 * WIDTH), {}, 400, "$.inputs[0].data[0]"),
    ("objects", tensor(data=[{}]), {}, 400, "$.inputs[0].data[0]"),
    ("an id that is a number", {**GOOD, "id": 7}, {}, 400, "$.id"),
    ("outputs an object", {**GOOD, "outputs": {}}, {}, 400, "$.outputs"),
    ("another output", {**GOOD, "outputs": [{"name": "predict"}]}, {}, 400, "no output 'predict'"),
    (
        "binary in words",
        {**GOOD, "outputs": [{"name": "scores", "parameters": {"binary_data": "yes"}}]},
        {},
        400,
        "binary_data",
    ),
    ("binary_data_output a number", {**GOOD, "parameters": {"binary_data_output": 1}}, {}, 400, "binary_data_output"),
    ("parameters a list", {**GOOD, "parameters": []}, {}, 400, "$.parameters"),
    ("binary data without its length", SENT, {}, 400, ""),
    ("a length in words", SENT, {"inference-header-content-length": "all"}, 400, "Inference-Header-Content-Length"),
    ("a negative length", SENT, {"inference-header-content-length": "-1"}, 400, "Inference-Header-Content-Length"),
    ("a length past the body", SENT, {"inference-header-content-length": "9999"}, 400, f"up to the body's {len(SENT)}"),
    ("a length that overflows", SENT, {"inference-header-content-length": str(2**64)}, 400, "up to the body's"),
    ("a length of nothing", SENT, {"inference-header-content-length": "0"}, 400, "not JSON"),
    (
        "a length one too short",
        SENT,
        {"inference-header-content-length": str(len(SENT) - len(BINARY) - 1)},
        400,
        "not JSON",
    ),
    ("binary data too short", SENT[:-8], length(SENT[: -len(BINARY)]), 400, "104 bytes follow"),
    ("binary data too long", SENT + b"12345678", length(SENT[: -len(BINARY)]), 400, "120 bytes follow"),
    ("a size that is wrong", sized(104, BINARY), length(sized(104, b"")), 400, "binary_data_size is 104"),
    ("a size that is negative", sized(-112, BINARY), length(sized(-112, b"")), 400, "binary_data_size is -112"),
    ("a size that overflows", sized(2**64 + 112, BINARY), length(sized(2**64 + 112, b"")), 400, "no such number"),
    ("a size in words", sized("112", BINARY), length(sized("112", b"")), 400, "no such number"),
    ("a size without data", sized(112, b""), {}, 400, "0 bytes follow"),
    (
        "both kinds of data",
        sized(112, BINARY)[:0] + json.dumps(tensor(parameters={"binary_data_size": 112})).encode(),
        {},
        400,
        "both",
    ),
    (
        "binary data that nobody wants",
        json.dumps(GOOD).encode() + BINARY,
        length(json.dumps(GOOD).encode()),
        400,
        "no binary_data_size",
    ),
    (
        "half of single precision",
        sized(112, BINARY, datatype="FP32"),
        length(sized(112, b"", datatype="FP32")),
        400,
        "take 56 bytes",
    ),
    ("a form", GOOD, {"content-type": "application/x-www-form-urlencoded"}, 415, "application/json"),
    ("an Arrow stream", GOOD, {"content-type": "application/vnd.apache.arrow.stream"}, 415, "application/json"),
    ("another charset", GOOD, {"content-type": "application/json; charset=utf-16"}, 415, "UTF-8"),
    ("compressed", GOOD, {"content-encoding": "gzip"}, 415, "compressed"),
    ("a deadline in words", GOOD, {"x-request-timeout-ms": "soon"}, 400, "X-Request-Timeout-Ms"),
    ("an unknown priority", GOOD, {"x-priority": "urgent"}, 400, "X-Priority"),
    ("too large a body", b" " * 1_048_577, {}, 413, "1048576 bytes"),
    ("65 headers", GOOD, {f"x-{n}": "1" for n in range(65)}, 431, "64 are allowed"),
]


@pytest.mark.parametrize("case", [one[1:] for one in BAD], ids=[one[0] for one in BAD])
async def test_a_bad_request_is_told_what_is_wrong_in_the_words_of_the_protocol(
    client: httpx.AsyncClient, service: Service, case: tuple[Any, dict[str, str], int, str]
) -> None:
    body, headers, status, words = case
    response = await post(client, body, **headers)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.json().keys() == {"error"}
    assert words in response.json()["error"]
    for secret in ("Traceback", ".py", "msgspec", "numpy"):
        assert secret not in response.text
    assert counted(service) == {"offered": 1, "invalid": 1}


async def test_a_repeated_length_is_no_length(client: httpx.AsyncClient) -> None:
    name = "inference-header-content-length"
    response = await client.post(INFER, content=SENT, headers=[(name, "10"), (name, "20")])
    assert (response.status_code, "Inference-Header-Content-Length" in response.text) == (400, True)


@pytest.mark.parametrize(
    "case",
    [
        ("GET", INFER, 405, "POST"),
        ("DELETE", "/v2", 405, "GET"),
        ("POST", "/v2/models/nobody/infer", 404, None),
        ("POST", "/v2/models/control/versions/7/infer", 404, None),
        ("POST", "/v2/models/%FF/infer", 404, None),
        ("POST", "/v2/models/control%2Fx/infer", 404, None),
        ("POST", "/v2/repository/index", 404, None),
        ("GET", "/v2/models/nobody", 404, None),
        ("GET", "/v2/models/control/versions/7", 404, None),
        ("GET", "/v2/models/control/versions/7/ready", 404, None),
        ("GET", "/v2/models/stats", 404, None),
        ("GET", "/v2/models/control/config", 404, None),
        ("GET", "/v2/", 404, None),
    ],
)
async def test_a_path_that_leads_nowhere_says_so_in_the_words_of_the_protocol(
    client: httpx.AsyncClient, service: Service, case: tuple[str, str, int, str | None]
) -> None:
    method, path, status, allow = case
    response = await client.request(method, path)
    assert (response.status_code, response.headers.get("allow")) == (status, allow)
    assert response.json().keys() == {"error"}
    assert counted(service) == {}


async def test_a_model_may_have_any_name_that_a_path_can_hold(client: httpx.AsyncClient) -> None:
    for path in ("/v2/models/activity%2Dranker/infer?x=1", "/v2/models/%63ontrol/versions/%31/infer"):
        assert (await post(client, GOOD, path)).status_code == 200


async def test_full_late_and_gone_are_counted_as_rankings_are(settings: Settings) -> None:
    pinned = {"pinned_batch_us": 50_000, "pinned_row_us": 1, "treatment_model": ""}
    async with running(settings.model_copy(update=pinned)) as (service, client):
        with held_up(service) as gate:
            first = asyncio.create_task(post(client, GOOD))
            await asyncio.to_thread(gate.entered.wait, 30)
            full = await post(client, GOOD, X_Request_Timeout_Ms="20")
            assert (full.status_code, full.json().keys()) == (503, {"error"})
            assert int(full.headers["retry-after"]) >= 1
            late = await post(client, GOOD, X_Request_Timeout_Ms="400")
            assert (late.status_code, late.json().keys()) == (504, {"error"})
            gone = asyncio.create_task(post(client, GOOD))
            while counted(service)["offered"] < 4:  # noqa: ASYNC110 nobody tells of an arrival
                await asyncio.sleep(0.005)
            gone.cancel()
            while counted(service)["cancelled"] < 1:  # noqa: ASYNC110 nobody tells of a departure
                await asyncio.sleep(0.005)
            gate.open.set()
            assert (await first).status_code == 200
        assert counted(service) == {"offered": 4, "shed": 1, "expired": 1, "cancelled": 1, "ok": 1}
        tally = service.batcher.stats().lanes["control"]
        assert tally.offered == 4


async def test_who_was_admitted_is_answered_although_the_service_stops(settings: Settings, bundles: Path) -> None:
    pinned = settings.model_copy(update={"pinned_batch_us": 50_000, "pinned_row_us": 1})
    service = Service(pinned, load_models(pinned, fetch_models(pinned)))
    await service.start()
    async with serving(service) as client:
        with held_up(service) as gate:
            admitted = asyncio.create_task(post(client, asking(ROWS)))
            await asyncio.to_thread(gate.entered.wait, 30)
            service.begin_draining()
            assert (await client.get("/v2/health/ready")).status_code == 503
            assert (await client.get("/v2/models/control/ready")).json().keys() == {"error"}
            assert (await client.get("/v2/health/live")).status_code == 200
            stopping = asyncio.create_task(service.stop())
            await asyncio.sleep(0)
            refused = await post(client, GOOD)
            gate.open.set()
            answer = await admitted
            await stopping
        assert scores_in(answer) == expected(bundles / "control", ROWS)
        assert answer.headers["connection"] == "close"
        assert (refused.status_code, "intake has stopped" in refused.json()["error"]) == (503, True)


async def test_long_texts_are_read_beside_the_event_loop_and_who_leaves_meanwhile_costs_no_scoring(
    service: Service, bundles: Path
) -> None:
    told: list[bytes] = []
    route, free = InferRoute(service), threading.Event()
    door = route.door(INFER.encode())
    assert door is not None
    stays, leaves = (
        door.exchange([], time.perf_counter(), lambda _, head, body, close: told.append(body)) for _ in "ab"
    )
    rows = draw_rows(FEATURES, 1_000)
    body = json.dumps(asking(rows)).encode()
    assert len(body) > AT_ONCE_BYTES
    route.reader.submit(free.wait, 30)  # which is before them
    leaves.rank(body)
    stays.rank(body)
    leaves.leave()
    free.set()
    while not stays.answered:  # noqa: ASYNC110 its reply is no future
        await asyncio.sleep(0.005)
    assert np.array(json.loads(told.pop())["outputs"][0]["data"]).tobytes() == expected(bundles / "control", rows)
    assert told == []
    assert counted(service) == {"offered": 2, "ok": 1, "cancelled": 1}
    assert service.batcher.stats().lanes["control"].offered == 1


async def test_rows_for_a_model_that_was_replaced_are_never_scored_by_another_one(
    service: Service, client: httpx.AsyncClient
) -> None:
    control, treatment = (service.rankers[variant].scorer for variant in ("control", "treatment"))  # type: ignore[index]
    with pytest.raises(ModelReplaced, match="activity-ranker/1 was replaced while 2 rows"):
        treatment.score([control.given(ROWS[:2].copy())])

    told: list[tuple[int, bytes, bytes]] = []
    door = ModelDoor(InferRoute(service), "control", "control", treatment.model)  # as if that had served until now
    exchange = door.exchange([], 0.0, lambda status, head, body, _: told.append((status, head, body)))
    rows = ROWS[:2, :-1]
    exchange.rank(json.dumps(asking(rows)).encode())
    ((status, head, body),) = told
    assert status == 503
    assert b"retry-after: 1\r\n" in head
    assert json.loads(body)["error"] == "activity-ranker/2 was replaced while 2 rows were on their way to it"
    assert counted(service) == {"offered": 1, "shed": 1}
    assert 'frontrow_shed_total{reason="model_replaced",variant="control"} 1.0' in service.metrics.exposition().decode()


async def test_a_defect_says_nothing_of_the_inside(
    client: httpx.AsyncClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object) -> None:
        raise RuntimeError("the secret of the inside")

    monkeypatch.setattr(service.rankers["control"].scorer, "given", explode)
    response = await post(client, GOOD)
    assert (response.status_code, response.json().keys()) == (500, {"error"})
    assert "secret" not in response.text
