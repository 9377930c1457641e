from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow_noise import silence
from ranking_tables import sessions, write

from training.features import infer_features
from training.register import open_store
from training.tables import RankingTable, read_table
from training.train import Recipe, Trained, boost


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    silence(items, Path(__file__).parent)


@pytest.fixture(scope="session")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture(scope="session")
def store(tracking_uri: str) -> MlflowClient:
    """One store for all tests: its first migration takes seconds. Tests use model names of their own."""
    return open_store(tracking_uri)


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> RankingTable:
    return read_table(write(tmp_path_factory.mktemp("table"), "sessions.parquet", sessions()))


@pytest.fixture(scope="session")
def trained(table: RankingTable) -> Trained:
    return boost(table, infer_features(table), Recipe(rounds=20, leaves=7, min_rows_in_leaf=5, threads=1))
