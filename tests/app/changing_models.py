"""Models that change while a service ranks, and what a caller sees of that."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import lightgbm
import numpy as np
import pyarrow.parquet

from app.service import Service
from registry import load_model, write_bundle

CANDIDATES = [*(f"A{n}" for n in range(50)), "stranger"]
BODY = {"context": {"device": "mobile", "days_to_trip": 12}, "candidates": CANDIDATES}


def lead(link: Path, folder: Path) -> None:
    """Let the link lead to another folder, at once."""
    unfinished = link.with_name(f".{link.name}")
    unfinished.symlink_to(folder)
    unfinished.replace(link)


def version(bundle: Path, folder: Path, number: str, **changes: Any) -> Path:
    """A bundle like another one, of another version; `changes` are those of `write_bundle`."""
    model = load_model(bundle, "reference").bundle
    facts = {
        "model_text": model.read("model.lgb"),
        "features": model.features,
        "golden_rows": model.golden().rows,
        "example": model.example,
        "name": model.name,
        "version": number,
        "source": f"models:/{model.name}/{number}",
        "trained_at": model.trained_at,
        "run_id": f"run-{number}",
        "catalog": (bundle / "catalog.parquet").read_bytes(),
    }
    write_bundle(folder, **facts | changes)
    return folder


def describe(folder: Path, **changes: Any) -> None:
    """Change what `bundle.json` says."""
    place = folder / "bundle.json"
    place.write_text(json.dumps(json.loads(place.read_bytes()) | changes))


def put(folder: Path, name: str, content: bytes) -> None:
    """Replace a file together with its digest, as somebody would who wants the change to pass."""
    (folder / name).write_bytes(content)
    said = json.loads((folder / "bundle.json").read_bytes())
    describe(folder, files=said["files"] | {name: hashlib.sha256(content).hexdigest()})


def copy(bundle: Path, folder: Path) -> Path:
    """A bundle of the same model that says that it is version 9."""
    shutil.copytree(bundle, folder)
    describe(folder, version="9")
    return folder


def scores_of(bundle: Path) -> dict[str, float]:
    """What LightGBM itself gives the candidates of `BODY`."""
    model = load_model(bundle, "reference").bundle
    return dict(zip(CANDIDATES, _predict(bundle, model.features), strict=True))


def _predict(bundle: Path, features: Any) -> list[float]:
    known = {row["id"]: row for row in pyarrow.parquet.read_table(bundle / "catalog.parquet").to_pylist()}
    values = [{**known.get(one, {}), **BODY["context"]} for one in CANDIDATES]  # type: ignore[dict-item]
    rows = np.array([[feature.encode(row.get(feature.name)) for feature in features] for row in values])
    booster = lightgbm.Booster(model_file=str(bundle / "model.lgb"))
    scores: list[float] = booster.predict(rows, num_threads=1).tolist()
    return scores


async def rank(client: httpx.AsyncClient, variant: str = "control", **changes: Any) -> dict[str, Any]:
    response = await client.post("/v1/rank", json={**BODY, **changes}, headers={"X-Variant": variant})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    model = answer["model"]
    assert response.headers["X-Model-Version"] == f"{model['name']}/{model['version']}"
    return answer


def scores(answer: Mapping[str, Any]) -> dict[str, float]:
    return {one["id"]: one["score"] for one in answer["ranking"]}


def samples(service: Service, name: str) -> dict[str, float]:
    """The series of a metric, by their labels as they are written."""
    lines = service.metrics.exposition().decode().splitlines()
    found = [line.rsplit(" ", 1) for line in lines if line.startswith(f"{name}{{")]
    return {labels.removeprefix(name): float(value) for labels, value in found}
