"""The OpenAPI description of the paths of other protocols that score rows."""

from http import HTTPStatus
from math import isnan
from typing import Any

import msgspec

from app.invocations import Invocation, InvocationError, Predictions
from app.open_inference import INPUT, OUTPUT, InferError, InferRequest, InferResponse
from app.openapi import ALWAYS, EXAMPLE_CANDIDATES, WITH_A_RANKING, headers_in, headers_of, problem_of
from registry import Bundle

OCTETS = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_INFER = f"""
`model_name` is a variant or a model's name in MLflow; without a version, control answers where both have the name.
The one input `{INPUT}` has whole rows of the model: the numbers that `Booster.predict` takes, in the order of the
features in `/v1/models`; `null` and `NaN` are missing. The one output `{OUTPUT}` has their scores. Binary data follow
the JSON in `application/octet-stream`; how long the JSON is then says `Inference-Header-Content-Length`.
"""
_INVOCATIONS = """
Exactly one of the four members, or a table as CSV. Columns are matched by name; lists without names are in the order of
the features in `/v1/models`. A category is its name, or its code as a number. Control answers, or the variant that
`X-Variant` asks for where settings allow it.
"""
_SCORE_PROBLEMS = {
    HTTPStatus.BAD_REQUEST: "The body or a header is wrong; the message names the place.",
    HTTPStatus.REQUEST_TIMEOUT: "The body did not arrive in time.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "Too many rows, or too large a body.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is of another type, or is compressed.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "Too many or too large headers.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "A defect of the service.",
    HTTPStatus.SERVICE_UNAVAILABLE: "Refused at the door, or the model was replaced. No row was scored.",
    HTTPStatus.GATEWAY_TIMEOUT: "The deadline passed before scoring.",
}
_NO_MODEL = {HTTPStatus.NOT_FOUND: "There is no such model."}


def describe_inference(document: dict[str, Any], bundle: Bundle) -> None:
    """Add what other protocols ask for scores by, with examples of the model of `bundle`, and their schemas."""
    types = [InferRequest, InferResponse, InferError, Invocation, Predictions, InvocationError]
    schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    (asked, told, error, table, predictions, trouble), components = schemas
    document["components"]["schemas"].update(components)
    _forget_validation(document)
    infer = {
        "tags": ["inference"],
        "summary": "Score rows (Open Inference Protocol)",
        "description": _INFER,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": asked, "example": _infer_example(bundle)}, **OCTETS},
        },
        "responses": _score_responses({"application/json": {"schema": told}, **OCTETS}, error, _NO_MODEL),
    }
    length = {"name": "Inference-Header-Content-Length", "in": "header", "required": False}
    length |= {"description": "How many bytes of the body are JSON.", "schema": {"type": "integer", "minimum": 1}}
    headers = [*headers_in(), length]
    name, version = _in_path("model_name", "control"), _in_path("version", bundle.version)
    for path, operation, parameters in (
        ("/v2/models/{model_name}/infer", "infer", [name]),
        ("/v2/models/{model_name}/versions/{version}/infer", "infer_version", [name, version]),
    ):
        document["paths"][path] = {"post": {"operationId": operation, "parameters": [*parameters, *headers], **infer}}
    document["paths"]["/invocations"] = {
        "post": {
            "operationId": "invocations",
            "tags": ["inference"],
            "summary": "Score a table (MLflow)",
            "description": _INVOCATIONS,
            "parameters": headers_in(),
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": table, "example": _invocation_example(bundle)},
                    "text/csv": {"schema": {"type": "string"}},
                },
            },
            "responses": _score_responses({"application/json": {"schema": predictions}}, trouble, {}),
        }
    }


def _forget_validation(document: dict[str, Any]) -> None:
    """Leave out what FastAPI says of every path with a name in it: any name is valid, and that of nobody is a 404."""
    for path in document["paths"].values():
        for operation in path.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)


def _in_path(name: str, example: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "example": example}


def _infer_example(bundle: Bundle) -> dict[str, Any]:
    rows = [[one.encode(row.get(one.name)) for one in bundle.features] for row in bundle.example[:1]]
    data = [[None if isnan(value) else value for value in row] for row in rows]
    return {"inputs": [{"name": INPUT, "datatype": "FP64", "shape": [len(data), len(bundle.features)], "data": data}]}


def _invocation_example(bundle: Bundle) -> dict[str, Any]:
    rows = bundle.example[:EXAMPLE_CANDIDATES]
    return {"dataframe_records": [{one.name: row.get(one.name) for one in bundle.features} for row in rows]}


def _score_responses(
    content: dict[str, Any], error: dict[str, Any], more: dict[HTTPStatus, str]
) -> dict[str, dict[str, Any]]:
    problems = {str(int(status)): problem_of(text, error, status) for status, text in _SCORE_PROBLEMS.items()}
    problems |= {str(int(status)): problem_of(text, error, status, {}) for status, text in more.items()}
    for problem in problems.values():
        problem["content"] = {"application/json": {"schema": error}}
    return {
        "200": {"description": "The scores.", "headers": headers_of(ALWAYS | WITH_A_RANKING), "content": content},
        **problems,
    }
