"""The compiled form of a model: flat read-only arrays, which `scoring.tables_file` keeps and shares."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from scoring.decisions import Line, draw_line, splits_by_feature
from scoring.errors import NotCompilableError
from scoring.kernels import BLOCK, LANES, lay_out_nodes
from scoring.model_text import ModelText

# Objectives whose `ConvertOutput` is the identity. The others have the reference engine.
UNTRANSFORMED: Final = frozenset(
    {None, "lambdarank", "rank_xendcg", "regression", "regression_l1", "huber", "fair", "quantile", "mape"}
)


class Tables(NamedTuple):
    """Everything that scoring a row needs. Arrays of offsets have one element more than there are features.

    Features that no split asks about have no columns. A block of codes holds `LANES` rows: the code of column c and row
    k at byte `c * LANES + k`.
    """

    boundaries: NDArray[np.float64]  # of all numerical features, each in blocks of 16 padded with infinity
    blocks: NDArray[np.float64]  # the last boundary of each block, in blocks of 16 again
    block_offsets: NDArray[np.int64]
    categories: NDArray[np.int32]  # category -> class, of all categorical features
    category_offsets: NDArray[np.int64]
    last_classes: NDArray[np.int64]  # the class of NaN and of unknown categories
    codes: NDArray[np.uint8]  # of all features: (classes, columns), row by row
    code_offsets: NDArray[np.int64]
    column_offsets: NDArray[np.int64]
    nodes: NDArray[np.uint64]  # see `kernels.lay_out_nodes`
    values: NDArray[np.float64]  # of the nodes that are leaves
    roots: NDArray[np.uint32]
    depths: NDArray[np.uint32]
    divisor: NDArray[np.float64]  # (1,): trees of a random forest, else 1

    @property
    def bytes_used(self) -> int:
        return sum(array.nbytes for array in self)

    @property
    def columns(self) -> int:
        return int(self.column_offsets[-1])


def build_tables(model: ModelText, *, budget_bytes: int) -> Tables:
    """Compile a model. Raises `NotCompilableError` with the reason when only the reference engine can serve it."""
    if model.objective not in UNTRANSFORMED:
        raise NotCompilableError(f"the objective {model.objective} transforms the sum of the leaves")
    lines = draw_lines(model)
    return _assemble(model, lines, budget_bytes)


def draw_lines(model: ModelText) -> list[Line]:
    """Classes and codes of every feature that a split asks about."""
    return [draw_line(splits) for splits in splits_by_feature(model.trees)]


def _assemble(model: ModelText, lines: list[Line], budget_bytes: int) -> Tables:
    by_feature = {line.splits.feature: line for line in lines}
    parts = [by_feature.get(feature) for feature in range(model.features)]
    code_bytes = sum(line.codes.nbytes for line in lines)
    if code_bytes > budget_bytes:
        raise NotCompilableError(f"the codes need {code_bytes} bytes and {budget_bytes} are allowed")
    columns = _offsets([line.codes.shape[1] if line else 0 for line in parts])
    if columns[-1] * LANES >= 2**32:
        raise NotCompilableError(f"{columns[-1]} columns of codes do not fit 32 bits")
    nodes = sum(2 * tree.leaves - 1 for tree in model.trees)
    if nodes >= 2**24:
        raise NotCompilableError(f"{nodes} nodes do not fit 24 bits")
    boundaries = [_padded(line.boundaries) if line else np.empty(0) for line in parts]
    tables = Tables(
        boundaries=_joined(boundaries, np.float64),
        blocks=_joined([own[BLOCK - 1 :: BLOCK] for own in boundaries], np.float64),
        block_offsets=_offsets([own.size // BLOCK for own in boundaries]),
        categories=_joined([line.classes for line in parts if line], np.int32),
        category_offsets=_offsets([line.classes.size if line else 0 for line in parts]),
        codes=_joined([line.codes.ravel() for line in parts if line], np.uint8),
        code_offsets=_offsets([line.codes.size if line else 0 for line in parts]),
        column_offsets=columns,
        last_classes=np.array([len(line.codes) - 1 if line else 0 for line in parts]),
        **_nodes(model, lines, columns),
        divisor=np.array([float(len(model.trees)) if model.average_output else 1.0]),
    )
    if tables.bytes_used > budget_bytes:
        raise NotCompilableError(f"the tables need {tables.bytes_used} bytes and {budget_bytes} are allowed")
    return frozen(tables)


def _nodes(model: ModelText, lines: list[Line], columns: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    first = _offsets([tree.leaves - 1 for tree in model.trees])
    code = np.zeros(first[-1], np.uint32)
    limit = np.zeros(first[-1], np.uint8)
    for line in lines:
        places = first[line.splits.tree] + line.splits.node
        code[places] = (columns[line.splits.feature] + line.column) * LANES
        limit[places] = line.limit
    left, right, leaf_value = joined_trees(model)
    laid_out = lay_out_nodes(np.array([tree.leaves for tree in model.trees]), left, right, leaf_value, code, limit)
    return dict(zip(("nodes", "values", "roots", "depths"), laid_out, strict=True))


def joined_trees(model: ModelText) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Left children, right children and leaf values of all trees, one after the other."""
    trees = model.trees
    return (
        np.concatenate([tree.left_child for tree in trees]),
        np.concatenate([tree.right_child for tree in trees]),
        np.concatenate([tree.leaf_value for tree in trees]),
    )


def _padded(boundaries: NDArray[np.float64]) -> NDArray[np.float64]:
    """Whole blocks of blocks, with at least one infinity at the end."""
    whole = BLOCK * BLOCK
    return (
        np.concatenate([boundaries, np.full(whole - boundaries.size % whole, np.inf)])
        if boundaries.size
        else boundaries
    )


def _offsets(lengths: list[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def _joined(arrays: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *arrays]).astype(dtype)


def frozen(tables: Tables) -> Tables:
    """The same arrays, read-only as memory-mapped ones are, so that kernels are compiled for one kind of array."""
    for array in tables:
        array.setflags(write=False)
    return tables
