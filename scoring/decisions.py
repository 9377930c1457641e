"""What a split decides, and how each feature's line falls into classes within which no split can tell values apart.

`goes_left` is the one place that knows LightGBM's rules (`Tree::NumericalDecision`, `Tree::CategoricalDecision` and
`kZeroThreshold` in its tree.h and meta.h). Everything compiled is derived from what it says of one value of each class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scoring.errors import NotCompilableError
from scoring.model_text import CATEGORICAL, DEFAULT_LEFT, MISSING_NAN, MISSING_SHIFT, MISSING_ZERO, Tree

ZERO_THRESHOLD: Final = float(np.float32(1e-35))
MAX_CODE: Final = 255  # a code is one byte
MAX_CLASS_BYTES: Final = 256 * 2**20
_BELOW_ZERO: Final = float(np.nextafter(-ZERO_THRESHOLD, -np.inf))  # the largest value that counts as negative

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Splits:
    """All splits of one feature: where they are, and what they ask."""

    feature: int
    tree: Integers
    node: Integers
    decision_type: Integers
    threshold: Floats
    bitsets: NDArray[np.uint32]  # (splits, words): the categories that go left; no words for a numerical feature

    @property
    def categorical(self) -> bool:
        return bool(self.decision_type[0] & CATEGORICAL)


@dataclass(frozen=True, slots=True)
class Line:
    """One feature's classes, and the byte codes that answer its splits.

    A value of class c fails split s, that is goes right, exactly when `codes[c, column[s]] > limit[s]`.
    A number's class is the count of `boundaries` below it, NaN's the last one. A category's is `classes[category]`,
    and the last one for whatever is no known category.
    """

    splits: Splits
    boundaries: Floats
    classes: NDArray[np.int32]
    codes: Bytes  # (classes, columns)
    column: Integers  # (splits,)
    limit: Integers  # (splits,)


def goes_left(splits: Splits, values: Floats) -> NDArray[np.bool_]:
    """Decisions of every split on every value, (splits, values).

    A value within 1e-35 of zero is zero for every split: LightGBM hands dense rows to its trees as sparse ones.
    """
    canonical = np.where(np.abs(values) <= ZERO_THRESHOLD, 0.0, values)[None, :]
    return _categorical_left(splits, canonical) if splits.categorical else _numerical_left(splits, canonical)


def _numerical_left(splits: Splits, values: Floats) -> NDArray[np.bool_]:
    missing = (splits.decision_type >> MISSING_SHIFT)[:, None]
    default_left = (splits.decision_type & DEFAULT_LEFT != 0)[:, None]
    nan = np.isnan(values)
    is_missing = np.where(missing == MISSING_NAN, nan, (missing == MISSING_ZERO) & (nan | (values == 0.0)))
    left: NDArray[np.bool_] = np.where(
        is_missing, default_left, np.where(nan, 0.0, values) <= splits.threshold[:, None]
    )
    return left


def _categorical_left(splits: Splits, values: Floats) -> NDArray[np.bool_]:
    known = (values > -1.0) & (values < 32.0 * splits.bitsets.shape[1])  # -0.5 is truncated to 0; NaN is not known
    category = np.where(known, values, 0.0).astype(np.int64)[0]
    bits = splits.bitsets[:, category >> 5] >> (category & 31).astype(np.uint32)[None, :] & 1
    left: NDArray[np.bool_] = known & (bits == 1)
    return left


def splits_by_feature(trees: Sequence[Tree]) -> list[Splits]:
    """All splits of the model, feature by feature in rising order, each in tree order."""
    counts = [tree.leaves - 1 for tree in trees]
    tree = np.repeat(np.arange(len(trees)), counts)
    node = np.concatenate([np.arange(count) for count in counts])
    feature = np.concatenate([tree.split_feature for tree in trees])
    decision_type = np.concatenate([tree.decision_type for tree in trees])
    threshold = np.concatenate([tree.threshold for tree in trees])
    result = []
    for index in np.unique(feature).tolist():
        own = np.flatnonzero(feature == index)
        kinds = np.unique(decision_type[own] & CATEGORICAL)
        if len(kinds) == 2:
            raise NotCompilableError(f"feature {index} is categorical in some splits and numerical in others")
        bitsets = _bitsets(trees, tree[own], threshold[own]) if kinds[0] else np.empty((len(own), 0), np.uint32)
        result.append(Splits(index, tree[own], node[own], decision_type[own], threshold[own], bitsets))
    return result


def _bitsets(trees: Sequence[Tree], tree: Integers, threshold: Floats) -> NDArray[np.uint32]:
    words = [_words(trees[t], int(index)) for t, index in zip(tree.tolist(), threshold.tolist(), strict=True)]
    width = max(len(own) for own in words)
    if width * 32 * len(words) > MAX_CLASS_BYTES:
        problem = f"{len(words)} splits over {width * 32} categories need more than {MAX_CLASS_BYTES} bytes"
        raise NotCompilableError(problem)
    bitsets = np.zeros((len(words), width), dtype=np.uint32)
    for row, own in zip(bitsets, words, strict=True):
        row[: len(own)] = own
    return bitsets


def _words(tree: Tree, bitset: int) -> Integers:
    return tree.cat_threshold[tree.cat_boundaries[bitset] : tree.cat_boundaries[bitset + 1]]


def draw_line(splits: Splits) -> Line:
    """Classes and codes of a feature, checked against `goes_left` on one value of each class."""
    line, values = _categorical_line(splits) if splits.categorical else _numerical_line(splits)
    fails = line.codes.T[line.column] > line.limit[:, None]
    if not np.array_equal(fails, ~goes_left(splits, values)):
        raise NotCompilableError(f"the codes of feature {splits.feature} do not decide as its splits do")
    return line


def _categorical_line(splits: Splits) -> tuple[Line, Floats]:
    """A column of 0 (left) and 1 (right) for each split; categories that no split tells apart share a class."""
    bits = np.unpackbits(
        splits.bitsets.astype("<u4").view(np.uint8), axis=1, bitorder="little"
    ).T  # (categories, splits)
    everything = np.concatenate([bits, np.zeros((1, len(splits.tree)), np.uint8)])  # the last: no known category
    packed = np.packbits(everything, axis=1)
    rows = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, classes = np.unique(rows, return_index=True, return_inverse=True)
    order = np.argsort(first == first[classes[-1]], kind="stable")  # the class of what is unknown comes last
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    representatives = np.where(first[order] == len(bits), -1.0, first[order].astype(np.float64))
    line = Line(
        splits=splits,
        boundaries=np.empty(0),
        classes=rank[classes[:-1]].astype(np.int32),
        codes=1 - everything[first[order]],
        column=np.arange(len(splits.tree)),
        limit=np.zeros(len(splits.tree), dtype=np.int64),
    )
    return line, representatives


def _numerical_line(splits: Splits) -> tuple[Line, Floats]:
    """A column for each way to treat what is missing, and another for each further 255 thresholds.

    In a column codes rise along the line, and what is missing is moved to the end where its splits send it.
    """
    exact = splits.threshold
    canonical = np.where(np.abs(exact) <= ZERO_THRESHOLD, np.where(exact < 0, _BELOW_ZERO, 0.0), exact)
    finite = canonical[np.isfinite(canonical)]  # a threshold of infinity lies after the last boundary
    boundaries = np.unique(np.concatenate([finite, [_BELOW_ZERO, 0.0]]))  # zero is a class of its own
    values = np.concatenate([boundaries, [np.inf, np.nan]])
    classes = np.arange(len(boundaries) + 2)
    zero = int(np.searchsorted(boundaries, 0.0))
    position = np.searchsorted(boundaries, canonical)
    treatment = np.where(splits.decision_type >> MISSING_SHIFT, splits.decision_type, 0)  # without missing values: one
    kinds, column = np.unique(np.stack([treatment, position // MAX_CODE]), axis=1, return_inverse=True)
    line = Line(
        splits=splits,
        boundaries=boundaries,
        classes=np.empty(0, np.int32),
        codes=np.stack([_codes(classes, zero, int(kind), int(chunk)) for kind, chunk in kinds.T], axis=1),
        column=column.ravel(),
        limit=position % MAX_CODE,
    )
    return line, values


def _codes(classes: Integers, zero: int, kind: int, chunk: int) -> Bytes:
    order = classes.copy()
    end = -1 if kind & DEFAULT_LEFT else len(classes)
    missing = kind >> MISSING_SHIFT
    if missing == MISSING_ZERO:
        order[zero] = end
    order[-1] = end if missing else zero
    return np.clip(order - chunk * MAX_CODE, 0, MAX_CODE).astype(np.uint8)
