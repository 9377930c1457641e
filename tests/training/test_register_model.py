import hashlib
import json
from pathlib import Path

import lightgbm as lgb
import mlflow.artifacts
import numpy as np
import pyarrow as pa
import pytest
from mlflow import MlflowClient
from mlflow.models import Model
from ranking_tables import write

from registry import code_revision, fetch, load_model
from training.catalog import check_catalog
from training.errors import TableError
from training.register import Registered, aliases, open_store, register
from training.tables import RankingTable
from training.train import Trained

pytestmark = pytest.mark.xdist_group("training_store")  # its first migration takes seconds: once is enough


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = pa.table({"id": ["A1", "A2"], "title": ["One", "Two"], "kind": ["boat", "food"], "price": [12.5, None]})
    return write(tmp_path_factory.mktemp("catalog"), "activities.parquet", table)


@pytest.fixture(scope="module")
def registered(store: MlflowClient, trained: Trained, table: RankingTable, catalog: Path) -> Registered:
    scored = {"ndcg@5": 0.75, "map": 0.5}
    return register(store, trained, table, name="shown", alias="challenger", metrics=scored, catalog=catalog)


@pytest.fixture(scope="module")
def folder(registered: Registered, tracking_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = str(tmp_path_factory.mktemp("download"))
    source = f"runs:/{registered.run_id}/model"
    return Path(mlflow.artifacts.download_artifacts(source, dst_path=target, tracking_uri=tracking_uri))


def test_serving_fetches_verifies_and_loads_what_training_registered(
    registered: Registered, trained: Trained, tracking_uri: str, tmp_path: Path
) -> None:
    got = fetch("models:/shown@challenger", cache=tmp_path, tracking_uri=tracking_uri, timeout_seconds=90)
    model = load_model(got.folder)
    assert model.bundle.version == registered.version
    assert model.bundle.features == trained.features
    assert np.array_equal(model.engine.score(trained.matrix), trained.scores)
    assert model.bundle.profile()["rows"] == len(trained.matrix)
    assert model.bundle.catalog is not None


def test_a_version_says_what_it_is_and_where_it_came_from(
    registered: Registered, store: MlflowClient, table: RankingTable, folder: Path
) -> None:
    tags = store.get_model_version("shown", registered.version).tags
    assert tags.pop("trained_at").endswith("Z")
    assert tags == {
        "sha256": hashlib.sha256((folder / "model.lgb").read_bytes()).hexdigest(),
        "code_revision": code_revision(None),
        "data_digest": table.digest,
        "objective": "lambdarank",
        "ndcg_at_5": "0.7500",
        "map": "0.5000",
    }


def test_the_run_holds_parameters_and_metrics(registered: Registered, store: MlflowClient) -> None:
    run = store.get_run(registered.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"ndcg_at_5": 0.75, "map": 0.5}
    assert run.data.params["leaves"] == "7"
    assert run.data.params["trees"] == "20"


def test_the_logged_booster_remembers_its_categories(folder: Path, trained: Trained) -> None:
    booster = lgb.Booster(model_file=folder / "model.lgb")
    assert booster.pandas_categorical == [["desktop", "mobile"], ["boat", "food", "museum"]]
    assert np.array_equal(booster.predict(trained.matrix), trained.scores)


def test_the_signature_names_types_as_callers_send_them(folder: Path) -> None:
    inputs = Model.load(str(folder)).signature.inputs.to_dict()
    assert [(column["name"], column["type"], column["required"]) for column in inputs] == [
        ("device", "string", True),
        ("days", "long", True),
        ("kind", "string", False),
        ("price", "double", False),
        ("reviews", "long", True),
        ("refund", "boolean", True),
    ]


def test_the_example_is_some_rows_of_one_query(folder: Path) -> None:
    example = json.loads((folder / "input_example.json").read_text())
    assert example["columns"] == ["device", "days", "kind", "price", "reviews", "refund"]
    assert len(example["data"]) == 5
    assert len({tuple(row[:2]) for row in example["data"]}) == 1


def test_the_golden_rows_are_there_with_their_scores(folder: Path, trained: Trained) -> None:
    golden = json.loads((folder / "frontrow" / "golden.json").read_text())
    rows = np.array(golden["rows"], dtype=np.float64)
    assert np.array_equal(trained.booster.predict(rows), golden["scores"])


def test_the_next_version_takes_the_alias(
    registered: Registered, store: MlflowClient, trained: Trained, table: RankingTable
) -> None:
    first, second = (register(store, trained, table, name="twice", alias="champion", metrics={}) for _ in range(2))
    assert (first.version, second.version) == ("1", "2")
    assert second.uri == "models:/twice/2"
    assert aliases(store, "twice") == {"champion": "2"}
    assert aliases(store, "shown") == {"challenger": registered.version}
    assert aliases(store, "nobody") == {}


def test_artifacts_lie_beside_a_local_store(tracking_uri: str, registered: Registered, store: MlflowClient) -> None:
    beside = Path(tracking_uri.removeprefix("sqlite:///")).parent / "artifacts"
    assert store.get_run(registered.run_id).info.artifact_uri.startswith(str(beside))


def test_a_failed_upload_leaves_a_failed_run_and_no_version(
    store: MlflowClient, trained: Trained, table: RankingTable, tmp_path: Path
) -> None:
    gone = tmp_path / "gone.parquet"
    with pytest.raises(FileNotFoundError):
        register(store, trained, table, name="failing", alias="champion", metrics={}, catalog=gone)
    experiment = store.get_experiment_by_name("failing")
    assert [run.info.status for run in store.search_runs([experiment.experiment_id])] == ["FAILED"]
    assert aliases(store, "failing") == {}


def test_the_store_is_the_one_given_or_the_environment_s(
    store: MlflowClient, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    assert open_store().tracking_uri == store.tracking_uri == tracking_uri


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"name": ["A1"], "price": [1.0]}, "there must be a column 'id' of texts"),
        ({"id": [1], "price": [1.0]}, "there must be a column 'id' of texts"),
        ({"id": ["A1", "A1"], "price": [1.0, 2.0]}, "column 'id' has 1 different texts in 2 rows"),
        ({"id": ["A1"], "weather": ["good"]}, "none of the model's activity features is a column"),
        ({"id": ["A1"], "price": ["much"]}, "column 'price' holds string and the model wants a number"),
        ({"id": ["A1"], "kind": [3]}, "column 'kind' holds int64 and the model wants a category"),
    ],
)
def test_a_catalog_that_does_not_fit_the_model_is_refused(
    trained: Trained, tmp_path: Path, columns: dict[str, list[object]], expected: str
) -> None:
    with pytest.raises(TableError, match=expected):
        check_catalog(write(tmp_path, "catalog.parquet", pa.table(columns)), trained.features)


def test_a_catalog_with_titles_is_fine(trained: Trained, catalog: Path) -> None:
    check_catalog(catalog, trained.features)
