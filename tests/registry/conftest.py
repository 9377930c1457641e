from collections.abc import Iterator
from pathlib import Path

import lightgbm
import mlflow
import pytest
import registry_models
from mlflow import MlflowClient
from mlflow_noise import silence

# Advice about integer columns in the signatures that tests log.
HINT = "ignore:Hint. Inferred schema contains integer column"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    silence(items, Path(__file__).parent, HINT)


@pytest.fixture(scope="session")
def booster() -> lightgbm.Booster:
    return registry_models.train(registry_models.frame())


@pytest.fixture(scope="session")
def text(booster: lightgbm.Booster) -> bytes:
    return booster.model_to_string().encode()


@pytest.fixture
def folder(tmp_path: Path, text: bytes) -> Path:
    """A good bundle."""
    return registry_models.write(tmp_path / "bundle", text).folder


@pytest.fixture(scope="session")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture(scope="session")
def database(tracking_uri: str) -> MlflowClient:
    """One database for all tests: its first migration takes seconds. Tests use model names of their own."""
    client = MlflowClient(tracking_uri, registry_uri=tracking_uri)
    folder = Path(tracking_uri.removeprefix("sqlite:///")).parent
    client.create_experiment(registry_models.EXPERIMENT, artifact_location=str(folder / "artifacts"))
    return client


@pytest.fixture
def client(database: MlflowClient, tracking_uri: str) -> Iterator[MlflowClient]:
    """A client of the database, which is what this process takes for MLflow while the test runs."""
    mlflow.set_tracking_uri(tracking_uri)
    yield database
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="session")
def files(booster: lightgbm.Booster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the model as `frontrow train` logs them."""
    return registry_models.our_files(tmp_path_factory.mktemp("logged") / "model", booster)
