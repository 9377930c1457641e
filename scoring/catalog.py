"""Known activities, prepared for being ranked in any context: what can be done before a request comes is done then.

A value of one feature rules out leaves of every tree, whatever the other features say. The leaves that are left are a
bit mask a tree; masks of several features are ANDed; the lowest bit left is the leaf of the row (QuickScorer: Lucchese
et al., SIGIR 2015). An activity's features give one vector of masks, made once. A request's context gives another.
What remains a row is `item & context`, the lowest bits, and the sum in tree order.
"""

from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from scoring import kernels
from scoring.compiled import CompiledEngine, plain
from scoring.decisions import Line
from scoring.engine import Engine
from scoring.errors import NotCompilableError, RowsError, VerificationError
from scoring.reference import check_rows
from scoring.shared_array import held_in_common
from scoring.tables import draw_lines, joined_trees
from scoring.verification import adversarial_rows

DEFAULT_CATALOG_BYTES: Final = 512 * 2**20
MAX_LEAVES: Final = 64  # a mask is one word
_PROOF_CONTEXTS: Final = 20
_PROOF_ACTIVITIES: Final = 100
_PROOF_OWN: Final = 7

Floats = NDArray[np.float64]


class Catalog(Protocol):
    """Activities by index, scored in a request's context. Thread-safe; releases the GIL while it scores."""

    @property
    def reason(self) -> str:
        """Why the activities are held the way they are."""

    @property
    def activities(self) -> int:
        """How many there are."""

    @property
    def bytes_used(self) -> int:
        """Memory held for them."""

    def score(
        self,
        contexts: Floats,
        offsets: NDArray[np.int64],
        items: NDArray[np.int64],
        own: Floats,
        pairs: Floats | None = None,
    ) -> Floats:
        """Scores of the candidates of several requests, bit for bit those of `Engine.score` for the whole rows.

        `contexts` (requests, features) holds each request's context columns; its other columns are not read. Request
        r's candidates are `items[offsets[r]:offsets[r + 1]]`: an activity's index, or `~k` for the row `own[k]`, which
        is whole, its context columns included. `pairs` (items, pair columns) holds what belongs to a request and one
        of its candidates, and is left out where there are no such columns; that of an `own` row is not read.
        Raises `RowsError` for shapes and for an item out of range, nothing scored.
        """


def load_catalog(
    engine: Engine,
    rows: Floats,
    context: NDArray[np.bool_],
    pairs: NDArray[np.bool_] | None = None,
    *,
    budget_bytes: int = DEFAULT_CATALOG_BYTES,
    shared: Path | None = None,
) -> Catalog:
    """Prepare activities: `rows` (activities, features), whose `context` and `pairs` columns are not read.

    Both are masks over features: what belongs to a request, and what belongs to a request and one of its candidates.
    Masks need a compiled engine, trees of at most 64 leaves and trees x 8 bytes an activity (x 4 up to 32 leaves).
    Where that cannot be, or `budget_bytes` would not hold it, rows are kept and scored whole; `reason` says why.
    Processes that name the same folder `shared` hold one copy of the activities' masks among them.
    """
    check_rows(rows, engine.features)
    pairs = np.zeros(engine.features, np.bool_) if pairs is None else pairs
    if not isinstance(engine, CompiledEngine):
        reason = f"the {engine.name} engine has no masks: {engine.reason}"
        return RowCatalog(engine, rows, context, pairs, reason=reason)
    try:
        catalog = MaskCatalog(engine, rows, context, pairs, budget_bytes=budget_bytes, shared=shared)
        _prove(catalog, engine, rows, context, pairs)
    except NotCompilableError as error:
        return RowCatalog(engine, rows, context, pairs, reason=str(error))
    return catalog


def _prove(
    catalog: Catalog, engine: CompiledEngine, rows: Floats, context: NDArray[np.bool_], pairs: NDArray[np.bool_]
) -> None:
    """Score a sample in adversarial contexts both ways; which also compiles the kernel before a request needs it."""
    contexts = adversarial_rows(engine.model, _PROOF_CONTEXTS)
    sample = np.linspace(0, max(len(rows) - 1, 0), min(len(rows), _PROOF_ACTIVITIES)).astype(np.int64)
    offsets = np.arange(_PROOF_CONTEXTS + 1) * len(sample)
    items = np.tile(sample, _PROOF_CONTEXTS)
    given = adversarial_rows(engine.model, len(items))[:, pairs].copy()
    whole = _in_context(rows[items], contexts, offsets, context)
    whole[:, pairs] = given
    expected = engine.score(whole)
    own = whole[::_PROOF_OWN].copy()  # these come as rows of a caller's own
    items[::_PROOF_OWN] = ~np.arange(len(own))
    found = catalog.score(contexts, offsets, items, own, given)
    if found.tobytes() != expected.tobytes():
        raise VerificationError(
            f"the masks of {np.sum(found != expected)} of {len(items)} candidates score differently"
        )


class RowCatalog:
    """Activities as rows: a request's rows are put together and scored whole."""

    def __init__(
        self, engine: Engine, rows: Floats, context: NDArray[np.bool_], pairs: NDArray[np.bool_], *, reason: str
    ) -> None:
        self.reason = reason
        self._engine, self._rows, self._context, self._pairs = engine, rows.copy(), context.copy(), pairs.copy()

    @property
    def activities(self) -> int:
        return len(self._rows)

    @property
    def bytes_used(self) -> int:
        return self._rows.nbytes

    def score(
        self,
        contexts: Floats,
        offsets: NDArray[np.int64],
        items: NDArray[np.int64],
        own: Floats,
        pairs: Floats | None = None,
    ) -> Floats:
        contexts, offsets, items = plain(contexts), plain(offsets), plain(items)
        _check_shapes(self._engine.features, contexts, offsets, items, own)
        any_is_known = _any_is_known(items, self.activities, len(own))
        pairs = _checked_pairs(pairs, len(items), int(self._pairs.sum()))
        if not any_is_known:
            return self._engine.score(own[~items])
        rows = _in_context(self._rows[np.maximum(items, 0)], contexts, offsets, self._context)
        rows[:, self._pairs] = pairs
        rows[items < 0] = own[~items[items < 0]]
        return self._engine.score(rows)


class MaskCatalog:
    """Activities as masks of the leaves that their features leave possible."""

    def __init__(
        self,
        engine: CompiledEngine,
        rows: Floats,
        context: NDArray[np.bool_],
        pairs: NDArray[np.bool_],
        *,
        budget_bytes: int,
        shared: Path | None = None,
    ) -> None:
        """Raises `NotCompilableError` for trees of more than 64 leaves and for more bytes than the budget."""
        trees, self._width = engine.model.trees, _mask_width(engine)
        self._engine = engine
        dtype = np.uint32 if self._width == 32 else np.uint64
        lines = draw_lines(engine.model)
        if any(len(line.codes) != engine.tables.last_classes[line.splits.feature] + 1 for line in lines):
            raise NotCompilableError("the tables know other classes than the model")
        of_contexts = [line for line in lines if context[line.splits.feature]]
        of_pairs = [line for line in lines if pairs[line.splits.feature]]
        of_activities = [line for line in lines if not (context | pairs)[line.splits.feature]]
        rows_needed = len(rows) + sum(len(line.codes) for line in of_contexts + of_pairs)
        needed = rows_needed * len(trees) * np.dtype(dtype).itemsize + len(trees) * self._width * 8
        if needed > budget_bytes:
            raise NotCompilableError(
                f"the masks of {len(rows)} activities need {needed} bytes, {budget_bytes} are allowed"
            )
        self._split_masks: NDArray[np.uint64]
        self._values: Floats
        self._split_masks, self._values = kernels.left_masks(
            np.array([tree.leaves for tree in trees]), *joined_trees(engine.model), self._width
        )
        self._first_split = np.concatenate([[0], np.cumsum([tree.leaves - 1 for tree in trees])])
        self._features = np.array([line.splits.feature for line in of_contexts], dtype=np.int64)
        self._tables, self._table_offsets = self._joined_tables(of_contexts, dtype)
        columns = np.flatnonzero(pairs)
        self._pairs = len(columns)
        pair_columns = np.searchsorted(columns, [line.splits.feature for line in of_pairs]).astype(np.int64)
        self._of_pairs = (pair_columns, _lines_of(engine, columns), *self._joined_tables(of_pairs, dtype))
        self._item_masks = held_in_common(
            shared,
            lambda: self._masks(rows, of_activities, dtype),
            of=(engine.model.sha256.encode(), rows, context, pairs),
        )
        self.reason = f"masks of {np.dtype(dtype).itemsize * 8} bits for {len(trees)} trees"

    @property
    def activities(self) -> int:
        return len(self._item_masks)

    @property
    def bytes_used(self) -> int:
        return self._item_masks.nbytes + self._tables.nbytes + self._of_pairs[2].nbytes + self._values.nbytes

    def score(
        self,
        contexts: Floats,
        offsets: NDArray[np.int64],
        items: NDArray[np.int64],
        own: Floats,
        pairs: Floats | None = None,
    ) -> Floats:
        contexts, offsets, items = plain(contexts), plain(offsets), plain(items)
        _check_shapes(self._engine.features, contexts, offsets, items, own)
        any_is_known = _any_is_known(items, self.activities, len(own))
        if self._pairs:
            pairs = _checked_pairs(pairs, len(items), self._pairs)
        of_pairs = (pairs, *self._of_pairs) if self._of_pairs[0].size else None
        scores = np.empty(len(items) + kernels.ABREAST)
        if any_is_known:
            kernels.score_requests(
                contexts, offsets, items, self._features, self._engine.lines, self._tables, self._table_offsets,
                of_pairs, self._item_masks, self._values, self._width, self._engine.tables.divisor, scores,
            )  # fmt: skip
        if len(own):
            kernels.put_own(items, self._engine.score(own), scores)
        return scores[: len(items)]

    def _scratch(self) -> NDArray[np.uint64]:
        return np.empty(self._engine.features * kernels.LANES, np.uint64)

    def _table(self, line: Line, dtype: type) -> NDArray[np.unsignedinteger]:
        """Masks of one feature, (classes, trees)."""
        splits = line.splits
        table: NDArray[np.unsignedinteger] = np.full((len(line.codes), self._engine.trees), np.iinfo(dtype).max, dtype)
        masks = self._split_masks[self._first_split[splits.tree] + splits.node]
        kernels.fill_mask_table(line.codes, line.column, line.limit, splits.tree, masks, table)
        return table

    def _joined_tables(self, lines: list[Line], dtype: type) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int64]]:
        tables = np.concatenate([np.empty(0, dtype), *(self._table(line, dtype).ravel() for line in lines)])
        return tables, np.concatenate([[0], np.cumsum([len(line.codes) for line in lines], dtype=np.int64)])

    def _masks(self, rows: Floats, lines: list[Line], dtype: type) -> NDArray[np.unsignedinteger]:
        masks: NDArray[np.unsignedinteger] = np.full((len(rows), self._engine.trees), np.iinfo(dtype).max, dtype)
        classes = np.empty(rows.shape, np.uint32)
        kernels.classify_rows(plain(rows), self._engine.lines, self._scratch(), classes)
        for line in lines:
            kernels.narrow(masks, self._table(line, dtype), classes, line.splits.feature)
        return masks


def _mask_width(engine: CompiledEngine) -> Literal[32, 64]:
    most = max(tree.leaves for tree in engine.model.trees)
    if most > MAX_LEAVES:
        raise NotCompilableError(f"a tree has {most} leaves and a mask holds {MAX_LEAVES}")
    return 32 if most <= 32 else 64


def _lines_of(engine: CompiledEngine, features: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
    """What classifies the values of these features alone: `engine.lines` as they would be if there were no others."""
    tables = engine.tables

    def part(array: NDArray[Any], offsets: NDArray[np.int64], size: int = 1) -> NDArray[Any]:
        own = [array[size * offsets[feature] : size * offsets[feature + 1]] for feature in features]
        return np.concatenate([array[:0], *own])

    def offsets_of(offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum(np.diff(offsets)[features])]).astype(np.int64)

    lines = (
        part(tables.boundaries, tables.block_offsets, kernels.BLOCK),
        part(tables.blocks, tables.block_offsets),
        offsets_of(tables.block_offsets),
        part(tables.categories, tables.category_offsets),
        offsets_of(tables.category_offsets),
        tables.last_classes[features],
        *engine.lines[6:],  # which classes do not need
    )
    for array in lines:
        array.setflags(write=False)
    return lines


def _in_context(rows: Floats, contexts: Floats, offsets: NDArray[np.int64], context: NDArray[np.bool_]) -> Floats:
    request = np.repeat(np.arange(len(contexts)), np.diff(offsets))
    rows[:, context] = contexts[request][:, context]
    return rows


def _check_shapes(
    features: int, contexts: Floats, offsets: NDArray[np.int64], items: NDArray[np.int64], own: Floats
) -> None:
    check_rows(contexts, features)
    check_rows(own, features)
    if offsets.dtype != np.int64 or items.dtype != np.int64 or offsets.ndim != 1 or items.ndim != 1:
        raise RowsError(f"offsets are {offsets.dtype} and items {items.dtype}; allowed are vectors of int64")
    if len(offsets) != len(contexts) + 1 or not kernels.offsets_are_sound(offsets, len(items)):
        problem = f"{len(offsets)} offsets for {len(contexts)} requests and {len(items)} items"
        raise RowsError(f"{problem}; allowed is one more than requests, never falling, from 0 to the number of items")


def _checked_pairs(pairs: Floats | None, items: int, columns: int) -> Floats:
    pairs = np.empty((items, 0)) if pairs is None else pairs
    if pairs.shape != (items, columns) or pairs.dtype != np.float64:
        raise RowsError(f"pairs are {pairs.dtype} of shape {pairs.shape}; allowed is float64 of {(items, columns)}")
    return plain(pairs)


def _any_is_known(items: NDArray[np.int64], activities: int, own: int) -> bool:
    """Whether any item is an activity, and no own row. Raises `RowsError` for one that is neither."""
    lowest, highest = kernels.extremes(items)
    if lowest < -own or highest >= activities:
        raise RowsError(f"items from {items.min()} to {items.max()}; allowed is {-own} to {activities - 1}")
    return bool(highest >= 0)
