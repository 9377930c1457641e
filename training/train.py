"""LambdaRank with early stopping: how many rounds are worth it, then a model of that many from all queries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from registry import Feature
from training import metrics
from training.errors import SplitError
from training.features import encode, model_frame
from training.tables import RankingTable

Progress = Callable[[], None]

FOLDS = 5
ENOUGH_QUERIES = 2_000  # from here on one fifth of the queries is a steady judge by itself


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to boost. `feature_fraction` was chosen by cross-validation, as the rest of the defaults."""

    rounds: int = 500
    patience: int = 50
    leaves: int = 31
    learning_rate: float = 0.05
    min_rows_in_leaf: int = 20
    feature_fraction: float = 0.5
    seed: int = 7
    threads: int = 0  # LightGBM's own choice. The model is the same for any number.

    def parameters(self) -> dict[str, Any]:
        """Say the same in LightGBM's words."""
        return {
            "objective": "lambdarank",
            "metric": "ndcg",
            "eval_at": [5],
            "num_leaves": self.leaves,
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": self.min_rows_in_leaf,
            "feature_fraction": self.feature_fraction,
            "seed": self.seed,
            "num_threads": self.threads,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }


@dataclass(frozen=True)
class Stopped:
    """Where early stopping stopped, and what models that did not see the held-out queries reach there.

    queries: the held-out ones, ascending. judged: each metric with a value for every one of them.
    """

    rounds: int
    queries: NDArray[np.int64]
    judged: dict[str, NDArray[np.float64]]

    @property
    def metrics(self) -> dict[str, float]:
        return metrics.means(self.judged)


@dataclass(frozen=True)
class Trained:
    """A booster, the training matrix (rows, features) it learned from, and its scores (rows,)."""

    booster: lgb.Booster
    features: tuple[Feature, ...]
    matrix: NDArray[np.float64]
    scores: NDArray[np.float64]
    recipe: Recipe


def held_out(table: RankingTable, seed: int) -> list[NDArray[np.int64]]:
    """Choose the queries to hold out, one array for each turn.

    With times: the latest fifth, so that the judge lies in the future as it will when serving. Else random fifths: one
    is enough for a table of many queries, and each takes its turn where a single one would be decided by chance.
    """
    if table.times is not None:
        return [_latest(table.times)]
    if table.queries < 2:
        raise SplitError(f"{table.queries} query in the table; early stopping holds some out, so it needs at least 2")
    folds = min(FOLDS, table.queries)
    order = np.random.default_rng(seed).permutation(table.queries)
    turns = 1 if table.queries >= ENOUGH_QUERIES else folds
    return [np.sort(order[turn::folds]) for turn in range(turns)]


def stop_early(
    table: RankingTable, features: Sequence[Feature], recipe: Recipe, *, progress: Progress = lambda: None
) -> Stopped:
    """Boost on the rest of the queries until NDCG@5 on the held-out ones has not risen for `recipe.patience` rounds.

    `progress` is called after each round. Raises `SplitError` when no query can be held out.
    """
    matrix = encode(table, features)
    turns = held_out(table, recipe.seed)
    everyone = np.arange(table.queries)
    rest = [np.setdiff1d(everyone, turn) for turn in turns]
    outcome = lgb.cv(
        recipe.parameters(),
        _dataset(table, features, matrix),
        num_boost_round=recipe.rounds,
        folds=[(table.rows_of(learn), table.rows_of(judge)) for learn, judge in zip(rest, turns, strict=True)],
        callbacks=[lgb.early_stopping(recipe.patience, verbose=False), _after_each_round(progress)],
        return_cvbooster=True,
    )
    models = outcome["cvbooster"]
    return _judge_held_out(table, matrix, turns, models.boosters, models.best_iteration)


def boost(
    table: RankingTable,
    features: Sequence[Feature],
    recipe: Recipe,
    rounds: int | None = None,
    *,
    progress: Progress = lambda: None,
) -> Trained:
    """Train a model of exactly `rounds` rounds (the recipe's when None) on all queries.

    The same table, features and recipe give the same bytes of model text. `progress` is called after each round.
    """
    matrix = encode(table, features)
    booster = lgb.train(
        recipe.parameters(),
        _dataset(table, features, matrix),
        num_boost_round=rounds or recipe.rounds,
        callbacks=[_after_each_round(progress)],
    )
    return Trained(booster, tuple(features), matrix, np.asarray(booster.predict(matrix)), recipe)


def evaluate(trained: Trained, table: RankingTable) -> dict[str, float]:
    """NDCG@k, MAP and MRR of a model on another table."""
    return metrics.means(judge(trained, table))


def judge(trained: Trained, table: RankingTable) -> dict[str, NDArray[np.float64]]:
    """The same, each metric with a value for every query."""
    scores = np.asarray(trained.booster.predict(encode(table, trained.features)))
    return metrics.per_query(table.labels, scores, table.sizes)


def _latest(times: NDArray[np.float64]) -> NDArray[np.int64]:
    cut = np.quantile(times, 1 - 1 / FOLDS, method="inverted_cdf")
    latest = np.flatnonzero(times > cut) if (times > cut).any() else np.flatnonzero(times >= cut)
    if len(latest) == len(times):
        raise SplitError(f"all {len(times):,} queries have the same time, so none is later than the others")
    return latest


def _judge_held_out(
    table: RankingTable,
    matrix: NDArray[np.float64],
    turns: Sequence[NDArray[np.int64]],
    boosters: Sequence[lgb.Booster],
    rounds: int,
) -> Stopped:
    """Judge all held-out queries, each scored by the model that did not see it."""
    scores = np.zeros(table.rows)
    for turn, booster in zip(turns, boosters, strict=True):
        rows = table.rows_of(turn)
        scores[rows] = booster.predict(matrix[rows], num_iteration=rounds)
    queries = np.sort(np.concatenate(turns))
    rows = table.rows_of(queries)
    return Stopped(rounds, queries, metrics.per_query(table.labels[rows], scores[rows], table.sizes[queries]))


def _dataset(table: RankingTable, features: Sequence[Feature], matrix: NDArray[np.float64]) -> lgb.Dataset:
    return lgb.Dataset(model_frame(matrix, features), label=table.labels, group=table.sizes, params={"verbosity": -1})


def _after_each_round(progress: Progress) -> Callable[[Any], None]:
    def after(_environment: Any) -> None:
        progress()

    return after
