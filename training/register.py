"""From a trained model to a registered model version, with what serving needs to verify it."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow.lightgbm
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from numpy.typing import NDArray

from registry import Feature, Golden, code_revision
from registry.fetch import default_tracking_uri, without_credentials
from registry.golden import encode_golden
from registry.signature import check_features
from scoring import ReferenceEngine, parse_model_text
from training.errors import StoreError
from training.features import readable
from training.golden import GoldenRows, choose_golden
from training.profile import profile
from training.tables import RankingTable
from training.train import Trained

EXAMPLE_ROWS = 5


@dataclass(frozen=True)
class Registered:
    """A registered model version, `uri` as MLflow writes it, and the golden rows that were chosen for it."""

    name: str
    version: str
    run_id: str
    alias: str
    golden: GoldenRows

    @property
    def uri(self) -> str:
        return f"models:/{self.name}/{self.version}"


def open_store(tracking_uri: str | None = None) -> MlflowClient:
    """Open the tracking server and registry: the one given, else `MLFLOW_TRACKING_URI`, else a local file.

    A sqlite file and its folder are made when missing (a first migration takes seconds). Raises `StoreError`.
    """
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # MLflow's own 7 keep one waiting for minutes
    uri = tracking_uri or default_tracking_uri()
    if folder := _sqlite_folder(uri):
        folder.mkdir(parents=True, exist_ok=True)
    with _named_refusals():
        client = MlflowClient(uri, registry_uri=uri)
        client.search_registered_models(max_results=1)  # finds out now, not after an hour of training
    return client


def register(
    client: MlflowClient,
    trained: Trained,
    table: RankingTable,
    *,
    name: str,
    alias: str,
    metrics: Mapping[str, float],
    catalog: Path | None = None,
    tags: Mapping[str, str] | None = None,
) -> Registered:
    """Log the model with everything that belongs to it, register it as a version of `name` and set the alias.

    `metrics` come from queries that the model did not learn from; `tags` go on the version. The alias stays where it
    was when serving would refuse the model (`scoring.ModelTextError`) or the store refuses (`StoreError`).
    """
    values = {_metric_name(key): value for key, value in metrics.items()}
    golden = choose_golden(trained.booster, trained.matrix)
    with _named_refusals(), _run(client, name) as run_id, tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        _save_flavour(model, trained, table, run_id)
        _add_ours(model, trained, golden.rows, catalog)
        client.log_artifacts(run_id, folder)
        client.log_batch(
            run_id,
            metrics=[Metric(key, value, 0, 0) for key, value in values.items()],
            params=[Param(key, str(value)) for key, value in _parameters(trained, table).items()],
        )
        all_tags = _version_tags(model / "model.lgb", table, values) | dict(tags or {})
        version_number = _create_version(client, name, run_id, all_tags)
        client.set_registered_model_alias(name, alias, version_number)
    return Registered(name, version_number, run_id, alias, golden)


def aliases(client: MlflowClient, name: str) -> dict[str, str]:
    """Look up alias -> version of a registered model; empty when there is no such model. Raises `StoreError`."""
    with _named_refusals():
        try:
            found = client.get_registered_model(name).aliases
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return {}
    return {alias: str(number) for alias, number in found.items()}


# ---- what is logged


def _save_flavour(folder: Path, trained: Trained, table: RankingTable, run_id: str) -> None:
    mlflow.lightgbm.save_model(
        trained.booster,
        folder,
        mlflow_model=Model(artifact_path="model", run_id=run_id),
        signature=_signature(trained.features, trained.matrix),
        input_example=_example(trained, table),
        pip_requirements=[f"{package}=={version(package)}" for package in ("lightgbm", "numpy", "pandas")],
    )


def _add_ours(folder: Path, trained: Trained, golden: NDArray[np.float64], catalog: Path | None) -> None:
    text = parse_model_text((folder / "model.lgb").read_bytes())
    check_features(trained.features, text)
    ours = folder / "frontrow"
    ours.mkdir()
    _write(ours / "features.json", [asdict(feature) for feature in trained.features])
    (ours / "golden.json").write_bytes(encode_golden(Golden(golden, ReferenceEngine(text).score(golden))))
    _write(ours / "profile.json", profile(trained.features, trained.matrix, trained.scores))
    if catalog is not None:
        shutil.copyfile(catalog, ours / "catalog.parquet")


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, allow_nan=False) + "\n")


def _signature(features: Sequence[Feature], matrix: NDArray[np.float64]) -> ModelSignature:
    columns = []
    for feature, column in zip(features, matrix.T, strict=True):
        missing = bool(np.isnan(column).any())
        columns.append(ColSpec(_data_type(feature, missing), feature.name, required=not missing))
    return ModelSignature(inputs=Schema(columns), outputs=Schema([ColSpec(DataType.double)]))


def _data_type(feature: Feature, missing: bool) -> DataType:
    if feature.type == "category":
        return DataType.string
    exact = {"integer": DataType.long, "boolean": DataType.boolean}
    return DataType.double if missing else exact.get(feature.type, DataType.double)


def _example(trained: Trained, table: RankingTable) -> pd.DataFrame:
    """Write out some rows of the first query in which somebody preferred something, as a caller would."""
    best = np.maximum.reduceat(table.labels, table.starts)
    query = int((best > 0).argmax())
    rows = table.rows_of(np.array([query]))[:EXAMPLE_ROWS]
    names = [feature.name for feature in trained.features]
    return pd.DataFrame(readable(trained.matrix[rows], trained.features), columns=names)


def _parameters(trained: Trained, table: RankingTable) -> dict[str, Any]:
    return {
        **asdict(trained.recipe),
        "trees": trained.booster.num_trees(),
        "table": table.path.name,
        "table_rows": table.rows,
        "table_queries": table.queries,
        "features": len(trained.features),
    }


def _version_tags(model: Path, table: RankingTable, metrics: Mapping[str, float]) -> dict[str, str]:
    return {
        "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "code_revision": code_revision(os.environ.get("FRONTROW_CODE_VERSION")),
        "data_digest": table.digest,
        "trained_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "objective": "lambdarank",
        **{key: f"{value:.4f}" for key, value in metrics.items()},
    }


def _metric_name(name: str) -> str:
    """`ndcg@5` -> `ndcg_at_5`, as MLflow itself calls it: an @ is not allowed in its names."""
    return name.replace("@", "_at_")


# ---- where it is logged


def _sqlite_folder(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")).parent if uri.startswith("sqlite:///") else None


def _experiment(client: MlflowClient, name: str) -> str:
    """Find or make the experiment of this model; beside a sqlite file its artifacts go to a folder next to it."""
    if found := client.get_experiment_by_name(name):
        return str(found.experiment_id)
    folder = _sqlite_folder(client.tracking_uri)
    return str(client.create_experiment(name, artifact_location=str(folder / "artifacts") if folder else None))


@contextmanager
def _named_refusals() -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        raise StoreError("MLflow: " + " ".join(without_credentials(str(error)).split())) from error


@contextmanager
def _run(client: MlflowClient, name: str) -> Iterator[str]:
    run_id = str(client.create_run(_experiment(client, name)).info.run_id)
    try:
        yield run_id
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id)


def _create_version(client: MlflowClient, name: str, run_id: str, tags: Mapping[str, str]) -> str:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return str(client.create_model_version(name, f"runs:/{run_id}/model", run_id, tags=dict(tags)).version)
