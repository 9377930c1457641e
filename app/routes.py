"""The routes that people and machines look at: probes, identity, metrics. `/v1/rank` has a module of its own."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

import msgspec
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from app.caller import VISITOR_ID, is_visitor_id
from app.console import console_router
from app.deadlines import Deadlines
from app.dependencies import ServiceDependency
from app.errors import PROBLEM_JSON, Fault, Problem, body_too_large, defect, invalid_request, unsupported_media
from app.inference_pages import PREFIX, NoSuchModel, NotReady, inference_problem, no_such_model, not_ready
from app.inference_pages import router as inference_router
from app.interleaving import InterleavingRoute
from app.interpreter import Tidying, settle
from app.invocations import InvocationsRoute
from app.open_inference import InferRoute, ModelDoor
from app.openapi import describe_events, describe_rank
from app.openapi_inference import describe_inference
from app.rank_route import RankRoute
from app.service import Service

POSTED = (RankRoute.path, InvocationsRoute.path)
KEEP_ALIVE_SECONDS = 75  # longer than the idle time of common proxies, so that they close idle connections, not we
LOOKS_IN_KEEP_ALIVE = 4  # at each connection, so that a request need not touch a timer


class ModelDescription(BaseModel):
    """A model that serves, and how to find out where it came from."""

    variant: Literal["control", "treatment"]
    name: str
    version: str
    run_id: str | None
    alias: str | None
    sha256: str
    objective: str | None
    trees: int
    trained_at: datetime
    training_code_version: str | None
    loaded_at: datetime
    origin: str
    origin_detail: str
    engine: str
    activities: int


class FeatureDescription(BaseModel):
    name: str
    role: Literal["context", "activity", "derived"]
    type: Literal["number", "integer", "boolean", "category"]
    categories: list[str] | None


class RankDriftDescription(BaseModel):
    """How alike a new model and the one before it rank; null where nothing could be compared."""

    compared: int
    kendall_tau: float | None
    top_overlap: float | None


class SwapDescription(BaseModel):
    """How the model came to serve, when it took the place of another one."""

    replaced: str
    at: datetime
    result: Literal["swapped", "returned"]
    drift: RankDriftDescription


class ModelWithFeatures(ModelDescription):
    """`kept` is the model that can return at once, and `refused` why what is named now does not serve."""

    swap: SwapDescription | None
    kept: str | None
    refused: str | None
    engine_reason: str
    engine_bytes: int
    catalog_reason: str
    catalog_bytes: int
    calibration: dict[str, float]
    features: list[FeatureDescription]


class Models(BaseModel):
    models: list[ModelWithFeatures]


class ExperimentDescription(BaseModel):
    name: str
    assignment: Literal["split", "interleave"]
    treatment_share: float
    fallback_variant: Literal["control", "treatment"]
    forcing_allowed: bool
    running: bool


class Version(BaseModel):
    code_version: str
    build_time: str | None
    started_at: datetime
    models: list[ModelDescription]


class Health(BaseModel):
    status: Literal["ok"]
    beats: int


class Readiness(BaseModel):
    """`missing` says in words why the service is not ready; `notes` what an operator should know all the same."""

    ready: bool
    missing: list[str]
    notes: list[str]


class Application:
    """What `app.protocol` serves: rankings by `rank_route`, scores by other doors, and all else by FastAPI, as ASGI.

    It ends connections, too: `receipts` are requests that are on their way in, `idle` who may be between two.
    """

    def __init__(self, service: Service) -> None:
        interleaves = service.settings.assignment == "interleave"
        self.rank_route = InterleavingRoute(service) if interleaves else RankRoute(service)
        self._invocations = InvocationsRoute(service)
        self._infer = InferRoute(service)
        self._pages = _pages(service)
        self.receipts = Deadlines(service.settings.body_timeout_seconds)
        self.keep_alive_seconds = KEEP_ALIVE_SECONDS
        self.idle = Deadlines(KEEP_ALIVE_SECONDS / LOOKS_IN_KEEP_ALIVE)

    def door(self, path: bytes) -> InvocationsRoute | ModelDoor | None:
        """What takes a request for scores that is posted to this path."""
        is_table = unquote_to_bytes(path) == InvocationsRoute.path.encode()
        return self._invocations if is_table else self._infer.door(path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in POSTED:  # what is posted there never comes here
            await _status_problem(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "POST"})(scope, receive, send)
        else:
            await self._pages(scope, receive, send)


router = APIRouter()


@router.get("/healthz", summary="Whether the event loop beats", tags=["probes"])
async def healthz(service: ServiceDependency) -> Health:
    return Health(status="ok", beats=service.heartbeat.beats)


@router.get(
    "/readyz",
    summary="Whether requests should be sent here",
    tags=["probes"],
    responses={503: {"model": Readiness, "description": "Not ready; `missing` says why."}},
)
async def readyz(service: ServiceDependency, response: Response) -> Readiness:
    missing = service.missing()
    if missing:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return Readiness(ready=not missing, missing=missing, notes=service.notes())


@router.get("/version", summary="Which code and which models answer", tags=["identity"])
async def version(service: ServiceDependency) -> Version:
    return Version(
        code_version=service.code_version,
        build_time=service.settings.build_time,
        started_at=service.started_at,
        models=[ModelDescription(**facts) for facts in service.describe_models()],
    )


@router.get("/v1/models", summary="The models that serve, with their features", tags=["identity"])
async def models(service: ServiceDependency) -> Models:
    return Models(models=[ModelWithFeatures(**facts) for facts in service.describe_models()])


@router.get("/v1/experiment", summary="How visitors are split", tags=["identity"])
async def experiment(service: ServiceDependency) -> ExperimentDescription:
    split = service.experiment
    return ExperimentDescription(
        name=split.name,
        assignment=service.settings.assignment,
        treatment_share=split.treatment_share,
        fallback_variant=service.settings.fallback_variant,
        forcing_allowed=split.forcing_allowed,
        running=split.has_treatment,
    )


@router.get("/v1/drift", summary="How far the traffic is from training", tags=["identity"], response_class=Response)
async def drift(service: ServiceDependency) -> Response:
    return Response(msgspec.json.encode(service.onlooker.drift()), media_type="application/json")


@router.post("/v1/events", include_in_schema=False)
async def events(request: Request, service: ServiceDependency) -> Response:
    _check_json(request)
    receipt = await service.intake.take(await _body(request, service.settings.max_body_bytes))
    return Response(msgspec.json.encode(receipt), HTTPStatus.ACCEPTED, media_type="application/json")


@router.delete("/v1/visitors/{visitor_id}", include_in_schema=False)
async def forget_visitor(visitor_id: str, service: ServiceDependency) -> Response:
    if not is_visitor_id(visitor_id):
        raise invalid_request([Fault("path visitor_id", f"{VISITOR_ID} is allowed")])
    await service.intake.forget(visitor_id)
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    tags=["probes"],
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus text format."}
    },
)
async def metrics(service: ServiceDependency) -> Response:
    ours = service.metrics
    ours.count_observed()  # here, for no other thread may
    # What all workers say is read from their files, for longer than rankings can wait.
    text = await asyncio.to_thread(ours.exposition) if ours.of_several else ours.exposition()
    return Response(text, media_type=CONTENT_TYPE_PLAIN_0_0_4)


def _check_json(request: Request) -> None:
    media, _, parameters = request.headers.get("content-type", "").lower().partition(";")
    if media.strip() != "application/json" or parameters.strip() not in ("", "charset=utf-8", 'charset="utf-8"'):
        raise unsupported_media("the body must be application/json in UTF-8; say so in Content-Type")
    if request.headers.get("content-encoding", "identity") not in ("", "identity"):
        raise unsupported_media("the body must not be compressed; Content-Encoding is not supported")


async def _body(request: Request, limit: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise body_too_large(limit)
    return bytes(body)


start_router = APIRouter(include_in_schema=False)


@start_router.get("/")
async def start_page() -> Response:
    """Where the console would be."""
    return RedirectResponse("docs")


def _pages(service: Service) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        settle()
        tidying = Tidying()
        try:
            yield
        finally:
            tidying.end()
            await service.stop()

    pages = FastAPIOffline(
        title="Frontrow",
        description="Ranks activities for one visitor, now.",
        version=service.code_version,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        favicon_url="data:,",
        generate_unique_id_function=lambda route: route.name,  # what generated clients call their functions
    )
    pages.state.service = service
    pages.include_router(router)
    pages.include_router(inference_router)
    pages.include_router(console_router() if service.settings.console else start_router)
    pages.add_exception_handler(HTTPException, _http_problem)
    pages.add_exception_handler(Problem, _problem)
    pages.add_exception_handler(NoSuchModel, no_such_model)
    pages.add_exception_handler(NotReady, not_ready)
    pages.add_exception_handler(ClientDisconnect, _nobody_waits)
    pages.add_exception_handler(Exception, _defect)

    def openapi() -> dict[str, Any]:
        if pages.openapi_schema is None:
            document = get_openapi(
                title=pages.title, version=pages.version, description=pages.description, routes=pages.routes
            )
            pages.openapi_schema = describe_rank(document, service.shape, service.example())
            describe_events(pages.openapi_schema, service.settings.max_events)
            describe_inference(pages.openapi_schema, service.served["control"].model.bundle)
        return pages.openapi_schema

    pages.openapi = openapi  # type: ignore[method-assign]
    return pages


async def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # registered for nothing else
    if f"{request.scope['path']}/".startswith(f"{PREFIX}/"):
        return inference_problem(HTTPStatus(error.status_code), _detail(HTTPStatus(error.status_code)), error.headers)
    return _status_problem(HTTPStatus(error.status_code), error.headers)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # registered for nothing else
    headers = {name.decode(): value.decode() for name, value in error.headers}
    return _problem_response(error, headers | {"Connection": "close"} if error.closes else headers)


async def _nobody_waits(request: Request, error: Exception) -> Response:
    return Response(status_code=HTTPStatus.BAD_REQUEST)  # the caller left


async def _defect(request: Request, error: Exception) -> Response:
    return _problem_response(defect(), None)


def _status_problem(status: HTTPStatus, headers: Mapping[str, str] | None) -> Response:
    kind = status.phrase.lower().replace(" ", "-")
    return _problem_response(Problem(status, kind, _detail(status)), headers)


def _detail(status: HTTPStatus) -> str:
    details = {
        HTTPStatus.NOT_FOUND: "there is nothing at this path; /docs lists what there is",
        HTTPStatus.METHOD_NOT_ALLOWED: "this path does not answer that method; see the Allow header",
    }
    return details.get(status, status.phrase)


def _problem_response(problem: Problem, headers: Mapping[str, str] | None) -> Response:
    request_id = uuid.uuid4().hex
    return Response(
        problem.document(request_id),
        status_code=problem.status,
        media_type=PROBLEM_JSON.decode(),
        headers={**(headers or {}), "X-Request-Id": request_id},
    )
