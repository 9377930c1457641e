import lightgbm as lgb
import numpy as np
import pytest

from training import golden
from training.golden import choose_golden
from training.train import Trained


def test_golden_rows_visit_every_leaf_that_training_rows_reach(trained: Trained) -> None:
    chosen = choose_golden(trained.booster, trained.matrix)
    reached = trained.booster.predict(trained.matrix, pred_leaf=True)
    visited = trained.booster.predict(chosen.rows, pred_leaf=True)
    assert all(set(reached[:, tree]) == set(visited[:, tree]) for tree in range(20))
    assert chosen.leaves_visited == chosen.leaves_reached == sum(len(set(column)) for column in reached.T)
    assert len(chosen.rows) < 40


def test_any_changed_leaf_is_noticed(trained: Trained) -> None:
    rows = choose_golden(trained.booster, trained.matrix).rows
    scores = trained.booster.predict(rows)
    for tree in range(20):
        for leaf in range(7):
            changed = lgb.Booster(model_str=trained.booster.model_to_string())
            changed.set_leaf_output(tree, leaf, changed.get_leaf_output(tree, leaf) + 1e-6)
            assert not np.array_equal(changed.predict(rows), scores), (tree, leaf)


def test_the_number_of_golden_rows_is_bounded_and_the_gap_is_told(trained: Trained) -> None:
    chosen = choose_golden(trained.booster, trained.matrix, max_rows=3)
    assert len(chosen.rows) == 3
    assert chosen.leaves_visited < chosen.leaves_reached


def test_blocks_of_rows_reach_the_same_leaves(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = choose_golden(trained.booster, trained.matrix)
    monkeypatch.setattr(golden, "BLOCK_ROWS", 50)
    assert choose_golden(trained.booster, trained.matrix).leaves_visited == whole.leaves_visited


def test_a_model_of_one_tree_without_splits_needs_one_row() -> None:
    rows = np.zeros((10, 1))
    booster = lgb.train(
        {"objective": "lambdarank", "verbosity": -1}, lgb.Dataset(rows, [0, 1] * 5, group=[10]), num_boost_round=1
    )
    assert len(choose_golden(booster, rows).rows) == 1
