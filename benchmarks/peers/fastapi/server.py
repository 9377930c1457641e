"""Run by `uvicorn server:app`."""

# mypy: ignore-errors
# It runs in an environment of its own, whose packages are not those that this house is checked with.

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel
from reference_model import ReferenceModel

app = FastAPI()
model = ReferenceModel()


class Rows(BaseModel):
    rows: list[list[float | None]]


class Known(BaseModel):
    context: list[float | None]
    ids: list[str]


class Scores(BaseModel):
    scores: list[float]


@app.get("/healthz")
def healthz() -> str:
    return "ok"


@app.post("/inline")
def inline(request: Rows) -> Scores:
    return Scores(scores=model.score(np.array(request.rows, dtype=np.float64)).tolist())


@app.post("/catalog")
def catalog(request: Known) -> Scores:
    return Scores(scores=model.score(model.known(request.context, request.ids)).tolist())
