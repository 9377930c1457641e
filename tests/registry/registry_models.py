"""A small marketplace model, its bundle, and the two ways in which a model gets into MLflow."""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightgbm
import mlflow
import mlflow.lightgbm
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.models import Model, infer_signature

from registry import Bundle, Feature, write_bundle

DEVICES = ("desktop", "mobile", "tablet")
KINDS = ("boat_tour", "museum", "walk")
FEATURES = (
    Feature("days_to_trip", "context", "integer"),
    Feature("device", "context", "category", DEVICES),
    Feature("price", "activity", "number"),
    Feature("kind", "activity", "category", KINDS),
    Feature("instant", "activity", "boolean"),
)
EXAMPLE = (
    {"days_to_trip": 12, "device": "mobile", "price": 39.0, "kind": "museum", "instant": True},
    {"days_to_trip": 12, "device": "mobile", "kind": "walk", "instant": False},
)
ROWS = np.array(
    [
        [12.0, 1.0, 39.0, 1.0, 1.0],
        [12.0, 1.0, np.nan, 2.0, 0.0],
        [0.0, np.nan, -0.0, 0.0, np.nan],
        [3.0, 2.0, np.inf, np.nan, 0.0],
        [3.0, 0.0, -np.inf, 1.0, 1.0],
    ]
)
TRAINED_AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
EXPERIMENT = "tests"
QUERIES, ROWS_OF_QUERY = 30, 10


def frame() -> pd.DataFrame:
    """Training rows as a data scientist has them: integers, booleans, and categories as pandas keeps them."""
    random = np.random.default_rng(0)
    rows = QUERIES * ROWS_OF_QUERY
    return pd.DataFrame(
        {
            "days_to_trip": np.repeat(random.integers(0, 60, QUERIES), ROWS_OF_QUERY),
            "device": pd.Categorical(np.repeat(random.choice(DEVICES, QUERIES), ROWS_OF_QUERY)),
            "price": random.uniform(5, 90, rows),
            "kind": pd.Categorical(random.choice(KINDS, rows)),
            "instant": random.random(rows) < 0.5,
        }
    )


def train(table: pd.DataFrame, trees: int = 4) -> lightgbm.Booster:
    random = np.random.default_rng(1)
    labels = random.integers(0, 3, len(table))
    dataset = lightgbm.Dataset(table, labels, group=[ROWS_OF_QUERY] * (len(table) // ROWS_OF_QUERY))
    parameters = {
        "objective": "lambdarank",
        "num_leaves": 7,
        "min_data_in_leaf": 5,
        "min_data_per_group": 5,
        "verbosity": -1,
        "num_threads": 1,
        "seed": 1,
    }
    return lightgbm.train(parameters, dataset, trees)


def write(folder: Path, text: bytes, **changes: Any) -> Bundle:
    """A bundle of the marketplace model."""
    facts = {
        "model_text": text,
        "features": FEATURES,
        "golden_rows": ROWS,
        "example": EXAMPLE,
        "name": "activity-ranker",
        "version": "7",
        "source": "models:/activity-ranker/7",
        "trained_at": TRAINED_AT,
        "run_id": "0123456789abcdef",
        "code_revision": "abc123",
        "profile": b'{"rows":300}',
    }
    return write_bundle(folder, **facts | changes)


def describe(folder: Path, **changes: Any) -> None:
    """Change what `bundle.json` says; `...` takes the field away."""
    place = folder / "bundle.json"
    said = json.loads(place.read_bytes()) | changes
    place.write_text(json.dumps({name: value for name, value in said.items() if value is not ...}))


def put(folder: Path, name: str, content: bytes) -> None:
    """Replace a file together with its digest, as somebody would who wants the change to pass."""
    (folder / name).write_bytes(content)
    said = json.loads((folder / "bundle.json").read_bytes())
    describe(folder, files=said["files"] | {name: hashlib.sha256(content).hexdigest()})


# ---- MLflow


def our_files(folder: Path, booster: lightgbm.Booster) -> dict[str, bytes]:
    """What `frontrow train` logs: MLflow's own files and a subfolder of ours."""
    example = pd.DataFrame(list(EXAMPLE))
    mlflow.lightgbm.save_model(
        booster,
        folder,
        mlflow_model=Model(artifact_path="model"),
        signature=infer_signature(example.dropna(), np.zeros(1)),
        input_example=example,
        pip_requirements=["lightgbm"],
    )
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    golden = {
        "rows": [[None if np.isnan(value) else value for value in row] for row in ROWS[:3].tolist()],
        "scores": [],
    }
    return files | {
        "frontrow/features.json": json.dumps([asdict(feature) for feature in FEATURES]).encode(),
        "frontrow/golden.json": json.dumps(golden).encode(),
        "frontrow/profile.json": b'{"rows": 300}',
        "frontrow/catalog.parquet": b"PAR1",
    }


def tags_of(files: Mapping[str, bytes]) -> dict[str, str]:
    return {
        "sha256": hashlib.sha256(files["model.lgb"]).hexdigest(),
        "code_revision": "abc123",
        "trained_at": "2026-11-23T12:00:00Z",
        "ndcg_at_5": "0.7123",
        "ndcg_at_10": "0.7331",
    }


def register(client: MlflowClient, name: str, files: Mapping[str, bytes], tags: Mapping[str, str]) -> str:
    """Log the files as the model of a run and register it; returns the version."""
    run_id = log(client, files)
    if not client.search_registered_models(f"name='{name}'"):
        client.create_registered_model(name)
    return str(client.create_model_version(name, f"runs:/{run_id}/model", run_id, tags=dict(tags)).version)


def log(client: MlflowClient, files: Mapping[str, bytes]) -> str:
    """Log the files under `model` in a new run; returns the run id."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    run_id = str(client.create_run(experiment.experiment_id).info.run_id)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder) / "model" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        client.log_artifacts(run_id, folder)
    client.set_terminated(run_id)
    return run_id
