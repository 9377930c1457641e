"""Two small models with different versions, written as the bundles that go into the image under test."""

import io
from datetime import UTC, datetime
from pathlib import Path

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from registry import Feature, write_bundle

FEATURES = (
    Feature("days_to_trip", "context", "integer"),
    Feature("price", "activity", "number"),
    Feature("rating", "activity", "number"),
)
QUERIES, CANDIDATES = 30, 10
IDS = tuple(f"A{n}" for n in range(40))


def write_models(folder: Path) -> None:
    """Bundles `control` (version 7) and `treatment` (version 8); both know the prices and ratings of `IDS`."""
    for variant, version, trees in (("control", "7", 5), ("treatment", "8", 9)):
        rows = _rows(QUERIES * CANDIDATES)
        write_bundle(
            folder / variant,
            model_text=_train(rows, trees),
            features=FEATURES,
            golden_rows=rows[:20],
            example=[{"days_to_trip": 3, "price": 39.0, "rating": 4.5}],
            name="activity-ranker",
            version=version,
            source=f"models:/activity-ranker/{version}",
            trained_at=datetime(2026, 1, 1, tzinfo=UTC),
            catalog=_catalog(),
        )


def _rows(count: int) -> NDArray[np.float64]:
    random = np.random.default_rng(count)
    return np.column_stack([random.integers(0, 30, count), random.uniform(5, 200, count), random.uniform(1, 5, count)])


def _train(rows: NDArray[np.float64], trees: int) -> bytes:
    labels = np.digitize(rows[:, 2] - rows[:, 1] / 100, [1, 2, 3])
    parameters = {"objective": "lambdarank", "num_leaves": 7, "num_threads": 1, "seed": 1, "verbose": -1}
    names = [feature.name for feature in FEATURES]
    data = lightgbm.Dataset(rows, labels, group=[CANDIDATES] * QUERIES, feature_name=names)
    return str(lightgbm.train(parameters, data, trees).model_to_string()).encode()


def _catalog() -> bytes:
    _, prices, ratings = _rows(len(IDS)).T
    file = io.BytesIO()
    pyarrow.parquet.write_table(pa.table({"id": IDS, "price": prices, "rating": ratings}), file)
    return file.getvalue()
