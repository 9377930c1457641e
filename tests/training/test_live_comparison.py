from dataclasses import replace

import numpy as np
import pytest
from mlflow import MlflowClient

from registry.promotion import NotBetter, check_better
from training import comparison
from training.comparison import difference
from training.features import infer_features
from training.live import Judgement, NotCompared, against_live, compare
from training.register import Registered, register
from training.tables import RankingTable
from training.train import Recipe, Trained, boost, judge, stop_early

pytestmark = pytest.mark.xdist_group("training_store")  # its first migration takes seconds: once is enough

WEAK = Recipe(rounds=1, leaves=2, min_rows_in_leaf=5, threads=1)


@pytest.fixture(scope="module")
def live(store: MlflowClient, table: RankingTable) -> Registered:
    """A weak champion."""
    weak = boost(table, infer_features(table), WEAK)
    return register(store, weak, table, name="contested", alias="champion", metrics={})


# ---- the interval


def test_the_same_values_gain_nothing_for_sure() -> None:
    values = np.random.default_rng(0).random(50)
    assert difference(values, values) == (0, 0, 0)


def test_a_gain_on_every_query_has_no_width() -> None:
    values = np.random.default_rng(0).integers(0, 8, 50) / 8
    assert difference(values + 0.25, values) == (0.25, 0.25, 0.25)


def test_the_same_values_give_the_same_interval() -> None:
    new, old = np.random.default_rng(1).random((2, 80))
    assert difference(new, old) == difference(new, old)
    assert difference(new, old).low < difference(new, old).mean < difference(new, old).high


def test_queries_stay_paired() -> None:
    """Queries differ far more than models do; what all of them gain is seen all the same."""
    random = np.random.default_rng(2)
    old = random.normal(0, 10, 200)
    gain = difference(old + random.normal(0.1, 0.1, 200), old)
    assert 0.05 < gain.low < 0.1 < gain.high < 0.15


def test_the_interval_holds_the_truth_about_19_times_in_20(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "RESAMPLES", 300)
    random = np.random.default_rng(3)
    held = 0
    for _ in range(300):
        found = difference(random.exponential(1.0, 100) - 0.9, np.zeros(100))
        held += found.low <= 0.1 <= found.high
    assert 0.89 <= held / 300 <= 0.99


# ---- against the live version


def test_without_a_champion_there_is_nothing_to_compare_with(
    store: MlflowClient, table: RankingTable, trained: Trained
) -> None:
    assert against_live(store, "nobody", Judgement.of_all(table, judge(trained, table))) is None


def test_a_better_model_is_found_better_and_its_tags_say_so(
    live: Registered, store: MlflowClient, table: RankingTable, trained: Trained
) -> None:
    found = against_live(store, "contested", Judgement.of_all(table, judge(trained, table)))
    assert found is not None
    assert (found.version, found.table, found.queries) == (live.version, "sessions.parquet", 40)
    assert found.gains["ndcg@10"].mean == pytest.approx(found.new["ndcg@10"] - found.live["ndcg@10"])
    assert found.gains["ndcg@10"].low > 0
    assert check_better(found.tags(), live.version).endswith("on sessions.parquet, 40 queries")


def test_the_live_model_itself_is_no_better(live: Registered, store: MlflowClient, table: RankingTable) -> None:
    weak = boost(table, infer_features(table), WEAK)
    found = against_live(store, "contested", Judgement.of_all(table, judge(weak, table)))
    assert found is not None
    assert found.gains["ndcg@10"] == (0, 0, 0)
    with pytest.raises(NotBetter, match="no better"):
        check_better(found.tags(), live.version)


def test_without_a_test_table_both_are_judged_on_the_queries_that_were_held_out(
    live: Registered, store: MlflowClient, table: RankingTable
) -> None:
    timed = replace(table, times=np.arange(40.0))
    found = stop_early(timed, infer_features(timed), replace(WEAK, rounds=3))
    assert found.queries.tolist() == list(range(32, 40))
    compared = against_live(store, "contested", Judgement(timed, found.queries, found.judged))
    assert compared is not None
    assert (compared.table, compared.queries) == ("held out of sessions.parquet", 8)


def test_a_champion_that_wants_what_the_table_lacks_is_not_compared(
    live: Registered, store: MlflowClient, table: RankingTable
) -> None:
    poorer = replace(table, columns=table.columns.drop_columns(["device"]))
    judged = Judgement.of_all(poorer, judge(boost(poorer, infer_features(poorer), WEAK), poorer))
    with pytest.raises(NotCompared, match=r"feature 'device' is missing \(a feature of the live version 1\)"):
        against_live(store, "contested", judged)


def test_every_metric_is_compared(table: RankingTable, trained: Trained) -> None:
    judged = Judgement.of_all(table, judge(trained, table))
    found = compare("1", judged, judged.values)
    assert list(found.gains) == ["ndcg@1", "ndcg@3", "ndcg@5", "ndcg@10", "map", "mrr"]
    assert found.live == found.new
