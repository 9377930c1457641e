"""Golden rows: few rows that visit every leaf, so that a model whose leaf changed cannot give the golden scores."""

from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

MAX_ROWS = 2_048
BLOCK_ROWS = 65_536  # bounds the memory of pred_leaf: rows x trees x 8 bytes


@dataclass(frozen=True)
class GoldenRows:
    """The rows (golden rows, features) and how many of the leaves that training reaches they visit."""

    rows: NDArray[np.float64]
    leaves_reached: int
    leaves_visited: int


def choose_golden(booster: lgb.Booster, matrix: NDArray[np.float64], max_rows: int = MAX_ROWS) -> GoldenRows:
    """Choose rows of the training matrix (rows, features) until every leaf that it reaches is visited.

    At most `max_rows` are chosen; the answer says how many leaves they visit.

    Greedy set cover (Chvatal, 1979): always the row that visits most leaves nobody has visited. A difference in a leaf
    is noticed as far as it survives rounding in a score, which is a sum over all trees.
    """
    candidates = _first_visitors(booster, matrix)
    leaves = _leaves(booster, matrix[candidates])
    trees = np.arange(leaves.shape[1])
    visited = np.zeros((len(trees), int(leaves.max()) + 1), dtype=bool)
    gains = np.full(len(candidates), len(trees))
    chosen: list[int] = []
    while len(chosen) < max_rows and gains.max() > 0:
        best = int(gains.argmax())
        new = np.flatnonzero(~visited[trees, leaves[best]])
        visited[new, leaves[best, new]] = True
        gains -= (leaves[:, new] == leaves[best, new]).sum(axis=1)
        chosen.append(int(candidates[best]))
    reached = sum(len(np.unique(leaves[:, tree])) for tree in trees)
    return GoldenRows(np.ascontiguousarray(matrix[chosen]), reached, int(visited.sum()))


def _first_visitors(booster: lgb.Booster, matrix: NDArray[np.float64]) -> NDArray[np.int64]:
    """Find the first row of each block that reaches each leaf: together they reach whatever the matrix reaches."""
    first: set[int] = set()
    for start in range(0, len(matrix), BLOCK_ROWS):
        leaves = _leaves(booster, matrix[start : start + BLOCK_ROWS])
        for tree in leaves.T:
            first.update((np.unique(tree, return_index=True)[1] + start).tolist())
    return np.array(sorted(first), dtype=np.int64)


def _leaves(booster: lgb.Booster, matrix: NDArray[np.float64]) -> NDArray[np.int64]:
    leaves = np.asarray(booster.predict(matrix, pred_leaf=True), dtype=np.int64)
    return leaves.reshape(len(matrix), booster.num_trees())
