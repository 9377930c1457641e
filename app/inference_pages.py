"""What clients of other protocols look at before they ask for scores: probes, and what a model takes and gives."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from app.dependencies import ServiceDependency
from app.open_inference import INPUT, OUTPUT, error_document, find_variant
from app.schemas import shown
from app.service import Service

PREFIX = "/v2"


class ServerMetadata(BaseModel):
    name: Literal["frontrow"]
    version: str
    extensions: list[str]


class Live(BaseModel):
    live: Literal[True]


class Ready(BaseModel):
    ready: Literal[True]


class TensorMetadata(BaseModel):
    """A size of -1 is any."""

    name: str
    datatype: Literal["FP64"]
    shape: list[int]


class ModelMetadata(BaseModel):
    name: str
    versions: list[str]
    platform: Literal["lightgbm"]
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class InferenceError(BaseModel):
    error: str


class NoSuchModel(Exception):
    """Nobody serves a model of that name, or that version of it."""


class NotReady(Exception):
    """No request should be sent here now."""


Responses = dict[int | str, dict[str, Any]]

_NO_MODEL: Responses = {404: {"model": InferenceError, "description": "There is no such model."}}
_NOT_READY: Responses = {503: {"model": InferenceError, "description": "Not ready; `error` says why."}}

router = APIRouter(tags=["inference"])


@router.get(PREFIX, summary="Who serves, and which extensions of the protocol")
async def server(service: ServiceDependency) -> ServerMetadata:
    return ServerMetadata(name="frontrow", version=service.code_version, extensions=["binary_tensor_data"])


@router.get("/v2/health/live", summary="Whether the event loop beats")
async def server_live() -> Live:
    return Live(live=True)


@router.get("/v2/health/ready", summary="Whether requests should be sent here", responses=_NOT_READY)
async def server_ready(service: ServiceDependency) -> Ready:
    return _ready(service)


@router.get("/v2/models/{model_name}", summary="What a model takes and gives", responses=_NO_MODEL)
async def model(model_name: str, service: ServiceDependency) -> ModelMetadata:
    return _metadata(service, model_name)


@router.get("/v2/models/{model_name}/ready", summary="Whether it can be asked", responses=_NO_MODEL | _NOT_READY)
async def model_ready(model_name: str, service: ServiceDependency) -> Ready:
    _metadata(service, model_name)
    return _ready(service)


@router.get("/v2/models/{model_name}/versions/{version}", summary="The same of a version", responses=_NO_MODEL)
async def model_version(model_name: str, version: str, service: ServiceDependency) -> ModelMetadata:
    return _metadata(service, model_name, version)


@router.get(
    "/v2/models/{model_name}/versions/{version}/ready",
    summary="Whether the version can be asked",
    responses=_NO_MODEL | _NOT_READY,
)
async def version_ready(model_name: str, version: str, service: ServiceDependency) -> Ready:
    _metadata(service, model_name, version)
    return _ready(service)


# A model that is served takes what is posted itself (`app.protocol`). It is the others that are looked for here.
@router.post("/v2/models/{model_name}/infer", include_in_schema=False)
@router.post("/v2/models/{model_name}/versions/{version}/infer", include_in_schema=False)
async def infer_nobody(model_name: str, version: str | None = None) -> Response:
    raise _no_such_model(model_name, version)


@router.get("/ping", summary="Whether requests should be sent here, for MLflow's clients", responses=_NOT_READY)
async def ping(service: ServiceDependency) -> Ready:
    return _ready(service)


@router.get("/health", summary="The same as /ping", responses=_NOT_READY)
async def health(service: ServiceDependency) -> Ready:
    return _ready(service)


async def no_such_model(request: Request, error: Exception) -> Response:
    return inference_problem(HTTPStatus.NOT_FOUND, str(error))


async def not_ready(request: Request, error: Exception) -> Response:
    return inference_problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error))


def inference_problem(status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    return Response(error_document(detail), status, headers, media_type="application/json")


def _metadata(service: Service, name: str, version: str | None = None) -> ModelMetadata:
    variant = find_variant(service.served, name, version)
    if variant is None:
        raise _no_such_model(name, version)
    bundle = service.served[variant].model.bundle
    others = [one.model.bundle for one in service.served.values() if one.model.bundle.name == name]
    versions = [bundle.version] if version is not None or name == variant else [one.version for one in others]
    return ModelMetadata(
        name=name,
        versions=versions,
        platform="lightgbm",
        inputs=[TensorMetadata(name=INPUT, datatype="FP64", shape=[-1, len(bundle.features)])],
        outputs=[TensorMetadata(name=OUTPUT, datatype="FP64", shape=[-1])],
    )


def _no_such_model(name: str, version: str | None) -> NoSuchModel:
    asked = shown(name) if version is None else f"{shown(name)}/{shown(version)}"
    return NoSuchModel(f"there is no model {asked}; GET /v1/models lists those that are served")


def _ready(service: Service) -> Ready:
    if missing := service.missing():
        raise NotReady(", ".join(missing))
    return Ready(ready=True)
