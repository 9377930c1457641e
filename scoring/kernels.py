"""The loops that numba compiles. None allocates per row, and none reads outside an array whatever a row holds.

Integers that index are unsigned, which spares numba's check for negative indexes. Sums are in tree order and `fastmath`
stays off: the same IEEE additions as LightGBM's, so the same doubles.
"""

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import njit, types, uint64
from numba.extending import intrinsic

LANES: Final = 8  # rows walked side by side, so that their loads overlap
ZERO_THRESHOLD: Final = float(np.float32(1e-35))


@intrinsic
def lowest_bit(_typing_context: Any, word: Any) -> Any:
    """Index of the lowest bit that is set; the word's width when none is (LLVM's cttz)."""

    def generate(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        zero_is_defined = ir.Constant(ir.IntType(1), 0)
        found = builder.cttz(arguments[0], zero_is_defined)
        return builder.zext(found, ir.IntType(64)) if found.type.width < 64 else found

    return types.uint64(word), generate


@njit(cache=True, nogil=True)
def lay_out_nodes(leaves, left, right, leaf_value, code, limit):  # type: ignore[no-untyped-def]
    """Nodes of all trees, each tree's root first and the two children of a split side by side, level by level.

    `left`, `right`, `code` and `limit` are over all splits, `leaf_value` over all leaves, tree by tree.
    """
    total = 0
    for tree in range(leaves.size):
        total += 2 * leaves[tree] - 1
    node_code = np.zeros(total, np.uint32)
    node_limit = np.full(total, 255, np.uint8)
    node_left = np.empty(total, np.uint32)
    node_value = np.zeros(total, np.float64)
    level = np.zeros(total, np.uint32)
    source = np.empty(total, np.int64)
    roots = np.empty(leaves.size, np.uint32)
    depths = np.zeros(leaves.size, np.uint32)
    first_split, first_leaf, root = 0, 0, 0
    for tree in range(leaves.size):
        roots[tree] = root
        source[root] = 0 if leaves[tree] > 1 else -1
        end = root + 1
        for node in range(root, root + 2 * leaves[tree] - 1):
            split = source[node]
            if split < 0:
                node_left[node] = node
                node_value[node] = leaf_value[first_leaf + ~split]
                depths[tree] = max(depths[tree], level[node])
            else:
                node_code[node] = code[first_split + split]
                node_limit[node] = limit[first_split + split]
                node_left[node] = end
                source[end] = left[first_split + split]
                source[end + 1] = right[first_split + split]
                level[end] = level[end + 1] = level[node] + 1
                end += 2
        first_split += leaves[tree] - 1
        first_leaf += leaves[tree]
        root = end
    return node_code, node_limit, node_left, node_value, roots, depths


@njit(nogil=True, inline="always")
def number_class(value, boundaries, start, count):  # type: ignore[no-untyped-def]
    """Boundaries below the value (a branch-free binary search); for NaN, one more than for infinity."""
    value = value if abs(value) > ZERO_THRESHOLD else 0.0 * value  # NaN stays NaN
    low, rest = uint64(start), uint64(count)
    while rest > uint64(1):
        half = rest >> uint64(1)
        low += half * uint64(boundaries[low + half - uint64(1)] < value)
        rest -= half
    below = low - uint64(start) + uint64(boundaries[low] < value)
    return uint64(count) + uint64(1) if value != value else below  # noqa: PLR0124


@njit(nogil=True, inline="always")
def category_class(value, categories, start, count, unknown):  # type: ignore[no-untyped-def]
    """Class of a category; -0.5 is category 0, as in C. `unknown` for what has none: NaN, -1, one too large."""
    if value > -1.0 and value < count:
        return uint64(categories[uint64(start) + uint64(value)])
    return uint64(unknown)


@njit(nogil=True, inline="always")
def encode(rows, first, columns_of, t, places, block):  # type: ignore[no-untyped-def]
    """Write the codes of the `LANES` rows from `first` on (the last row again where there are fewer) into `block`."""
    boundaries, boundary_offsets, categories, category_offsets, codes, code_offsets, column_offsets = t
    last = uint64(rows.shape[0] - 1)
    for feature in range(column_offsets.size - 1):
        columns = uint64(column_offsets[feature + 1] - column_offsets[feature])
        if columns == uint64(0) or not columns_of[feature]:
            continue
        start = uint64(code_offsets[feature])
        known = category_offsets[feature + 1] - category_offsets[feature]
        if known:
            unknown = uint64(code_offsets[feature + 1] - code_offsets[feature]) // columns - uint64(1)
            for lane in range(LANES):
                value = rows[min(uint64(first) + uint64(lane), last), feature]
                found = category_class(value, categories, category_offsets[feature], known, unknown)
                places[lane] = start + found * columns
        else:
            count = boundary_offsets[feature + 1] - boundary_offsets[feature]
            for lane in range(LANES):
                value = rows[min(uint64(first) + uint64(lane), last), feature]
                places[lane] = start + columns * number_class(value, boundaries, boundary_offsets[feature], count)
        spread(codes, places, columns, uint64(column_offsets[feature]), block)


@njit(nogil=True, inline="always")
def spread(codes, places, columns, first_column, block):  # type: ignore[no-untyped-def]
    """Interleave eight rows' codes of one feature: byte k of word c of `block` is row k's code in column c."""
    p0, p1, p2, p3 = places[0], places[1], places[2], places[3]
    p4, p5, p6, p7 = places[4], places[5], places[6], places[7]
    for column in range(columns):
        c = uint64(column)
        block[first_column + c] = (
            uint64(codes[p0 + c])
            | uint64(codes[p1 + c]) << uint64(8)
            | uint64(codes[p2 + c]) << uint64(16)
            | uint64(codes[p3 + c]) << uint64(24)
            | uint64(codes[p4 + c]) << uint64(32)
            | uint64(codes[p5 + c]) << uint64(40)
            | uint64(codes[p6 + c]) << uint64(48)
            | uint64(codes[p7 + c]) << uint64(56)
        )


@njit(nogil=True, inline="always")
def step(node, lane, bytes_of, node_code, node_limit, node_left):  # type: ignore[no-untyped-def]
    """One split down for one row, without a branch; a leaf stays where it is."""
    fails = bytes_of[uint64(node_code[node]) + uint64(lane)] > node_limit[node]
    return uint64(node_left[node]) + uint64(fails)


@njit(cache=True, nogil=True)
def score_rows(rows, everything, lines, nodes, places, block, bytes_of, scores):  # type: ignore[no-untyped-def]
    """Scores of all rows: eight rows at a time walk tree after tree, each level of a tree side by side.

    `places`, `block` and its view `bytes_of` are scratch memory of the call.
    """
    node_code, node_limit, node_left, node_value, roots, depths, divisor = nodes
    count = rows.shape[0]
    for first in range(0, count, LANES):
        encode(rows, first, everything, lines, places, block)
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
        for tree in range(roots.size):
            n0 = n1 = n2 = n3 = n4 = n5 = n6 = n7 = uint64(roots[tree])
            for _ in range(depths[tree]):
                n0 = step(n0, 0, bytes_of, node_code, node_limit, node_left)
                n1 = step(n1, 1, bytes_of, node_code, node_limit, node_left)
                n2 = step(n2, 2, bytes_of, node_code, node_limit, node_left)
                n3 = step(n3, 3, bytes_of, node_code, node_limit, node_left)
                n4 = step(n4, 4, bytes_of, node_code, node_limit, node_left)
                n5 = step(n5, 5, bytes_of, node_code, node_limit, node_left)
                n6 = step(n6, 6, bytes_of, node_code, node_limit, node_left)
                n7 = step(n7, 7, bytes_of, node_code, node_limit, node_left)
            s0 += node_value[n0]
            s1 += node_value[n1]
            s2 += node_value[n2]
            s3 += node_value[n3]
            s4 += node_value[n4]
            s5 += node_value[n5]
            s6 += node_value[n6]
            s7 += node_value[n7]
        sums = (s0, s1, s2, s3, s4, s5, s6, s7)
        for lane in range(min(LANES, count - first)):
            scores[first + lane] = sums[lane] / divisor[0]
