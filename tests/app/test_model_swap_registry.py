"""An alias moves in MLflow, and the service that looks follows it."""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path

import mlflow.lightgbm
import pytest
from app_models import booster
from changing_models import rank, samples, scores, scores_of
from mlflow import MlflowClient
from mlflow.models import Model
from mlflow_noise import FROM_MLFLOW
from served import running

from app.settings import Settings
from registry import read_bundle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), *map(pytest.mark.filterwarnings, FROM_MLFLOW)]

NAME = "activity-ranker"


def register(client: MlflowClient, bundle: Path, folder: Path, **tags: str) -> str:
    """Log a bundle's model and register it; returns the version."""
    described = read_bundle(bundle)
    mlflow.lightgbm.save_model(
        booster(bundle), folder, mlflow_model=Model(artifact_path="model"), pip_requirements=["lightgbm"]
    )
    (folder / "frontrow").mkdir()
    (folder / "frontrow" / "features.json").write_text(json.dumps([asdict(one) for one in described.features]))
    for name in ("golden.json", "catalog.parquet"):
        (folder / "frontrow" / name).write_bytes(described.read(name))
    run = client.create_run("0").info.run_id
    client.log_artifacts(run, str(folder), "model")
    text = (folder / "model.lgb").read_bytes()
    tags = {"sha256": hashlib.sha256(text).hexdigest()} | tags
    return str(client.create_model_version(NAME, f"runs:/{run}/model", run, tags=tags).version)


async def test_an_alias_that_moves_is_followed_and_one_that_leads_nowhere_is_not(
    settings: Settings, bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where MLflow puts what is logged
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(uri, registry_uri=uri)
    client.create_registered_model(NAME)
    for name in ("control", "treatment"):
        register(client, bundles / name, tmp_path / name)
    bad = register(client, bundles / "treatment", tmp_path / "bad", sha256="0" * 64)
    client.set_registered_model_alias(NAME, "champion", "1")
    asked = {
        "control_model": f"models:/{NAME}@champion",
        "treatment_model": "",
        "tracking_uri": uri,
        "bundle_cache": tmp_path / "cache",
        "registry_timeout_seconds": 120,
        "model_poll_seconds": 0.05,
    }
    async with running(settings.model_copy(update=asked)) as (service, http), asyncio.timeout(240):

        async def until(what: Callable[[], Awaitable[bool]]) -> None:
            while not await what():
                pass

        async def serves(version: str) -> bool:
            return (await rank(http))["model"]["version"] == version

        async def refuses(reason: str) -> bool:
            await rank(http)
            return any(reason in note for note in service.notes())

        client.set_registered_model_alias(NAME, "champion", "2")
        await until(lambda: serves("2"))
        assert scores(await rank(http)) == scores_of(bundles / "treatment")
        client.set_registered_model_alias(NAME, "champion", bad)
        await until(lambda: refuses("sha256"))
        client.set_registered_model_alias(NAME, "champion", "1")
        await until(lambda: serves("1"))
        client.delete_registered_model_alias(NAME, "champion")
        await until(lambda: refuses(f"has no models:/{NAME}@champion"))
        assert await serves("1")
        assert scores(await rank(http)) == scores_of(bundles / "control")
        assert samples(service, "frontrow_model_swaps_total") == {
            '{result="swapped",variant="control"}': 1,
            '{result="returned",variant="control"}': 1,
            '{result="refused",variant="control"}': 2,
            '{result="unreachable",variant="control"}': 0,
        }
        assert set(samples(service, "frontrow_model_last_known_good").values()) == {0}
