"""The console at `/`: a page that shows the service at work. Plain files, nothing from any other host."""

from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from app.service import Service

FOLDER = Path(__file__).parent / "console"
PAGE = "index.html"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
CANDIDATES = 10
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class Example(BaseModel):
    """A ranking to begin with; `known` is what the catalog knows of its candidates, to be shown beside them."""

    request: dict[str, Any]
    known: dict[str, dict[str, Any]]


def console_router() -> APIRouter:
    """The page, what it is made of, and its first example."""
    router = APIRouter(include_in_schema=False)
    files = {path.name: path.read_bytes() for path in FOLDER.iterdir() if path.suffix in KINDS}

    def answer(name: str) -> Response:
        return Response(files[name], media_type=KINDS[Path(name).suffix], headers=HEADERS)

    @router.get("/")
    async def page() -> Response:
        return answer(PAGE)

    @router.get("/console/example")
    async def example(request: Request) -> Example:
        return example_of(request.app.state.service)

    @router.get("/console/{name}")
    async def part(name: str) -> Response:
        if name not in files:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return answer(name)

    return router


def example_of(service: Service) -> Example:
    """The models' own examples, with activities from all over the catalog."""
    examples = {variant: service.example(served) for variant, served in service.served.items()}
    served = service.served["control"]
    catalog = served.catalog
    step = max(1, len(catalog) // CANDIDATES)
    spread = list(islice(catalog.rows, 0, None, step))[:CANDIDATES]
    own = [candidate for candidate in examples["control"]["candidates"] if isinstance(candidate, dict)]
    context = {name: value for example in examples.values() for name, value in example.get("context", {}).items()}
    names = [feature.name for feature in served.model.bundle.features if feature.role == "activity"]
    return Example(
        request={"context": context, "candidates": [*spread, *own]},
        known={activity: {name: catalog.value(activity, name) for name in names} for activity in spread},
    )
