"""The OpenAPI description of `/v1/rank`, made from the running models."""

from collections.abc import Sequence
from http import HTTPStatus
from itertools import islice
from typing import Any

import msgspec

from app.arrow_body import MEDIA_TYPE
from app.caller import MAX_TIMEOUT_MS, VISITOR_ID
from app.errors import ProblemDocument
from app.events import Receipt, SentEvent
from app.schemas import Field, RankResponse, RequestShape
from features import Catalog
from registry import Bundle

EXAMPLE_CANDIDATES = 3

ARROW = {MEDIA_TYPE.decode(): {"schema": {"type": "string", "format": "binary"}}}
_BY_COLUMNS = """
Bulk callers send the candidates as one record batch in an Arrow IPC stream instead: column `id` (string), and a column
for each feature that they have. `context` and `top_k` are a JSON object under the key `frontrow` of the schema's
metadata. With `Accept: application/vnd.apache.arrow.stream` the ranking comes as a record batch, too: columns `id`,
`score` and `position`, and the rest of the answer as JSON under the same key.
"""

_PROBLEMS = {
    HTTPStatus.BAD_REQUEST: "The body is not JSON in UTF-8, or not an Arrow IPC stream.",
    HTTPStatus.REQUEST_TIMEOUT: "The body did not arrive in time.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Too many candidates, or too large a body.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is neither `application/json` nor Arrow, or is compressed.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "A field or header is wrong; `faults` has the place of each.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "Too many or too large headers.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "A defect of the service.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Refused at the door: the answer would have come too late. Nothing was queued.",
    HTTPStatus.GATEWAY_TIMEOUT: "The deadline passed before scoring.",
}

_EVENT_PROBLEMS = {
    HTTPStatus.BAD_REQUEST: "The body is not JSON in UTF-8.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Too many events, or too large a body.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is not `application/json`, or is compressed.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "A field is wrong; `faults` has the place of each. No event was kept.",
}
_STORE_PROBLEMS = {
    HTTPStatus.INTERNAL_SERVER_ERROR: "A defect of the service.",
    HTTPStatus.NOT_IMPLEMENTED: "The store is written by somebody else.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The store has not taken this. To send it again is safe.",
}

# Headers of answers.
ALWAYS = {
    "X-Request-Id": "The request's id, as sent or as given.",
    "X-Variant": "The variant of this visitor.",
    "X-Code-Version": "The revision of the code that answered.",
}
WITH_A_RANKING = {
    "X-Model-Version": "The model that scored, as `name/version`.",
    "Server-Timing": "Milliseconds of decode, queue, features and score.",
}


def describe_rank(document: dict[str, Any], shape: RequestShape, example: dict[str, Any]) -> dict[str, Any]:
    """`document` with `/v1/rank` and its schemas added."""
    types = [shape.request_type, RankResponse, ProblemDocument]
    (body, answer, problem), schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    _describe_fields(schemas["Context"], shape.context)
    _describe_fields(schemas["Features"], shape.activity)
    for name in ("RankRequest", "Context", "Features"):
        _describe_whole_numbers(schemas[name])
    # Not `uniqueItems`: it cannot compare ids across the two forms, and clients are generated with unordered sets.
    schemas["RankRequest"]["properties"]["candidates"] |= {
        "maxItems": shape.max_candidates,
        "description": "Ids, or objects with features of their own. No id may stand twice.",
    }
    operation = {
        "operationId": "rank",
        "tags": ["ranking"],
        "summary": "Rank activities for one visitor",
        "description": "The best activity comes first; ties keep the order of the request. `position` counts from 1.\n"
        + _BY_COLUMNS,
        "parameters": headers_in(),
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body, "example": example}, **ARROW},
        },
        "responses": {
            "200": {
                "description": "The ranking.",
                "headers": headers_of(ALWAYS | WITH_A_RANKING),
                "content": {"application/json": {"schema": answer}, **ARROW},
            },
            **{str(int(status)): problem_of(text, problem, status) for status, text in _PROBLEMS.items()},
        },
    }
    document["paths"] = {"/v1/rank": {"post": operation}, **document["paths"]}
    document.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
    return document


def describe_events(document: dict[str, Any], max_events: int) -> None:
    """Add `/v1/events` and `/v1/visitors/{visitor_id}` and their schemas to `document`, which has `/v1/rank`."""
    types = [SentEvent, Receipt, ProblemDocument]
    (event, receipt, problem), schemas = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    visitor = {"type": "string", "pattern": f"^{VISITOR_ID}$"}
    schemas["SentEvent"]["properties"]["visitor_id"] = visitor
    _describe_whole_numbers(schemas["SentEvent"])
    document["components"]["schemas"].update(schemas)
    document["paths"]["/v1/events"] = {
        "post": {
            "operationId": "send_events",
            "tags": ["histories"],
            "summary": "Tell what visitors did",
            "description": "The next ranking of each visitor has it. Sending an event again changes nothing.",
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {"anyOf": [event, {"type": "array", "items": event, "maxItems": max_events}]},
                        "example": {"visitor_id": "ada", "activity_id": "A1042", "type": "view"},
                    }
                },
            },
            "responses": {
                "202": {"description": "Kept.", "content": {"application/json": {"schema": receipt}}},
                **_event_problems(_EVENT_PROBLEMS | _STORE_PROBLEMS, problem),
            },
        }
    }
    wrong_id = {HTTPStatus.UNPROCESSABLE_ENTITY: "There is no such visitor id."}
    document["paths"]["/v1/visitors/{visitor_id}"] = {
        "delete": {
            "operationId": "forget_visitor",
            "tags": ["histories"],
            "summary": "Delete what is kept of a visitor",
            "description": "Also of one that nothing is kept of. An event that comes later begins a new history.",
            "parameters": [{"name": "visitor_id", "in": "path", "required": True, "schema": visitor}],
            "responses": {
                "204": {"description": "Nothing is kept."},
                **_event_problems(wrong_id | _STORE_PROBLEMS, problem),
            },
        }
    }


def example_request(shape: RequestShape, bundle: Bundle, catalog: Catalog) -> dict[str, Any]:
    """A request that works: values of the model's input example, on activities that the catalog knows."""
    rows = bundle.example[:EXAMPLE_CANDIDATES]
    known = list(islice(catalog.rows, EXAMPLE_CANDIDATES - 1))
    names = {field.name for field in shape.activity}
    inline = [
        {"id": f"example-{number}", "features": {name: value for name, value in row.items() if name in names}}
        for number, row in enumerate(rows, 1)
    ]
    context_names = {field.name for field in shape.context}
    request: dict[str, Any] = {}
    if context_names and rows:
        request["context"] = {name: value for name, value in rows[0].items() if name in context_names}
    request["candidates"] = [*known, *inline[: EXAMPLE_CANDIDATES - len(known)]]
    return request


def _describe_fields(schema: dict[str, Any], fields: Sequence[Field]) -> None:
    for field in fields:
        if field.categories:
            schema["properties"][field.name] |= {
                "description": "The examples are all that the models know; any other value counts as missing.",
                "examples": list(field.categories),
            }


def _describe_whole_numbers(schema: dict[str, Any]) -> None:
    """Leave `integer` alone of the two types that a whole number is decoded by: JSON Schema's includes 12.0."""
    for described in schema["properties"].values():
        if "anyOf" in described:
            described["anyOf"] = [kind for kind in described["anyOf"] if "multipleOf" not in kind]


def headers_in() -> list[dict[str, Any]]:
    def header(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
        return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}

    return [
        header(
            "X-Visitor-Id",
            "Who asks: keeps the visitor in one variant. Up to 128 of `A-Za-z0-9._:@=+-`; anything else is ignored.",
            {"type": "string"},
        ),
        header("X-Variant", "Asks for `control` or `treatment`, where settings allow it.", {"type": "string"}),
        header("X-Request-Id", "Up to 64 of `A-Za-z0-9._-`; otherwise replaced.", {"type": "string"}),
        header(
            "X-Request-Timeout-Ms",
            "How long the caller waits, in milliseconds. Only shortens the service's own limit.",
            {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS},
        ),
        header(
            "X-Priority",
            "Under overload, `sheddable` is refused first and `critical` last.",
            {"type": "string", "enum": ["critical", "normal", "sheddable"]},
        ),
    ]


def headers_of(texts: dict[str, str]) -> dict[str, Any]:
    return {name: {"description": text, "required": True, "schema": {"type": "string"}} for name, text in texts.items()}


def _event_problems(texts: dict[HTTPStatus, str], schema: dict[str, Any]) -> dict[str, Any]:
    always = {"X-Request-Id": ALWAYS["X-Request-Id"]}
    return {str(int(status)): problem_of(text, schema, status, always) for status, text in texts.items()}


def problem_of(
    description: str, schema: dict[str, Any], status: HTTPStatus, always: dict[str, str] = ALWAYS
) -> dict[str, Any]:
    headers = headers_of(always)
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = {
            "description": "Seconds until there will be room.",
            "required": True,
            "schema": {"type": "integer", "minimum": 1},
        }
    return {
        "description": description,
        "headers": headers,
        "content": {"application/problem+json": {"schema": schema}},
    }
