"""What every server is asked, in nobody's words: adapters put it into those of their server."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightgbm
import numpy as np
import pyarrow.parquet
from numpy.typing import NDArray

from benchmarks.bodies import DIFFERENT_BODIES, SEED
from benchmarks.errors import BadBodies
from features.catalog import Catalog
from registry import Bundle, Feature, Value

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Query:
    """One visitor before some activities of the catalog.

    `context` and `features` (one mapping a candidate) are what a caller says; `rows` (candidates, features) and
    `context_row` (context features) are the same as the model sees them, and `scores` what `Booster.predict` gives.
    """

    ids: Sequence[str]
    context: Mapping[str, Value]
    features: Sequence[Mapping[str, Value]]
    rows: Floats
    context_row: Floats
    scores: Floats


class Questioner:
    """Asks about the activities of a bundle's catalog; raises BadBodies for a bundle that has none."""

    def __init__(self, bundle: Bundle) -> None:
        if bundle.catalog is None:
            raise BadBodies(
                f"{bundle.folder}: the bundle has no catalog; make one by python -m benchmarks.reference_bundle"
            )
        self._features = bundle.features
        self._golden = bundle.golden().rows
        self._booster = lightgbm.Booster(model_str=bundle.read("model.lgb").decode())
        self._activities = pyarrow.parquet.read_table(bundle.catalog).to_pylist()

    def ask(self, candidates: int, queries: int = DIFFERENT_BODIES) -> list[Query]:
        """Make `queries` different queries, the same ones in every run."""
        if candidates > len(self._activities):
            raise BadBodies(f"{candidates:,} candidates are more than the {len(self._activities):,} of the catalog")
        chance = random.Random(SEED)
        return [self._query(candidates, chance) for _ in range(queries)]

    def _query(self, candidates: int, chance: random.Random) -> Query:
        chosen = chance.sample(self._activities, candidates)
        context = {
            feature.name: value
            for column, feature in enumerate(self._features)
            if feature.role == "context"
            and (value := feature.decode(float(chance.choice(self._golden)[column]))) is not None
        }
        features = [_without_missing(activity) for activity in chosen]
        rows = np.array([[_number(feature, context, each) for feature in self._features] for each in features])
        ids = [str(activity["id"]) for activity in chosen]
        context_row = rows[0, [feature.role == "context" for feature in self._features]]
        return Query(ids, context, features, rows, context_row, self._booster.predict(rows, num_threads=1))


def _without_missing(activity: Mapping[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in activity.items() if value is not None and name != "id"}


def _number(feature: Feature, context: Mapping[str, Value], activity: Mapping[str, Value]) -> float:
    return feature.encode((context if feature.role == "context" else activity).get(feature.name))


def write_for_peers(bundle: Bundle, folder: Path) -> None:
    """Write what the peers' servers load: the model, the catalog as the array that the model sees, and its ids.

    `catalog.npy` is (activities, features), float64, NaN in the columns of the context, whose numbers `catalog.json`
    lists beside the ids.
    """
    assert bundle.catalog is not None
    folder.mkdir(parents=True, exist_ok=True)
    catalog = Catalog.read(bundle.catalog)
    rows = catalog.matrix([(feature.name, feature.categories) for feature in bundle.features])[:-1]
    context = [column for column, feature in enumerate(bundle.features) if feature.role == "context"]
    rows[:, context] = np.nan
    np.save(folder / "catalog.npy", rows)
    (folder / "catalog.json").write_text(json.dumps({"ids": list(catalog.rows), "context": context}))
    (folder / "model.lgb").write_bytes(bundle.read("model.lgb"))
