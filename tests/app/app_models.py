"""Two small ranking models over the same marketplace, written as bundles."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from registry import Feature, write_bundle

DEVICES = ("desktop", "mobile", "tablet")
CATEGORIES = ("food", "museum", "outdoor", "tour")
FEATURES = (
    Feature("device", "context", "category", DEVICES),
    Feature("days_to_trip", "context", "integer"),
    Feature("category", "activity", "category", CATEGORIES),
    Feature("price", "activity", "number"),
    Feature("rating", "activity", "number"),
    Feature("reviews", "activity", "integer"),
    Feature("free_cancellation", "activity", "boolean"),
)
QUERIES, CANDIDATES, ACTIVITIES = 60, 12, 50


def write_models(folder: Path) -> None:
    """Bundles `control` (10 trees) and `treatment` (15 trees, one feature fewer), both with a catalog of A0 to A49."""
    table, labels = _sessions()
    catalog = folder / "catalog.parquet"
    pyarrow.parquet.write_table(_catalog(), catalog)
    for name, rounds, features in (("control", 10, FEATURES), ("treatment", 15, FEATURES[:-1])):
        columns = table[[feature.name for feature in features]]
        write_bundle(
            folder / name,
            model_text=_train(columns, labels, rounds),
            features=features,
            golden_rows=encode(columns.iloc[:40], features),
            example=[_plain(row) for row in columns.iloc[:4].to_dict("records")],
            name="activity-ranker",
            version="1" if name == "control" else "2",
            source=f"models:/activity-ranker/{name}",
            trained_at=datetime(2026, 1, 1, tzinfo=UTC),
            run_id=f"run-{name}",
            catalog=catalog.read_bytes(),
        )


def encode(table: pd.DataFrame, features: tuple[Feature, ...]) -> np.ndarray:
    return np.array(
        [[feature.encode(_plain(row)[feature.name]) for feature in features] for row in table.to_dict("records")]
    )


def booster(bundle: Path) -> lightgbm.Booster:
    """LightGBM's own view of a bundle's model: the oracle."""
    return lightgbm.Booster(model_file=str(bundle / "model.lgb"))


def _sessions() -> tuple[pd.DataFrame, np.ndarray]:
    random = np.random.default_rng(7)
    rows = QUERIES * CANDIDATES
    table = pd.DataFrame(
        {
            "device": pd.Categorical(np.repeat(random.choice(DEVICES, QUERIES), CANDIDATES), categories=DEVICES),
            "days_to_trip": np.repeat(random.integers(0, 90, QUERIES), CANDIDATES),
            "category": pd.Categorical(random.choice(CATEGORIES, rows), categories=CATEGORIES),
            "price": random.gamma(3, 15, rows).round(2),
            "rating": random.uniform(2, 5, rows).round(1),
            "reviews": random.integers(0, 900, rows),
            "free_cancellation": random.random(rows) < 0.5,
        }
    )
    utility = table["rating"] - table["price"] / 40 + (table["category"] == "museum") * (table["device"] == "mobile")
    return table, np.digitize(utility + random.normal(0, 0.3, rows), [2, 3.5])


def _catalog() -> pa.Table:
    random = np.random.default_rng(8)
    return pa.table(
        {
            "id": [f"A{n}" for n in range(ACTIVITIES)],
            "category": random.choice(CATEGORIES, ACTIVITIES),
            "price": random.gamma(3, 15, ACTIVITIES).round(2),
            "rating": random.uniform(2, 5, ACTIVITIES).round(1),
            "reviews": random.integers(0, 900, ACTIVITIES),
            "free_cancellation": random.random(ACTIVITIES) < 0.5,
            "title": [f"Activity {n}" for n in range(ACTIVITIES)],
        }
    )


def _train(table: pd.DataFrame, labels: np.ndarray, rounds: int) -> bytes:
    parameters = {"objective": "lambdarank", "num_leaves": 15, "verbosity": -1, "num_threads": 1, "seed": 1}
    data = lightgbm.Dataset(table, labels, group=[CANDIDATES] * QUERIES)
    return lightgbm.train(parameters, data, rounds).model_to_string().encode()


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in row.items()}
