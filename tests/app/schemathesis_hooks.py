"""What schemathesis cannot take from the JSON Schemas of the OpenAPI document."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import schemathesis
from app_models import FEATURES
from hypothesis import strategies as st
from schemathesis import Case, HookContext

LEAST_TIMEOUT_MS = 10_000
NAMES = [feature.name for feature in FEATURES]
WIDTHS = {"control": len(FEATURES), "treatment": len(FEATURES) - 1}
VERSIONS = {"control": "1", "treatment": "2"}
LENGTH = "Inference-Header-Content-Length"
TABLES = ("dataframe_split", "dataframe_records", "instances", "inputs")


def arrow_stream(ids: list[str]) -> bytes:
    sink = pa.BufferOutputStream()
    batch = pa.record_batch({"id": pa.array(ids, pa.string())})
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    content: bytes = sink.getvalue().to_pybytes()
    return content


ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=128)
streams = st.lists(ids, max_size=20, unique=True).map(arrow_stream)
schemathesis.openapi.media_type("application/vnd.apache.arrow.stream", streams)
numbers = st.floats(width=64)
schemathesis.openapi.media_type(
    "application/octet-stream", st.lists(numbers, max_size=20).map(lambda values: np.array(values).tobytes())
)
lines = st.tuples(*(numbers if one.type in ("number", "integer") else st.just("") for one in FEATURES))
schemathesis.openapi.media_type(
    "text/csv",
    st.lists(lines, max_size=20).map(
        lambda rows: "\n".join([",".join(NAMES), *(",".join(map(str, row)) for row in rows)]).encode()
    ),
)


@schemathesis.hook
def map_case(context: HookContext, case: Case[Any]) -> Case[Any]:
    """Give each request time for its answer, and make a good one of one that is good but for what no schema says.

    A deadline of 1 ms is allowed, and a 503 or 504 its right answer, but only a slow machine's.
    """
    timeout = str((case.headers or {}).get("X-Request-Timeout-Ms", ""))
    if timeout.isascii() and timeout.isdecimal() and 1 <= int(timeout) < LEAST_TIMEOUT_MS:
        case.headers["X-Request-Timeout-Ms"] = str(LEAST_TIMEOUT_MS)
    name_model(case)
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return case
    if case.operation.path == "/v1/rank" and isinstance(case.body, dict):
        mend_ids(case.body)
    elif case.operation.path.endswith("/infer"):
        mend_infer(case)
    elif case.operation.path == "/invocations" and isinstance(case.body, dict):
        mend_table(case)
    return case


def mend_ids(body: dict[str, Any]) -> None:
    """Let no id stand twice over both forms of a candidate."""
    by_id = {one if isinstance(one, str) else one["id"]: one for one in body["candidates"]}
    body["candidates"] = list(by_id.values())


def name_model(case: Case[Any]) -> None:
    """Ask for a model that there is: every other name is a 404."""
    names = case.path_parameters or {}
    if "model_name" in names:
        names["model_name"] = sorted(WIDTHS)[len(str(names["model_name"])) % 2]
    if "version" in names:
        names["version"] = VERSIONS[names["model_name"]]


def mend_infer(case: Case[Any]) -> None:
    """Send as many rows as there are numbers, as wide as the model wants them, and ask for what it has."""
    width = WIDTHS[case.path_parameters["model_name"]]
    case.headers.pop(LENGTH, None)
    if isinstance(case.body, bytes):
        values = np.resize(np.frombuffer(case.body[: len(case.body) // 8 * 8]), (len(case.body) // 8, width))
        data = {"shape": list(values.shape), "datatype": "FP64", "parameters": {"binary_data_size": values.nbytes}}
        head = json.dumps({"inputs": [{"name": "rows", **data}]}).encode()
        case.headers[LENGTH] = str(len(head))
        case.body = head + values.tobytes()
    elif isinstance(case.body, dict):
        given = case.body["inputs"][0] if case.body["inputs"] else {}
        flat = [value for value in given.get("data") or [] if not isinstance(value, list)]
        rows = len(flat)
        given |= {"name": "rows", "datatype": "FP64", "shape": [rows, width], "data": (flat * width)}
        case.body["inputs"] = [given]
        for output in case.body.get("outputs") or []:
            output["name"] = "scores"


def mend_table(case: Case[Any]) -> None:
    """Send one table, of the columns that the model has and of values that are theirs."""
    width = WIDTHS["treatment" if (case.headers or {}).get("X-Variant") == "treatment" else "control"]
    body, names = case.body, NAMES[:width]
    given = next((name for name in TABLES if body.get(name) is not None), "instances")
    sizes = body.get(given) or []
    rows = [[fitting(value, column) for column in range(width)] for value in first_values(sizes)]
    for name in TABLES:
        body.pop(name, None)
    if given == "dataframe_split":
        body[given] = {"columns": names, "data": rows}
    elif given == "dataframe_records" or (rows and isinstance(sizes, dict)):
        body[given] = [dict(zip(names, row, strict=True)) for row in rows]
    else:
        body[given] = rows


def first_values(given: Any) -> list[Any]:
    """A value of each row, however the rows came."""
    if isinstance(given, dict):
        given = given["data"] if "data" in given else list(given.values())
    rows = [list(row.values()) if isinstance(row, dict) else row for row in given]
    return [next(iter(row), None) for row in rows]


def fitting(value: Any, column: int) -> Any:
    kind = FEATURES[column].type
    fits = (
        isinstance(value, bool) if kind == "boolean" else isinstance(value, int | float) and not isinstance(value, bool)
    )
    return value if fits or (kind == "category" and isinstance(value, str)) else None


@schemathesis.hook
def filter_case(context: HookContext, case: Case[Any]) -> bool:
    """Send no header that the document lacks: HTTP lets anybody add one, so it is no fault to refuse.

    Schemathesis knows that, but forgets it beside a documented header that is an integer.
    """
    documented = {"content-type", *(header.name.lower() for header in case.operation.headers)}
    return {name.lower() for name in case.headers} <= documented
