"""Small models of every kind that the scoring tests ask for, and an oracle that shares nothing with the engines."""

import math
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from scoring import ModelText, Tree

ZERO = float(np.float32(1e-35))  # LightGBM's kZeroThreshold
QUIET = {"verbosity": -1, "num_threads": 1, "min_data_in_leaf": 2, "min_data_per_group": 2, "cat_smooth": 1.0}


def data(seed: int, rows: int = 400) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Six columns: two plain, one with zeros, one with NaN, categories 0-39 and 0-4; and labels 0-4."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 6))
    x[random.random(rows) < 0.4, 2] = 0.0
    x[random.random(rows) < 0.3, 3] = np.nan
    x[:, 4], x[:, 5] = random.integers(0, 40, rows), random.integers(0, 5, rows)
    signal = x[:, 0] + x[:, 2] + np.nan_to_num(x[:, 3], nan=1.5) + (x[:, 4] % 3) + random.normal(size=rows)
    return x, np.digitize(signal, np.quantile(signal, [0.4, 0.6, 0.8, 0.95])).astype(np.float64)


def train(seed: int = 0, trees: int = 3, **parameters: Any) -> bytes:
    """The text of a freshly trained model."""
    x, y = data(seed)
    parameters = {"objective": "lambdarank", "num_leaves": 8, "seed": seed} | QUIET | parameters
    ranking = parameters["objective"] in {"lambdarank", "rank_xendcg"}
    dataset = lightgbm.Dataset(x, y, group=[20] * 20 if ranking else None, categorical_feature=[4, 5])
    booster: lightgbm.Booster = lightgbm.train(parameters, dataset, trees)
    return booster.model_to_string().encode()


def oracle(model: ModelText, rows: NDArray[np.float64]) -> list[float]:
    """Scores by walking every tree in plain Python, as LightGBM's `Tree::Predict` does (no objective transform)."""
    scores = []
    for row in rows.tolist():
        total = 0.0
        for tree in model.trees:
            total += _leaf_value(tree, row)
        scores.append(total / len(model.trees) if model.average_output else total)
    return scores


def _leaf_value(tree: Tree, row: list[float]) -> float:
    node = 0 if tree.leaves > 1 else -1
    while node >= 0:
        left = _goes_left(tree, node, row[tree.split_feature[node]])
        node = int((tree.left_child if left else tree.right_child)[node])
    return float(tree.leaf_value[~node])


def _goes_left(tree: Tree, node: int, value: float) -> bool:
    decision, threshold = int(tree.decision_type[node]), float(tree.threshold[node])
    value = 0.0 if abs(value) <= ZERO else value  # LightGBM reads dense rows as sparse ones
    if decision & 1:
        if math.isnan(value) or not (category := _int32(value)) >= 0:
            return False
        words = tree.cat_threshold[tree.cat_boundaries[int(threshold)] : tree.cat_boundaries[int(threshold) + 1]]
        return category // 32 < len(words) and bool(int(words[category // 32]) >> category % 32 & 1)
    missing = decision >> 2
    if math.isnan(value) and missing != 2:
        value = 0.0
    if (missing == 1 and value == 0.0) or math.isnan(value):
        return bool(decision & 2)
    return value <= threshold


def _int32(value: float) -> int:
    return int(value) if -(2.0**31) < value < 2.0**31 else -1
