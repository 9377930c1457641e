"""The loops that numba compiles. None allocates per row, and none reads outside an array whatever a row holds.

Integers that index are unsigned, which spares numba's check for negative indexes. Sums are in tree order and `fastmath`
stays off: the same IEEE additions as LightGBM's, so the same doubles.
"""

# Kernels are called by position: numba has no keyword-only arguments.
# ruff: noqa: PLR0917

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import njit, types, uint8, uint32, uint64
from numba.extending import intrinsic

from scoring.kernel_cache import compiled

LANES: Final = 8  # rows walked side by side, so that their loads overlap
TILE: Final = 4  # blocks of rows that walk a tree one after the other, while its nodes are in the nearest cache
BLOCK: Final = 16  # boundaries counted at once
ABREAST: Final = 5  # items whose sums do not wait for each other
ITEMS: Final = 12 * ABREAST  # a block's items, which pass some trees one after the other
TREES: Final = 16  # these trees: their values are in the nearest cache meanwhile
ZERO_THRESHOLD: Final = float(np.float32(1e-35))


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls, which lets others have the interpreter meanwhile."""
    return compiled(function, nogil=True)


@intrinsic
def lowest_bit(_typing_context, word):  # type: ignore[no-untyped-def]
    """Index of the lowest bit that is set; the word's width when none is (LLVM's cttz)."""

    def generate(_context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        zero_is_defined = ir.Constant(ir.IntType(1), 0)
        found = builder.cttz(arguments[0], zero_is_defined)
        return builder.zext(found, ir.IntType(64)) if found.type.width < 64 else found

    return types.uint64(word), generate


@intrinsic
def fetch_ahead(_typing_context, array, place):  # type: ignore[no-untyped-def]
    """Have the cache line of a flat place of an array fetched (LLVM's prefetch); nothing is read, or waited for.

    Into the second cache: lines on their way into the nearest one are few at a time, and memory is far.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        takes = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], takes)
        for_reading, for_second_cache, of_data = (ir.Constant(number, kind) for kind in (0, 2, 1))
        line = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        builder.call(prefetch, [line, for_reading, for_second_cache, of_data])
        return context.get_dummy_value()

    return types.void(array, types.uint64), generate


@intrinsic
def count_below(_typing_context, numbers, start, value):  # type: ignore[no-untyped-def]
    """How many of `numbers[start:start + 16]` are below the value: one vector comparison, no branch to mispredict."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        vector = ir.VectorType(ir.DoubleType(), BLOCK)
        place = builder.bitcast(builder.gep(array.data, [arguments[1]]), vector.as_pointer())
        block = builder.load(place, align=8, typ=vector)
        lane = ir.Constant(ir.VectorType(ir.IntType(32), BLOCK), None)
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), arguments[2], ir.Constant(ir.IntType(32), 0))
        below = builder.fcmp_ordered("<", block, builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), lane))
        return builder.zext(builder.ctpop(builder.bitcast(below, ir.IntType(BLOCK))), ir.IntType(64))

    return types.uint64(numbers, start, value), generate


@kernel
def lay_out_nodes(leaves, left, right, leaf_value, code, limit):  # type: ignore[no-untyped-def]
    """Nodes of all trees, each tree's root first and the two children of a split side by side, level by level.

    `left`, `right`, `code` and `limit` are over all splits, `leaf_value` over all leaves, tree by tree. A node is one
    word: the byte of its column in a block of codes (32 bits), the limit above which a code goes right (8), its left
    child (24); the right child comes next. A leaf is its own left child and has the limit 255.
    """
    total = 0
    for tree in range(leaves.size):
        total += 2 * leaves[tree] - 1
    nodes = np.empty(total, np.uint64)
    values = np.zeros(total, np.float64)
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
                nodes[node] = uint64(node) << uint64(40) | uint64(255) << uint64(32)
                values[node] = leaf_value[first_leaf + ~split]
                depths[tree] = max(depths[tree], level[node])
            else:
                low = uint64(limit[first_split + split]) << uint64(32) | uint64(code[first_split + split])
                nodes[node] = uint64(end) << uint64(40) | low
                source[end] = left[first_split + split]
                source[end + 1] = right[first_split + split]
                level[end] = level[end + 1] = level[node] + 1
                end += 2
        first_split += leaves[tree] - 1
        first_leaf += leaves[tree]
        root = end
    return nodes, values, roots, depths


@njit(nogil=True, forceinline=True)
def classify(rows, first, lanes, lines, classes):  # type: ignore[no-untyped-def]
    """Classes of each feature's values in `lanes` rows from `first` on; where there are fewer, of the last row again.

    A number's class is the count of boundaries below it, found in two steps: over the last boundary of each block of
    16, then within one block. Both levels are padded with infinity to whole blocks, and an infinity comes last, so what
    is found is never past the end. A category's class is looked up; -0.5 is category 0, as in C. What is NaN, or no
    known category, has the last class.
    """
    # One function and no helpers: given arrays in a loop, numba would count references to them for each value.
    boundaries, blocks, block_offsets, categories, category_offsets, last_classes, _, _, _ = lines
    last_row = uint64(rows.shape[0] - 1)
    for feature in range(last_classes.size):
        known = category_offsets[feature + 1] - category_offsets[feature]
        start, end = uint64(block_offsets[feature]), uint64(block_offsets[feature + 1])
        if end == start and known == 0:
            continue  # no split asks about it, so it has no columns and its class is never looked at
        for lane in range(lanes):
            value = rows[min(uint64(first) + uint64(lane), last_row), feature]
            found = uint64(last_classes[feature])
            if end > start:
                value = value if abs(value) > ZERO_THRESHOLD else 0.0 * value  # NaN stays NaN
                before = uint64(0)
                for block in range(start, end, uint64(BLOCK)):
                    before += uint64(BLOCK) * count_below(blocks, block, value)
                before += count_below(boundaries, start * uint64(BLOCK) + before, value)
                found = before if value == value else found  # noqa: PLR0124
            elif value > -1.0 and value < known:
                found = uint64(categories[uint64(category_offsets[feature]) + uint64(value)])
            classes[feature * LANES + lane] = found


@njit(nogil=True, forceinline=True)
def encode(rows, first, lines, classes, block):  # type: ignore[no-untyped-def]
    """Write the codes of `LANES` rows from `first` on into `block`: byte k of word c is row k's code in column c."""
    classify(rows, first, LANES, lines, classes)
    _, _, _, _, _, last_classes, codes, code_offsets, column_offsets = lines
    for feature in range(last_classes.size):
        columns = uint64(column_offsets[feature + 1] - column_offsets[feature])
        if columns == uint64(0):
            continue
        start, target, at = uint64(code_offsets[feature]), uint64(column_offsets[feature]), feature * LANES
        p0, p1 = start + columns * classes[at], start + columns * classes[at + 1]
        p2, p3 = start + columns * classes[at + 2], start + columns * classes[at + 3]
        p4, p5 = start + columns * classes[at + 4], start + columns * classes[at + 5]
        p6, p7 = start + columns * classes[at + 6], start + columns * classes[at + 7]
        for column in range(columns):
            c = uint64(column)
            block[target + c] = (
                uint64(codes[p0 + c])
                | uint64(codes[p1 + c]) << uint64(8)
                | uint64(codes[p2 + c]) << uint64(16)
                | uint64(codes[p3 + c]) << uint64(24)
                | uint64(codes[p4 + c]) << uint64(32)
                | uint64(codes[p5 + c]) << uint64(40)
                | uint64(codes[p6 + c]) << uint64(48)
                | uint64(codes[p7 + c]) << uint64(56)
            )


@njit(nogil=True, forceinline=True)
def step(node, byte, nodes, codes):  # type: ignore[no-untyped-def]
    """Index of the node one split down from `node`, without a branch; a leaf stays where it is."""
    fact = nodes[node]
    rest = fact >> uint64(32)
    return (rest >> uint64(8)) + uint64(codes[byte + uint64(uint32(fact))] > uint8(rest))


@kernel
def score_rows(rows, lines, walk, classes, words, codes, scores):  # type: ignore[no-untyped-def]
    """Write the rows' scores into `scores`, whose length is that of the rows rounded up to whole blocks.

    Rows come in tiles of up to `TILE` blocks, so that a tree's nodes are fetched once for them all. The rows of a block
    walk a tree side by side, one level at a time, as many levels as the tree is deep. `classes`, `words` (the codes of
    a tile) and its view `codes` are scratch memory of the call.
    """
    nodes, values, roots, depths, divisor = walk
    count = rows.shape[0]
    columns = words.size // TILE
    scores[:] = 0.0
    for tile in range(0, count, TILE * LANES):
        blocks = min(TILE, (count - tile + LANES - 1) // LANES)
        for block in range(blocks):
            encode(rows, tile + block * LANES, lines, classes, words[block * columns : (block + 1) * columns])
        for tree in range(roots.size):
            root = uint64(roots[tree])
            for block in range(blocks):
                byte = uint64(block * columns * LANES)
                n0 = n1 = n2 = n3 = n4 = n5 = n6 = n7 = root
                for _ in range(depths[tree]):
                    n0 = step(n0, byte, nodes, codes)
                    n1 = step(n1, byte + uint64(1), nodes, codes)
                    n2 = step(n2, byte + uint64(2), nodes, codes)
                    n3 = step(n3, byte + uint64(3), nodes, codes)
                    n4 = step(n4, byte + uint64(4), nodes, codes)
                    n5 = step(n5, byte + uint64(5), nodes, codes)
                    n6 = step(n6, byte + uint64(6), nodes, codes)
                    n7 = step(n7, byte + uint64(7), nodes, codes)
                row = tile + block * LANES
                scores[row] += values[n0]
                scores[row + 1] += values[n1]
                scores[row + 2] += values[n2]
                scores[row + 3] += values[n3]
                scores[row + 4] += values[n4]
                scores[row + 5] += values[n5]
                scores[row + 6] += values[n6]
                scores[row + 7] += values[n7]
    for row in range(count):
        scores[row] /= divisor[0]


# ---- masks: which leaves of each tree a value leaves possible ----


@kernel
def left_masks(leaves, left, right, leaf_value, width):  # type: ignore[no-untyped-def]
    """For each split the leaves of its left subtree as bits, and each tree's leaf values from left to right.

    Bit 0 is a tree's leftmost leaf. The values have `width` places a tree and one more at the very end.
    """
    below = np.ones(left.size, np.int64)
    masks = np.zeros(left.size, np.uint64)
    values = np.zeros(leaves.size * width + 1, np.float64)
    first_split, first_leaf = 0, 0
    start = np.zeros(left.size, np.int64)
    for tree in range(leaves.size):
        splits = leaves[tree] - 1
        for split in range(first_split + splits - 1, first_split - 1, -1):  # children come after their parents
            for child in (left[split], right[split]):
                below[split] += below[first_split + child] if child >= 0 else 1
            below[split] -= 1
        if splits == 0:
            values[tree * width] = leaf_value[first_leaf]
        for split in range(first_split, first_split + splits):
            in_left = below[first_split + left[split]] if left[split] >= 0 else 1
            masks[split] = ((uint64(1) << uint64(in_left)) - uint64(1)) << uint64(start[split])
            for child, at in ((left[split], start[split]), (right[split], start[split] + in_left)):
                if child >= 0:
                    start[first_split + child] = at
                else:
                    values[tree * width + at] = leaf_value[first_leaf + ~child]
        first_split += splits
        first_leaf += leaves[tree]
    return masks, values


@kernel
def fill_mask_table(codes, column, limit, tree, masks, table):  # type: ignore[no-untyped-def]
    """Rule out in `table` (classes, trees) the leaves that the splits of one feature rule out for each class."""
    for split in range(tree.size):
        for row in range(codes.shape[0]):
            if codes[row, column[split]] > limit[split]:
                table[row, tree[split]] &= ~table.dtype.type(masks[split])


@kernel
def classify_rows(rows, lines, scratch, classes):  # type: ignore[no-untyped-def]
    """Classes of every feature, (rows, features)."""
    for row in range(rows.shape[0]):
        classify(rows, row, 1, lines, scratch)
        for feature in range(rows.shape[1]):
            classes[row, feature] = scratch[feature * LANES]


@kernel
def narrow(masks, table, classes, feature):  # type: ignore[no-untyped-def]
    """AND into each row of `masks` (rows, trees) the row of `table` that its class of the feature has."""
    for row in range(masks.shape[0]):
        for tree in range(masks.shape[1]):
            masks[row, tree] &= table[classes[row, feature], tree]


@njit(nogil=True, forceinline=True)
def fetch_items(item_masks, places, trees):  # type: ignore[no-untyped-def]
    """Fetch the first trees' masks of the items at these flat places; a line of a cache holds eight of 64 bits."""
    for place in places:
        for tree in range(uint64(0), uint64(trees), uint64(8)):
            fetch_ahead(item_masks, place + tree)


@njit(nogil=True, forceinline=True)
def narrow_row(masks, tables, row):  # type: ignore[no-untyped-def]
    """AND one row of flat `tables` into the masks of all trees."""
    trees = uint64(masks.size)
    for tree in range(trees):
        masks[tree] &= tables[row * trees + tree]


@njit(nogil=True, forceinline=True)
def narrow_to_pairs(pairs, first, count, item_masks, places, classes, narrowed):  # type: ignore[no-untyped-def]
    """Write the masks of `count` items from `first` on, as the pairs of the request and each of them leave them.

    And those of the next ones up to whole groups of `ABREAST`, since no bit at all would have no leaf.
    """
    rows, columns, lines, tables, table_offsets = pairs
    trees = narrowed.shape[1]
    for group in range(0, count, ABREAST):
        start = first + group
        fetch_items(item_masks, places[start + ABREAST : start + 2 * ABREAST], trees)
        classify(rows, start, ABREAST, lines, classes)
        for lane in range(ABREAST):
            masks, place = narrowed[group + lane], places[start + lane]
            for tree in range(uint64(trees)):
                masks[tree] = item_masks[place + tree]
            for index in range(columns.size):
                narrow_row(masks, tables, uint64(table_offsets[index]) + classes[columns[index] * LANES + lane])


@njit(nogil=True, forceinline=True)
def add_leaves(item_masks, places, count, context, values, shift, sums):  # type: ignore[no-untyped-def]
    """Add the values of all trees' leaves to the sums of `count` items, whose masks begin at these flat places.

    All items pass `TREES` trees before the next trees' turn comes. They do so `ABREAST` at a time, the last ones beside
    whatever `places` and `sums` hold next. Items are far apart in memory, so their next masks are fetched meanwhile.
    """
    trees = uint64(context.size)
    for tile in range(uint64(0), trees, uint64(TREES)):
        end = min(tile + uint64(TREES), trees)
        for item in range(uint64(0), uint64(count), uint64(ABREAST)):
            i0, i1, i2, i3, i4 = item, item + uint64(1), item + uint64(2), item + uint64(3), item + uint64(4)
            p0, p1, p2, p3, p4 = places[i0], places[i1], places[i2], places[i3], places[i4]
            for ahead in range(tile + uint64(TREES + 7), tile + uint64(2 * TREES + 7), uint64(8)):
                fetch_ahead(item_masks, p0 + ahead)
                fetch_ahead(item_masks, p1 + ahead)
                fetch_ahead(item_masks, p2 + ahead)
                fetch_ahead(item_masks, p3 + ahead)
                fetch_ahead(item_masks, p4 + ahead)
            s0, s1, s2, s3, s4 = sums[i0], sums[i1], sums[i2], sums[i3], sums[i4]
            for tree in range(tile, end):
                base, mask = tree << shift, context[tree]
                s0 += values[base + lowest_bit(item_masks[p0 + tree] & mask)]
                s1 += values[base + lowest_bit(item_masks[p1 + tree] & mask)]
                s2 += values[base + lowest_bit(item_masks[p2 + tree] & mask)]
                s3 += values[base + lowest_bit(item_masks[p3 + tree] & mask)]
                s4 += values[base + lowest_bit(item_masks[p4 + tree] & mask)]
            sums[i0], sums[i1], sums[i2], sums[i3], sums[i4] = s0, s1, s2, s3, s4


@njit(nogil=True, forceinline=True)
def places_of(items, item_masks):  # type: ignore[no-untyped-def]
    """Where each item's masks begin; those of some item for a negative one, and `ABREAST` times more at the end."""
    last_item, trees = item_masks.shape[0] - 1, uint64(item_masks.shape[1])
    places = np.zeros(items.size + ABREAST, np.uint64)
    for place in range(items.size):
        places[place] = uint64(min(max(items[place], 0), last_item)) * trees
    return places


@kernel
def score_requests(  # type: ignore[no-untyped-def]
    contexts, offsets, items, features, lines, tables, table_offsets, pairs, item_masks, values, width, divisor, scores
):
    """Scores of several requests' activities: context mask, item masks, lowest bits, leaf values, sums.

    `pairs` is None or the pairs' rows with what makes masks of them; these narrow each candidate's item mask first. A
    negative item is left at what some item scores. `scores` has `ABREAST` places more than there are items.
    """
    trees = item_masks.shape[1]
    shift = uint64(5) if width == 32 else uint64(6)
    classes = np.empty(contexts.shape[1] * LANES, np.uint64)
    context = np.empty(trees, item_masks.dtype)
    narrowed = np.empty((0 if pairs is None else ITEMS, trees), item_masks.dtype)
    narrowed_places = np.arange(ITEMS).astype(np.uint64) * uint64(trees)
    places = places_of(items, item_masks)
    flat = item_masks.reshape(-1)
    for request in range(offsets.size - 1):
        start, end = offsets[request], offsets[request + 1]
        fetch_items(flat, places[start : min(start + ITEMS, end)], TREES + 8)
        classify(contexts, request, 1, lines, classes)
        context[:] = ~context.dtype.type(0)
        for index in range(features.size):
            narrow_row(context, tables, uint64(table_offsets[index]) + classes[features[index] * LANES])
        scores[start:end] = 0.0  # and not all at once: the request before added to what comes after its own
        for first in range(start, end, ITEMS):
            count = min(ITEMS, end - first)
            if pairs is None:
                add_leaves(flat, places[first:], count, context, values, shift, scores[first:])
            else:
                narrow_to_pairs(pairs, first, count, flat, places, classes, narrowed)
                add_leaves(narrowed.reshape(-1), narrowed_places, count, context, values, shift, scores[first:])
    for place in range(items.size):
        scores[place] /= divisor[0]


# The rest takes a moment, and keeps the interpreter: whoever lets go of it waits until a busy loop lets go of it, too.


@compiled
def offsets_are_sound(offsets, end):  # type: ignore[no-untyped-def]
    """Whether they never fall, from 0 to `end`."""
    sound = offsets[0] == 0 and offsets[-1] == end
    for request in range(offsets.size - 1):
        sound &= offsets[request] <= offsets[request + 1]
    return sound


@compiled
def extremes(items):  # type: ignore[no-untyped-def]
    """The lowest item, at most 0, and the highest, at least -1."""
    lowest, highest = 0, -1
    for item in items:
        lowest, highest = min(lowest, item), max(highest, item)
    return lowest, highest


@compiled
def put_own(items, own_scores, scores):  # type: ignore[no-untyped-def]
    """Give each item `~k` the k-th of `own_scores`."""
    for place in range(items.size):
        if items[place] < 0:
            scores[place] = own_scores[uint64(~items[place])]


@compiled
def all_finite(numbers):  # type: ignore[no-untyped-def]
    for number in numbers:  # noqa: SIM110 see above
        if not np.isfinite(number):
            return False
    return True
