"""`/invocations`: the answers of MLflow's own scoring server, to its own client and to everybody else."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import lightgbm
import numpy as np
import pandas as pd
import pytest
from app_models import CANDIDATES, FEATURES, QUERIES
from mlflow_noise import FROM_MLFLOW
from processes import serving as serving_process
from served import running
from whole_rows import Floats, counted, draw_rows, expected

from app.service import Service
from app.settings import Settings
from registry import Feature, write_bundle

# MLflow is imported by tests and not by this module: only there its warnings can be passed over.
pytestmark = [pytest.mark.filterwarnings(warning) for warning in FROM_MLFLOW]

WIDTH = len(FEATURES)
NAMES = [feature.name for feature in FEATURES]
ROWS = draw_rows(FEATURES, 300)
NUMBERS = (Feature("price", "activity", "number"), Feature("rating", "activity", "number"))
JSON = {"content-type": "application/json"}
CSV = {"content-type": "text/csv"}


def readable(rows: Floats) -> pd.DataFrame:
    """Rows as a data scientist has them: categories by their names, and gaps."""
    columns = zip(FEATURES, rows.T.tolist(), strict=True)
    return pd.DataFrame({feature.name: [feature.decode(value) for value in column] for feature, column in columns})


def encoded(table: pd.DataFrame) -> Floats:
    """The same as `Booster.predict` takes it."""
    rows = table.astype(object).where(table.notna(), None).to_numpy().tolist()
    return np.array([[feature.encode(value) for feature, value in zip(FEATURES, row, strict=True)] for row in rows])


TABLE = readable(draw_rows(FEATURES, 400)[:200])  # without the odd ones


@pytest.fixture(scope="module")
def caller(bundles: Path) -> Iterator[Any]:
    """MLflow's client of a process that serves."""
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    with serving_process(bundles, log_level="error") as process:
        client = ScoringServerClient(*process.url.removeprefix("http://").split(":"))
        client.wait_server_ready()
        yield client


def predictions(response: Any) -> Floats:
    return response.get_predictions()[0].to_numpy()


# ---- with MLflow's own client


def test_mlflows_client_gets_the_scores_of_booster_predict_to_the_last_bit(caller: Any, bundles: Path) -> None:
    by_name = predictions(caller.invoke(TABLE))
    assert by_name.tobytes() == expected(bundles / "control", encoded(TABLE))
    codes = pd.DataFrame(ROWS, columns=NAMES)
    for given in (codes, codes[NAMES[::-1]], ROWS, ROWS.tolist()):
        assert predictions(caller.invoke(given)).tobytes() == expected(bundles / "control", ROWS)


def test_mlflows_client_may_send_parameters_that_mean_nothing(caller: Any, bundles: Path) -> None:
    answer = caller.invoke(ROWS, params={"temperature": 0.5})
    assert predictions(answer).tobytes() == expected(bundles / "control", ROWS)


def test_mlflows_client_is_told_what_is_wrong(caller: Any) -> None:
    with pytest.raises(Exception, match=r"error code 400.*columns 'device', 'price' are missing"):
        caller.invoke(TABLE.drop(columns=["device", "price"]))


# ---- beside MLflow's own server


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of two numbers, as a bundle and as MLflow logs it: `bundle` and `mlflow`."""
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    folder = tmp_path_factory.mktemp("numbers")
    random = np.random.default_rng(3)
    table = pd.DataFrame(
        {"price": random.gamma(3, 15, QUERIES * CANDIDATES), "rating": random.uniform(2, 5, QUERIES * CANDIDATES)}
    )
    labels = np.digitize(table["rating"] - table["price"] / 40, [2, 3.5])
    parameters = {"objective": "lambdarank", "num_leaves": 15, "verbosity": -1, "num_threads": 1, "seed": 1}
    model = lightgbm.train(parameters, lightgbm.Dataset(table, labels, group=[CANDIDATES] * QUERIES), 10)
    write_bundle(
        folder / "bundle",
        model_text=model.model_to_string().encode(),
        features=NUMBERS,
        golden_rows=table.to_numpy()[:40],
        example=[{"price": 20.5, "rating": 4.5}],
        name="numbers",
        version="1",
        source="models:/numbers/1",
        trained_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    columns = Schema([ColSpec(DataType.double, feature.name) for feature in NUMBERS])
    signature = ModelSignature(inputs=columns, outputs=Schema([ColSpec(DataType.double)]))
    mlflow.lightgbm.save_model(model, folder / "mlflow", signature=signature, pip_requirements=["lightgbm"])
    return folder


PAIRS = pd.DataFrame({"price": [12.5, np.nan, 1e300, 3.25, -0.0], "rating": [4.5, 3.0, np.nan, np.inf, 2.75]})
TABLES: dict[str, tuple[str, dict[str, str]]] = {
    "split": (json.dumps({"dataframe_split": PAIRS.to_dict(orient="split")}), JSON),
    "split, columns turned": (
        json.dumps({"dataframe_split": PAIRS[["rating", "price"]].to_dict(orient="split")}),
        JSON,
    ),
    "split, an index": (
        json.dumps({"dataframe_split": {**PAIRS.to_dict(orient="split"), "index": list("abcde")}}),
        JSON,
    ),
    "records": (json.dumps({"dataframe_records": PAIRS.to_dict(orient="records")}), JSON),
    "records, some without a value": ('{"dataframe_records": [{"price": 3.5}, {"rating": 4.5, "price": 2.5}]}', JSON),
    "records, null": ('{"dataframe_records": [{"price": null, "rating": 3.5}, {"rating": 4.5, "price": 2.5}]}', JSON),
    "inputs by column": (json.dumps({"inputs": PAIRS.to_dict(orient="list")}), JSON),
    "inputs as records": (json.dumps({"inputs": PAIRS.to_dict(orient="records")}), JSON),
    "instances as records": (json.dumps({"instances": PAIRS.to_dict(orient="records")}), JSON),
    "with parameters": (json.dumps({"inputs": PAIRS.to_dict(orient="list"), "params": {"a": 1}, "other": 3}), JSON),
    "utf-8 told": (
        json.dumps({"inputs": PAIRS.to_dict(orient="list")}),
        {"content-type": "application/json; charset=utf-8"},
    ),
    "csv": (PAIRS.to_csv(index=False), CSV),
    "csv, columns turned": (PAIRS[["rating", "price"]].to_csv(index=False), CSV),
    "csv, quoted, CRLF and a blank line": ('"price","rating"\r\n"12.5","4.5"\r\n\r\n"",3\r\n', CSV),
    "csv, what pandas takes for missing": ("price,rating\nNaN,4.5\nNULL,2\nn/a,nan\n3.5,<NA>\nNone,#N/A\n", CSV),
    "csv, infinite": ("price,rating\ninf,4.5\n-inf,2\n3.5,-Infinity\n1e400,1E-5\n", CSV),
}


@pytest.mark.parametrize(("body", "headers"), TABLES.values(), ids=TABLES.keys())
async def test_each_form_of_a_table_gets_the_answer_of_mlflows_own_server(
    settings: Settings, numbers: Path, monkeypatch: pytest.MonkeyPatch, body: str, headers: dict[str, str]
) -> None:
    import mlflow
    from mlflow.pyfunc import scoring_server

    monkeypatch.setattr(os, "environ", dict(os.environ))  # to which MLflow's server adds
    theirs = scoring_server.init(mlflow.pyfunc.load_model(str(numbers / "mlflow")))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(theirs), base_url="http://mlflow") as client:
        truth = await client.post("/invocations", content=body, headers=headers)
    assert truth.status_code == 200, truth.text
    alone = settings.model_copy(update={"control_model": str(numbers / "bundle"), "treatment_model": ""})
    async with running(alone) as (_, client):
        answer = await client.post("/invocations", content=body, headers=headers)
    assert answer.json() == truth.json()
    assert len(answer.json()["predictions"]) >= 2


# ---- the same way, seen from inside


async def post(client: httpx.AsyncClient, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await client.post("/invocations", content=content, headers={**JSON, **headers})


def scores_in(response: httpx.Response) -> bytes:
    assert response.status_code == 200, response.text
    assert response.json().keys() == {"predictions"}
    return np.array(response.json()["predictions"], np.float64).tobytes()


def forms(table: pd.DataFrame) -> Iterator[tuple[str, dict[str, str]]]:
    """A table with categories in all forms."""
    plain = table.astype(object).where(table.notna(), None)
    yield json.dumps({"dataframe_split": plain.to_dict(orient="split")}), JSON
    yield json.dumps({"dataframe_records": plain.to_dict(orient="records")}), JSON
    yield json.dumps({"inputs": plain.to_dict(orient="list")}), JSON
    yield json.dumps({"instances": plain.to_numpy().tolist()}), JSON
    yield json.dumps({"inputs": plain.to_numpy().tolist()}), JSON
    yield table.to_csv(index=False), CSV


async def test_categories_are_named_or_coded_and_every_form_says_the_same(
    client: httpx.AsyncClient, bundles: Path
) -> None:
    truth = expected(bundles / "control", encoded(TABLE))
    for body, headers in forms(TABLE):
        assert scores_in(await client.post("/invocations", content=body, headers=headers)) == truth
    by_code = {"dataframe_split": {"columns": NAMES, "data": ROWS.tolist()}}
    assert scores_in(await post(client, by_code)) == expected(bundles / "control", ROWS)


async def test_a_category_that_nobody_knows_is_missing_and_counted(
    client: httpx.AsyncClient, service: Service, bundles: Path
) -> None:
    table = TABLE.head(3).assign(category=["opera", "museum", "opera"])
    truth = expected(bundles / "control", encoded(table))
    for body, headers in forms(table):
        assert scores_in(await client.post("/invocations", content=body, headers=headers)) == truth
    exposition = service.metrics.exposition().decode()
    assert 'frontrow_unknown_category_total{feature="category"} 12.0' in exposition


async def test_a_variant_is_served_where_it_may_be_forced_and_else_control(settings: Settings, bundles: Path) -> None:
    rows = ROWS[:, :-1]
    async with running(settings) as (service, client):
        forced = await post(client, {"inputs": rows.tolist()}, **{"X-Variant": "treatment"})
        assert scores_in(forced) == expected(bundles / "treatment", rows)
        assert forced.headers["x-model-version"] == "activity-ranker/2"
        assert counted(service) == {"offered": 1, "ok": 1}
    async with running(settings.model_copy(update={"allow_forced_variant": False})) as (_, client):
        headers = {"X-Variant": "treatment", "X-Visitor-Id": "ada"}
        assert scores_in(await post(client, {"inputs": ROWS.tolist()}, **headers)) == expected(
            bundles / "control", ROWS
        )


async def test_no_rows_are_no_predictions(client: httpx.AsyncClient) -> None:
    for body in (
        {"instances": []},
        {"inputs": []},
        {"dataframe_records": []},
        {"dataframe_split": {"columns": NAMES, "data": []}},
    ):
        assert (await post(client, body)).json() == {"predictions": []}
    head = ",".join(NAMES) + "\n"
    assert (await client.post("/invocations", content=head, headers=CSV)).json() == {"predictions": []}


async def test_it_can_be_pinged_until_it_drains(client: httpx.AsyncClient, service: Service) -> None:
    for path in ("/ping", "/health"):
        assert (await client.get(path)).status_code == 200
    service.begin_draining()
    for path in ("/ping", "/health"):
        assert (await client.get(path)).status_code == 503
    late = await post(client, {"inputs": ROWS.tolist()})
    assert (late.status_code, late.headers["connection"]) == (200, "close")


GOOD = [1.5] * WIDTH
RECORD = dict.fromkeys(NAMES, 1.5)
COLUMNS = {name: [1.5] for name in NAMES}


def split(**changes: Any) -> dict[str, Any]:
    given = {"columns": NAMES, "data": [GOOD], **changes}
    return {"dataframe_split": {name: value for name, value in given.items() if value is not None}}


def csv_of(*lines: str) -> bytes:
    return "\n".join((",".join(NAMES), *lines)).encode()


LINE = "mobile,3,museum,12.5,4.5,10,True"

BAD: list[tuple[str, Any, dict[str, str], int, str]] = [
    ("nothing", b"", {}, 400, "not JSON"),
    ("cut off", b'{"inputs": [[1.5', {}, 400, "not JSON"),
    ("no UTF-8", b'{"inputs": [["\xff"]]}', {}, 400, "UTF-8"),
    ("a list", [GOOD], {}, 400, "object"),
    ("a text", "rows", {}, 400, "object"),
    ("no table", {}, {}, 400, "exactly one of"),
    ("another key", {"data": [GOOD]}, {}, 400, "exactly one of"),
    ("two tables", {"inputs": [GOOD], "instances": [GOOD]}, {}, 400, "instances and inputs"),
    ("split without columns", split(columns=None), {}, 400, "columns"),
    ("split without data", split(data=None), {}, 400, "data"),
    ("split with something else", split(dtype="float"), {}, 400, "dtype"),
    ("split as a list", {"dataframe_split": [GOOD]}, {}, 400, "$.dataframe_split"),
    ("records as an object", {"dataframe_records": RECORD}, {}, 400, "$.dataframe_records"),
    ("a missing column", split(columns=NAMES[1:], data=[GOOD[1:]]), {}, 400, "column 'device' is missing"),
    (
        "a column of each record missing",
        {"dataframe_records": [{"price": 1.5}]},
        {},
        400,
        "'rating', 'reviews' and 1 more are missing",
    ),
    ("an unknown column", split(columns=[*NAMES, "prize"], data=[[*GOOD, 1.5]]), {}, 400, "column 'prize' is unknown"),
    ("an unknown column of a record", {"dataframe_records": [{**RECORD, "prize": 1}]}, {}, 400, "'prize' is unknown"),
    (
        "an unknown column of inputs",
        {"inputs": {**COLUMNS, "prize": [1]}},
        {},
        400,
        "'prize' is unknown",
    ),
    ("a column twice", split(columns=[*NAMES, "price"], data=[[*GOOD, 1.5]]), {}, 400, "'price' stands twice"),
    ("numbered columns", split(columns=list(range(WIDTH))), {}, 400, "missing"),
    ("columns that are lists", split(columns=[[name] for name in NAMES]), {}, 400, "$.dataframe_split.columns[0]"),
    ("a row too short", split(data=[GOOD, GOOD[1:]]), {}, 400, "row 1 has 6 values and 7 are wanted"),
    ("a row too long", {"inputs": [[*GOOD, 1.5]]}, {}, 400, "row 0 has 8 values and 7 are wanted"),
    ("a row that is a number", {"inputs": GOOD}, {}, 400, "$.inputs[0]"),
    ("lists and objects", {"instances": [GOOD, RECORD]}, {}, 400, "both lists and objects"),
    (
        "columns of different lengths",
        {"inputs": {**COLUMNS, "price": [1, 2]}},
        {},
        400,
        "different lengths",
    ),
    (
        "a number as text",
        split(data=[["mobile", 3, "museum", "12.5", 4.5, 10, 1]]),
        {},
        400,
        "column price, row 0: a text (12.5)",
    ),
    (
        "a number as boolean",
        split(data=[GOOD, [*GOOD[:3], True, *GOOD[4:]]]),
        {},
        400,
        "column price, row 1: a boolean",
    ),
    ("a boolean as text", split(data=[[*GOOD[:-1], "yes"]]), {}, 400, "column free_cancellation, row 0: a text (yes)"),
    ("a category as boolean", split(data=[[False, *GOOD[1:]]]), {}, 400, "column device, row 0: a boolean"),
    ("a value that is a list", split(data=[[[1.5], *GOOD[1:]]]), {}, 400, "$.dataframe_split.data[0][0]"),
    ("NaN spelled wrong", json.dumps(split()).replace("1.5", "nan").encode(), {}, 400, "not JSON"),
    ("a number of 5,000 digits", json.dumps(split()).replace("1.5", 5_000 * "9").encode(), {}, 400, "too many digits"),
    ("a number of 400 digits", json.dumps(split()).replace("1.5", 400 * "9").encode(), {}, 400, ""),
    ("nested 100,000 deep", b'{"inputs": ' + 100_000 * b"[" + 100_000 * b"]" + b"}", {}, 400, "deeper"),
    ("too many rows", {"inputs": [GOOD] * 5_001}, {}, 413, "5000 are allowed"),
    ("too large a body", b" " * 1_048_577, {}, 413, "1048576 bytes"),
    ("csv without a header", LINE.encode(), CSV, 400, "are missing"),
    ("csv of nothing", b"", CSV, 400, "its first line names the columns"),
    ("csv of JSON", json.dumps(split()).encode(), CSV, 400, "stands twice"),
    (
        "csv with an unknown column",
        f"{','.join(NAMES)},prize\n{LINE},3\n".encode(),
        CSV,
        400,
        "column 'prize' is unknown",
    ),
    ("csv with an index", f",{','.join(NAMES)}\n0,{LINE}\n".encode(), CSV, 400, "column '' is unknown"),
    ("csv with a column twice", f"{','.join(NAMES)},price\n{LINE},3\n".encode(), CSV, 400, "'price' stands twice"),
    ("csv with a line too short", csv_of(LINE, "mobile,3"), CSV, 400, "row 1 has 2 values and 7 are wanted"),
    ("csv with a line too long", csv_of(LINE + ",3"), CSV, 400, "row 0 has 8 values and 7 are wanted"),
    (
        "csv with words for a number",
        csv_of(LINE.replace("12.5", "cheap")),
        CSV,
        400,
        "column price, row 0: a text (cheap)",
    ),
    ("csv with a truth for a number", csv_of(LINE.replace("12.5", "True")), CSV, 400, "column price, row 0: a boolean"),
    ("csv with an open quote", csv_of('"' + LINE), CSV, 400, "not CSV"),
    ("csv with a quote amid", csv_of(LINE.replace("mobile", '"mobile"s')), CSV, 400, "not CSV"),
    ("csv in UTF-16", csv_of(LINE).decode().encode("utf-16"), CSV, 400, "UTF-8"),
    ("csv with NUL", csv_of(LINE.replace("12.5", "\0")), CSV, 400, ""),
    ("csv with a field of 200 kB", csv_of(LINE.replace("mobile", "m" * 200_000)), CSV, 400, "not CSV"),
    ("too many rows of csv", csv_of(*[LINE] * 5_001), CSV, 413, "5000 are allowed"),
    ("csv in another charset", csv_of(LINE), {"content-type": "text/csv; charset=latin-1"}, 415, "UTF-8"),
    (
        "csv without a header, told",
        csv_of(LINE),
        {"content-type": "text/csv; header=absent"},
        415,
        "no other parameters",
    ),
    ("no content type", split(), {"content-type": ""}, 415, "application/json or text/csv"),
    ("parquet", b"PAR1", {"content-type": "application/vnd.apache.parquet"}, 415, "application/json or text/csv"),
    ("compressed", split(), {"content-encoding": "gzip"}, 415, "compressed"),
    ("a deadline in words", split(), {"x-request-timeout-ms": "soon"}, 400, "X-Request-Timeout-Ms"),
]


@pytest.mark.parametrize("case", [one[1:] for one in BAD], ids=[one[0] for one in BAD])
async def test_a_bad_request_is_told_what_is_wrong_in_the_words_of_mlflow(
    client: httpx.AsyncClient, service: Service, case: tuple[Any, dict[str, str], int, str]
) -> None:
    body, headers, status, words = case
    response = await post(client, body, **headers)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    document = response.json()
    assert document.keys() == {"error_code", "message"}
    assert document["error_code"] == "BAD_REQUEST"
    assert words in document["message"]
    for secret in ("Traceback", ".py", "msgspec", "numpy"):
        assert secret not in response.text
    assert counted(service) == {"offered": 1, "invalid": 1}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_another_method_is_405(client: httpx.AsyncClient, method: str) -> None:
    response = await client.request(method, "/invocations")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


async def test_a_full_service_says_so_in_the_words_of_mlflow(settings: Settings) -> None:
    async with running(settings) as (service, client):
        await service.batcher.drain()
        response = await post(client, {"inputs": ROWS.tolist()})
        assert (response.status_code, response.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
        assert int(response.headers["retry-after"]) >= 1
        assert counted(service) == {"offered": 1, "shed": 1}
