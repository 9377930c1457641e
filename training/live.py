"""A new model against the one that is live: the same queries, which the new one did not learn from."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mlflow import MlflowClient
from numpy.typing import NDArray

from registry import Model, RegistryError, fetch, load_model
from registry.promotion import LIVE, METRIC, comparison_tags
from training import metrics
from training.comparison import Difference, difference
from training.errors import TableError, TrainingError
from training.features import encode
from training.register import aliases
from training.tables import RankingTable

FETCH_SECONDS = 120.0

Values = Mapping[str, NDArray[np.float64]]


class Judgement(NamedTuple):
    """How a new model ranked `queries` of a table that it did not learn from: a value of each metric for each query."""

    table: RankingTable
    queries: NDArray[np.int64]
    values: Values

    @classmethod
    def of_all(cls, table: RankingTable, values: Values) -> "Judgement":
        return cls(table, np.arange(table.queries), values)

    def means(self) -> dict[str, float]:
        return metrics.means(self.values)

    @property
    def name(self) -> str:
        part = "" if len(self.queries) == self.table.queries else "held out of "
        return f"{part}{self.table.path.name}"


class NotCompared(TrainingError):
    """The live model could not be judged on these queries; the new one is registered all the same."""


@dataclass(frozen=True)
class Comparison:
    """Each metric of the live version and of the new model, and how much the new one gains, on `queries` queries."""

    version: str
    table: str
    queries: int
    live: dict[str, float]
    new: dict[str, float]
    gains: dict[str, Difference]

    def tags(self) -> dict[str, str]:
        """What `frontrow models promote` decides by."""
        gain = self.gains[METRIC]
        return comparison_tags(self.version, f"{self.table}, {self.queries:,} queries", gain.mean, gain.low, gain.high)


def against_live(client: MlflowClient, name: str, new: Judgement) -> Comparison | None:
    """Compare with the version of `name` that has the alias champion; None where there is none.

    Raises `NotCompared`.
    """
    if LIVE not in aliases(client, name):
        return None
    model = _live_model(name, client.tracking_uri)
    live = _judge_live(model, new.table)
    return compare(model.bundle.version, new, {metric: values[new.queries] for metric, values in live.items()})


def compare(version: str, new: Judgement, live: Values) -> Comparison:
    """Hold the values of the same queries against each other, metric by metric."""
    return Comparison(
        version,
        new.name,
        len(new.queries),
        metrics.means(live),
        new.means(),
        {metric: difference(values, live[metric]) for metric, values in new.values.items()},
    )


def _live_model(name: str, tracking_uri: str) -> Model:
    with tempfile.TemporaryDirectory() as cache:
        try:
            fetched = fetch(
                f"models:/{name}@{LIVE}", cache=Path(cache), tracking_uri=tracking_uri, timeout_seconds=FETCH_SECONDS
            )
            return load_model(fetched.folder, "reference")
        except RegistryError as error:
            raise NotCompared(str(error)) from error


def _judge_live(model: Model, table: RankingTable) -> dict[str, NDArray[np.float64]]:
    try:
        rows = encode(table, model.bundle.features)
    except TableError as error:
        raise NotCompared(f"{error} (a feature of the live version {model.bundle.version})") from error
    return metrics.per_query(table.labels, model.engine.score(rows), table.sizes)
