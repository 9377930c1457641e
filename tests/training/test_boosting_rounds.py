from dataclasses import replace

import numpy as np
import pytest

from training import metrics
from training.errors import SplitError
from training.features import infer_features
from training.tables import RankingTable
from training.train import ENOUGH_QUERIES, Recipe, boost, evaluate, held_out, stop_early

SMALL = Recipe(rounds=30, patience=5, leaves=7, min_rows_in_leaf=5, threads=1)


def times(table: RankingTable, values: list[float]) -> RankingTable:
    return replace(table, times=np.array(values))


def test_in_a_small_table_every_query_is_held_out_once(table: RankingTable) -> None:
    turns = held_out(table, seed=1)
    assert len(turns) == 5
    assert np.array_equal(np.sort(np.concatenate(turns)), np.arange(table.queries))


def test_in_a_large_table_one_fifth_is_held_out_once(table: RankingTable) -> None:
    large = replace(table, sizes=np.ones(ENOUGH_QUERIES, dtype=np.int64))
    turns = held_out(large, seed=1)
    assert [len(turn) for turn in turns] == [ENOUGH_QUERIES // 5]


def test_the_seed_decides_which_queries_are_held_out(table: RankingTable) -> None:
    first, same, other = (held_out(table, seed)[0].tolist() for seed in (1, 1, 2))
    assert first == same
    assert first != other


def test_with_times_the_latest_queries_are_held_out(table: RankingTable) -> None:
    shuffled = np.random.default_rng(0).permutation(table.queries).astype(float)
    (latest,) = held_out(replace(table, times=shuffled), seed=1)
    assert sorted(shuffled[latest]) == [32, 33, 34, 35, 36, 37, 38, 39]


def test_queries_of_one_moment_stay_on_one_side(table: RankingTable) -> None:
    (latest,) = held_out(times(table, [1.0] * 35 + [2.0] * 5), seed=1)
    assert latest.tolist() == [35, 36, 37, 38, 39]
    (latest,) = held_out(times(table, [1.0] * 5 + [2.0] * 35), seed=1)
    assert latest.tolist() == list(range(5, 40))


def test_one_moment_for_all_queries_cannot_be_split(table: RankingTable) -> None:
    with pytest.raises(SplitError, match="all 40 queries have the same time"):
        held_out(times(table, [1.0] * 40), seed=1)


def test_one_query_cannot_be_split(table: RankingTable) -> None:
    with pytest.raises(SplitError, match="1 query in the table"):
        held_out(replace(table, sizes=np.array([table.rows])), seed=1)


def test_boosting_stops_when_the_held_out_queries_gain_nothing_more(table: RankingTable) -> None:
    calls = []
    found = stop_early(table, infer_features(table), SMALL, progress=lambda: calls.append(1))
    assert 1 <= found.rounds <= 30
    assert len(found.queries) == 40
    assert len(calls) == min(30, found.rounds + SMALL.patience)
    untrained = metrics.summary(table.labels, np.zeros(table.rows), table.sizes)
    assert found.metrics["ndcg@5"] > untrained["ndcg@5"] + 0.05


def test_the_held_out_queries_are_scored_by_models_that_never_saw_them(table: RankingTable) -> None:
    chance = replace(table, labels=np.random.default_rng(1).permutation(table.labels))
    by_heart = replace(SMALL, leaves=31, min_rows_in_leaf=1, learning_rate=0.5)
    features = infer_features(chance)
    assert evaluate(boost(chance, features, by_heart), chance)["ndcg@5"] > 0.95
    assert stop_early(chance, features, by_heart).metrics["ndcg@5"] < 0.75


def test_the_same_table_and_recipe_give_the_same_bytes(table: RankingTable) -> None:
    texts = {boost(table, infer_features(table), SMALL, 10).booster.model_to_string() for _ in range(2)}
    assert len(texts) == 1


def test_the_number_of_threads_changes_no_tree(table: RankingTable) -> None:
    models = [boost(table, infer_features(table), replace(SMALL, threads=threads), 10) for threads in (1, 2)]
    trees = [model.booster.model_to_string().partition("\nparameters:")[0] for model in models]
    assert trees[0] == trees[1]


def test_a_trained_model_comes_with_its_rows_and_scores(table: RankingTable) -> None:
    trained = boost(table, infer_features(table), SMALL, 10)
    assert trained.booster.num_trees() == 10
    assert np.array_equal(trained.scores, trained.booster.predict(trained.matrix))
    assert evaluate(trained, table) == metrics.summary(table.labels, trained.scores, table.sizes)
