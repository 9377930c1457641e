"""A real MLflow database: what is logged in it becomes a bundle, or a refusal."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightgbm
import mlflow
import mlflow.lightgbm
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.models import infer_signature
from registry_models import EXAMPLE, EXPERIMENT, FEATURES, ROWS, TRAINED_AT, frame, log, register, tags_of

from registry import Bundle, BundleError, ModelNotFound, load_model, read_bundle
from registry.bundle import MAX_FILE_BYTES
from registry.cache import BundleCache
from registry.fetch import Answer
from registry.mlflow_source import candidate, fetch_model, list_versions, set_alias

Fetch = Callable[[str], tuple[Answer, Bundle]]


@pytest.fixture
def asked(tmp_path: Path) -> list[str]:
    """The states that were reported, in their order."""
    return []


@pytest.fixture
def fetch_here(client: MlflowClient, tmp_path: Path, asked: list[str]) -> Fetch:
    """What the child process does, in this process."""
    cache = BundleCache(tmp_path / "bundles")

    def fetch_here(uri: str) -> tuple[Answer, Bundle]:
        with cache.workspace() as workspace:
            answer = fetch_model(uri, cache, workspace, lambda answer: asked.append(answer.state))
        return answer, read_bundle(Path(answer.folder))

    return fetch_here


def test_a_model_of_our_training_becomes_the_bundle_that_training_described(
    client: MlflowClient, files: dict[str, bytes], fetch_here: Fetch, text: bytes, asked: list[str]
) -> None:
    version = register(client, "ours", files, tags_of(files))
    client.set_registered_model_alias("ours", "champion", version)
    answer, bundle = fetch_here("models:/ours@champion")
    assert answer.text.startswith("ours/1 of MLflow at sqlite:///")
    assert (bundle.name, bundle.version, bundle.source) == ("ours", "1", "models:/ours/1")
    assert (bundle.trained_at, bundle.code_revision) == (TRAINED_AT, "abc123")
    assert bundle.run_id == client.get_model_version("ours", version).run_id
    assert (bundle.features, bundle.example) == (FEATURES, EXAMPLE)
    assert bundle.read("model.lgb") == files["model.lgb"]
    assert bundle.profile() == {"rows": 300}
    assert bundle.read("catalog.parquet") == b"PAR1"
    assert np.array_equal(bundle.golden().rows, ROWS[:3], equal_nan=True)
    assert asked == ["asking", "downloading", "verifying", "verifying"]


def test_what_is_in_the_cache_is_not_downloaded_again(
    client: MlflowClient, files: dict[str, bytes], fetch_here: Fetch, asked: list[str]
) -> None:
    register(client, "cached", files, tags_of(files))
    _, first = fetch_here("models:/cached/1")
    written = (first.folder / "bundle.json").stat()
    asked.clear()
    answer, second = fetch_here("models:/cached/latest")
    assert asked == ["asking", "verifying"]
    assert answer.text.endswith("in the cache already")
    assert (second.folder / "bundle.json").stat() == written


def test_a_damaged_bundle_in_the_cache_is_downloaded_again(
    client: MlflowClient, files: dict[str, bytes], fetch_here: Fetch, asked: list[str]
) -> None:
    register(client, "damaged", files, tags_of(files))
    _, bundle = fetch_here("models:/damaged/1")
    (bundle.folder / "model.lgb").write_bytes(b"tree\n")
    asked.clear()
    _, again = fetch_here("models:/damaged/1")
    assert asked == ["asking", "downloading", "verifying", "verifying"]
    assert again.read("model.lgb") == files["model.lgb"]
    assert again.folder == bundle.folder


def test_the_same_version_number_of_another_registry_is_another_model(
    client: MlflowClient, files: dict[str, bytes], fetch_here: Fetch
) -> None:
    register(client, "reborn", files, {})
    _, before = fetch_here("models:/reborn/1")
    client.delete_registered_model("reborn")
    register(client, "reborn", files, {})
    _, after = fetch_here("models:/reborn/1")
    assert after.run_id != before.run_id


def test_a_model_of_somebody_else_is_served_with_what_mlflow_knows_of_it(
    client: MlflowClient, fetch_here: Fetch, booster: lightgbm.Booster
) -> None:
    table = frame()
    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run() as run:
        mlflow.lightgbm.log_model(
            booster,
            name="model",
            signature=infer_signature(table, booster.predict(table)),
            input_example=table.head(3).astype({"device": str, "kind": str}),
            registered_model_name="foreign",
            pip_requirements=["lightgbm"],
        )
    _, bundle = fetch_here("models:/foreign/1")
    assert [(one.name, one.type, one.categories) for one in bundle.features] == [
        (one.name, one.type, one.categories) for one in FEATURES
    ]
    assert (bundle.run_id, bundle.code_revision, bundle.profile()) == (run.info.run_id, None, None)
    model = load_model(bundle.folder)
    rows = np.column_stack([table[one.name].cat.codes if one.categories else table[one.name] for one in FEATURES])
    scores = model.engine.score(np.ascontiguousarray(rows, dtype=np.float64))
    assert scores.tolist() == booster.predict(table).tolist()
    assert [row["kind"] for row in bundle.example] == table["kind"].head(3).tolist()
    assert len(bundle.golden().rows) == 3 + 33


def test_a_model_of_a_run_needs_no_registration(
    client: MlflowClient, files: dict[str, bytes], fetch_here: Fetch
) -> None:
    run_id = log(client, files)
    _, bundle = fetch_here(f"runs:/{run_id}/model")
    assert (bundle.name, bundle.version, bundle.run_id) == ("model", run_id, run_id)
    assert fetch_here(f"runs:/{run_id}/model")[0].text.endswith("in the cache already")


@pytest.mark.parametrize(
    "uri", ["models:/nobody/1", "models:/nobody@champion", "models:/nobody/latest", "runs:/0123456789abcdef/model"]
)
def test_what_mlflow_does_not_know_is_not_found(fetch_here: Fetch, uri: str) -> None:
    with pytest.raises(ModelNotFound, match=r"^MLflow at sqlite:///\S+ has no "):
        fetch_here(uri)


def without(*names: str) -> Callable[[Mapping[str, bytes]], dict[str, bytes]]:
    return lambda files: {name: content for name, content in files.items() if name not in names}


def with_file(name: str, content: bytes) -> Callable[[Mapping[str, bytes]], dict[str, bytes]]:
    return lambda files: {**files, name: content}


def features_with(**changes: Any) -> Callable[[Mapping[str, bytes]], dict[str, bytes]]:
    def change(files: Mapping[str, bytes]) -> dict[str, bytes]:
        features = json.loads(files["frontrow/features.json"])
        return {**files, "frontrow/features.json": json.dumps([features[0] | changes, *features[1:]]).encode()}

    return change


PICKLED = b"flavors:\n  python_function: {loader_module: mlflow.sklearn}\n  sklearn: {pickled_model: model.pkl}\n"
WRAPPED = b"flavors:\n  lightgbm: {data: model.pkl, model_class: lightgbm.sklearn.LGBMRanker}\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("model.lgb"), r"/\d+: there is no LightGBM booster saved as text \(model\.lgb\) but lightgbm"),
        (without("MLmodel"), "but no MLflow model"),
        (with_file("MLmodel", PICKLED), "but python_function, sklearn"),
        (with_file("MLmodel", WRAPPED), r"but lightgbm\.sklearn\.LGBMRanker; .* its booster_"),
        (with_file("MLmodel", b"- a\n- list\n"), "MLmodel: Expected `object`, got `array`"),
        (with_file("MLmodel", b"flavors: [lightgbm"), "MLmodel: while parsing"),
        (
            with_file("MLmodel", b"flavors: !!python/object/apply:os.system ['true']"),
            "MLmodel: could not determine a constructor",
        ),
        (with_file("model.lgb", b"tree\nversion=v4\n"), r"models:/refused/\d+: model\.lgb: "),
        (with_file("frontrow/features.json", b"[]"), "5 features and the feature list 0"),
        (with_file("frontrow/features.json", b"["), r"features\.json: Input data was truncated"),
        (with_file("frontrow/golden.json", b'{"rows": [[1]]}'), "row 0 has 1 values and the model 5 features"),
        (features_with(name="day"), "feature 0 is 'days_to_trip' in the model and 'day' in the feature list"),
    ],
)
def test_a_model_that_cannot_be_trusted_is_refused_and_leaves_nothing(
    client: MlflowClient,
    files: dict[str, bytes],
    fetch_here: Fetch,
    tmp_path: Path,
    *,
    change: Callable[[Mapping[str, bytes]], dict[str, bytes]],
    message: str,
) -> None:
    version = register(client, "refused", change(files), {})
    with pytest.raises(BundleError, match=message):
        fetch_here(f"models:/refused/{version}")
    assert not list(tmp_path.rglob("bundle.json"))


def test_a_download_without_the_tagged_digest_is_refused(
    client: MlflowClient, files: dict[str, bytes], fetch_here: Fetch
) -> None:
    register(client, "swapped", files, tags_of(files) | {"sha256": "0" * 64})
    with pytest.raises(
        BundleError, match=r"models:/swapped/1: sha256 of model\.lgb is \w{64} and its tag .* says 0{64}"
    ):
        fetch_here("models:/swapped/1")


def test_a_file_that_is_too_large_is_not_even_downloaded(
    client: MlflowClient, files: dict[str, bytes], fetch_here: Fetch, asked: list[str]
) -> None:
    register(client, "large", files, {})
    source = client.get_run(client.get_model_version("large", "1").run_id).info.artifact_uri
    with (Path(source) / "model" / "model.lgb").open("r+b") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(
        BundleError, match=r"model\.lgb of models:/large/1 has 268435457 bytes and 268435456 are allowed"
    ):
        fetch_here("models:/large/1")
    assert asked == ["asking", "downloading"]


def test_versions_are_listed_newest_first_with_their_aliases(client: MlflowClient, files: dict[str, bytes]) -> None:
    register(client, "listed", files, tags_of(files))
    register(client, "listed", files, {})
    client.set_registered_model_alias("listed", "champion", "1")
    client.set_registered_model_alias("listed", "stable", "1")
    found = [one for one in list_versions() if one.name == "listed"]
    assert [(one.version, one.aliases) for one in found] == [("2", ()), ("1", ("champion", "stable"))]
    assert found[1].trained_at == TRAINED_AT


def test_a_candidate_is_its_tags_and_whom_it_would_follow(client: MlflowClient, files: dict[str, bytes]) -> None:
    register(client, "promoted", files, {"tag": "first"})
    register(client, "promoted", files, {"tag": "second"})
    assert candidate("promoted", "1", "champion") == ({"tag": "first"}, None)
    set_alias("promoted", "1", "champion")
    assert candidate("promoted", "2", "champion") == ({"tag": "second"}, "1")
    set_alias("promoted", "2", "champion")
    assert str(client.get_model_version_by_alias("promoted", "champion").version) == "2"


def test_a_version_that_is_not_there_is_no_candidate(client: MlflowClient, files: dict[str, bytes]) -> None:
    register(client, "kept", files, {})
    with pytest.raises(ModelNotFound, match="has no models:/kept/9"):
        candidate("kept", "9", "champion")
