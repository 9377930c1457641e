"""What schemathesis cannot take from the JSON Schemas of the OpenAPI document."""

from typing import Any

import pyarrow as pa
import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, HookContext

LEAST_TIMEOUT_MS = 10_000


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


@schemathesis.hook
def map_case(context: HookContext, case: Case[Any]) -> Case[Any]:
    """Give each request time for its answer, and let no id of a good one stand twice over both forms of a candidate.

    A deadline of 1 ms is allowed, and a 503 or 504 its right answer, but only a slow machine's.
    """
    timeout = str((case.headers or {}).get("X-Request-Timeout-Ms", ""))
    if timeout.isascii() and timeout.isdecimal() and 1 <= int(timeout) < LEAST_TIMEOUT_MS:
        case.headers["X-Request-Timeout-Ms"] = str(LEAST_TIMEOUT_MS)
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return case
    body: Any = case.body
    if isinstance(body, dict) and "candidates" in body:
        by_id = {one if isinstance(one, str) else one["id"]: one for one in body["candidates"]}
        body["candidates"] = list(by_id.values())
    return case


@schemathesis.hook
def filter_case(context: HookContext, case: Case[Any]) -> bool:
    """Send no header that the document lacks: HTTP lets anybody add one, so it is no fault to refuse.

    Schemathesis knows that, but forgets it beside a documented header that is an integer.
    """
    documented = {"content-type", *(header.name.lower() for header in case.operation.headers)}
    return {name.lower() for name in case.headers} <= documented
