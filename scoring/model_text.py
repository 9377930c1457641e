"""LightGBM's text model format, read strictly: what passes here can be given to LightGBM's own parser without fear.

That parser trusts its input: of 25 one-line edits of a valid model 18 kill the process, and some load as NaN leaves or
as the first tenth of the trees. So every number, length, index and byte count is checked here first, against what
LightGBM 4 writes (`GBDT::SaveModelToString` and `Tree::ToString`, format version v4) and nothing else.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

MAX_BYTES: Final = 256 * 2**20
MAX_LEAVES: Final = 131_072  # LightGBM's own bound on num_leaves

CATEGORICAL: Final = 1  # bits of decision_type
DEFAULT_LEFT: Final = 2
MISSING_SHIFT: Final = 2
MISSING_NONE, MISSING_ZERO, MISSING_NAN = 0, 1, 2

_INTEGER = rb"-?(?:0|[1-9][0-9]{0,9})"
_REAL = rb"-?(?:0|[1-9][0-9]{0,16})(?:\.[0-9]{1,21})?(?:e[+-][0-9]{2,3})?"
_SYNTAX = {
    "integer": _INTEGER,
    "real": _REAL,
    "real or inf": rb"(?:" + _REAL + rb"|inf)",  # a split of "is it missing?" alone has the threshold inf
    "statistic": rb"(?:" + _REAL + rb"|-?inf|-?nan)",  # never used in a score
}
_LIST = {kind: re.compile(number + rb"(?: " + number + rb")*+") for kind, number in _SYNTAX.items()}
_ONE = {kind: re.compile(number) for kind, number in _SYNTAX.items()}

_FEATURE_NAME = re.compile(r'[^\x00-\x20\x7f",:\[\]{}]+')  # LightGBM refuses JSON's special characters in names
_FEATURE_INFO = re.compile(
    rb"none|\[(?:" + _REAL + rb"|-?inf):(?:" + _REAL + rb"|-?inf)\]|" + _INTEGER + rb"(?::" + _INTEGER + rb")*+"
)
_OBJECTIVE = re.compile(
    r"lambdarank|rank_xendcg|cross_entropy|cross_entropy_lambda|binary sigmoid:[0-9]{1,8}(?:\.[0-9]{1,17})?"
    r"|(?:regression|regression_l1|huber|fair|poisson|quantile|mape|gamma|tweedie)(?: sqrt)?"
)
_PARAMETER = re.compile(r"\[[a-z0-9_]+: [^\n]*\]")


class ModelTextError(ValueError):
    """The text is no model that this service can rank with. `line` counts from 1, `tree` from 0; None: not of one."""

    def __init__(
        self, problem: str, *, line: int | None = None, tree: int | None = None, name: str | None = None
    ) -> None:
        places = (("line", line), ("tree", tree), ("field", name))
        where = ", ".join(f"{kind} {place}" for kind, place in places if place is not None)
        super().__init__(f"{where}: {problem}" if where else problem)
        self.line, self.tree, self.field = line, tree, name


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """One tree. Node 0 is the root; a child `c >= 0` is a node, `c < 0` is the leaf `~c`. Arrays are read-only.

    Arrays over splits have `leaves - 1` elements, arrays over leaves `leaves` (a tree of one leaf may lack its leaf
    weight and count). A categorical split's threshold `t` names the bitset
    `cat_threshold[cat_boundaries[t]:cat_boundaries[t + 1]]` of the categories that go left.
    """

    leaves: int
    split_feature: NDArray[np.int64]
    split_gain: NDArray[np.float64]
    threshold: NDArray[np.float64]
    decision_type: NDArray[np.int64]
    left_child: NDArray[np.int64]
    right_child: NDArray[np.int64]
    leaf_value: NDArray[np.float64]
    leaf_weight: NDArray[np.float64]
    leaf_count: NDArray[np.int64]
    internal_value: NDArray[np.float64]
    internal_weight: NDArray[np.float64]
    internal_count: NDArray[np.int64]
    cat_boundaries: NDArray[np.int64]
    cat_threshold: NDArray[np.int64]
    shrinkage: float


@dataclass(frozen=True, slots=True, eq=False)
class ModelText:
    """A validated model: its exact bytes and everything they say. Made by `parse_model_text`."""

    text: bytes = field(repr=False)
    sha256: str
    feature_names: tuple[str, ...] = field(repr=False)
    feature_infos: tuple[str, ...] = field(repr=False)
    objective: str | None  # None: trained with a function of the caller's own
    average_output: bool  # random forests: the score is the mean of the trees, not the sum
    trees: tuple[Tree, ...] = field(repr=False)
    feature_importances: Mapping[str, int] = field(repr=False)
    parameters: Mapping[str, str] = field(repr=False)
    pandas_categorical: list[list[Any]] | None = field(repr=False)

    @property
    def features(self) -> int:
        """Columns of a row."""
        return len(self.feature_names)


def parse_model_text(text: bytes) -> ModelText:
    """Read a model that LightGBM 4 wrote (`Booster.save_model`, `Booster.model_to_string`), trusting nothing.

    Raises `ModelTextError`, which names line, tree and field, what was found and what is allowed. Multi-class models,
    linear trees and more than 256 MiB are refused. What is returned can be loaded by LightGBM without harm and gives
    finite sums: every tree is one proper binary tree over known features with finite leaves.
    """
    if len(text) > MAX_BYTES:
        raise ModelTextError(f"the text has {len(text)} bytes and {MAX_BYTES} are allowed")
    _check_characters(text)
    header_end = _find(text, b"\n\n", 0, "a blank line after the header") + 2
    header = _read_header(text[: header_end - 2])
    sizes = _tree_sizes(header, len(text) - header_end)
    blocks = list(_tree_blocks(text, header_end, sizes))
    trees = _read_trees(_Source(text, blocks), len(header.names))
    tail = _read_tail(text, header_end + sum(sizes), header.names)
    return ModelText(
        text=text,
        sha256=hashlib.sha256(text).hexdigest(),
        feature_names=header.names,
        feature_infos=header.infos,
        objective=header.objective,
        average_output=header.average_output,
        trees=trees,
        feature_importances=tail.importances,
        parameters=tail.parameters,
        pandas_categorical=tail.pandas_categorical,
    )


def _check_characters(text: bytes) -> None:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise ModelTextError(f"byte {text[error.start]:#04x} is not UTF-8", line=line) from None
    for forbidden in (b"\0", b"\r"):
        at = text.find(forbidden)
        if at >= 0:
            raise ModelTextError(f"character {forbidden!r} is not allowed", line=text.count(b"\n", 0, at) + 1)


def _find(text: bytes, mark: bytes, start: int, what: str) -> int:
    at = text.find(mark, start)
    if at < 0:
        raise ModelTextError(f"the text ends before {what}", line=text.count(b"\n") + 1)
    return at


def _quote(value: bytes | str) -> str:
    shown = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return repr(shown if len(shown) <= 60 else shown[:57] + "...")


# ---- header ----


class _Header(NamedTuple):
    names: tuple[str, ...]
    infos: tuple[str, ...]
    objective: str | None
    average_output: bool
    tree_sizes: bytes
    tree_sizes_line: int


_HEADER_KEYS: Final = (
    "tree", "version", "num_class", "num_tree_per_iteration", "label_index", "max_feature_idx", "objective",
    "average_output", "feature_names", "monotone_constraints", "feature_infos", "tree_sizes",
)  # fmt: skip
_OPTIONAL_KEYS: Final = frozenset({"objective", "average_output", "monotone_constraints"})
_BARE_KEYS: Final = frozenset({"tree", "average_output"})  # a line of their own, without a value
_FIXED: Final = {"version": b"v4", "num_class": b"1", "num_tree_per_iteration": b"1"}


def _read_header(text: bytes) -> _Header:
    values, lines = _header_values(text.split(b"\n"))
    for key, allowed in _FIXED.items():
        if values[key] != allowed:
            problem = f"found {_quote(values[key])}, allowed is {_quote(allowed)}"
            raise ModelTextError(problem, line=lines[key], name=key)
    _check_one(values["label_index"], lines["label_index"], "label_index")
    width = _check_one(values["max_feature_idx"], lines["max_feature_idx"], "max_feature_idx") + 1
    names = tuple(values["feature_names"].decode().split(" "))
    infos = values["feature_infos"].split(b" ")
    for key, entries in (("feature_names", len(names)), ("feature_infos", len(infos))):
        if entries != width:
            problem = f"{entries} entries, but max_feature_idx={width - 1} means {width}"
            raise ModelTextError(problem, line=lines[key], name=key)
    _check_names(names, lines["feature_names"])
    _check_infos(infos, lines["feature_infos"])
    _check_monotone(values.get("monotone_constraints"), width, lines)
    return _Header(
        names=names,
        infos=tuple(info.decode() for info in infos),
        objective=_objective(values.get("objective"), lines),
        average_output="average_output" in values,
        tree_sizes=values["tree_sizes"],
        tree_sizes_line=lines["tree_sizes"],
    )


def _header_values(lines: Sequence[bytes]) -> tuple[dict[str, bytes], dict[str, int]]:
    """Values and line numbers of the header's keys, which come in LightGBM's order and once each."""
    values: dict[str, bytes] = {}
    numbers: dict[str, int] = {}
    rest = iter(_HEADER_KEYS)
    for number, line in enumerate(lines, start=1):
        key_bytes, equals, value = line.partition(b"=")
        for key in rest:
            if key.encode() == key_bytes and (key in _BARE_KEYS) != bool(equals):
                values[key], numbers[key] = value, number
                break
            if key not in _OPTIONAL_KEYS:
                raise ModelTextError(f"found {_quote(line)} where {key!r} belongs", line=number, name=key)
        else:
            raise ModelTextError(f"found {_quote(line)} after the last key of the header", line=number)
    missing = next((key for key in rest if key not in _OPTIONAL_KEYS), None)
    if missing is not None:
        raise ModelTextError("the header ends before this key", line=len(lines), name=missing)
    return values, numbers


def _check_one(value: bytes, line: int, name: str) -> int:
    if not _ONE["integer"].fullmatch(value) or not 0 <= int(value) < 2**31:
        problem = f"found {_quote(value)}, allowed is an integer from 0 to {2**31 - 1}"
        raise ModelTextError(problem, line=line, name=name)
    return int(value)


def _check_names(names: Sequence[str], line: int) -> None:
    for name in names:
        if not _FEATURE_NAME.fullmatch(name):
            raise ModelTextError(f"{_quote(name)} is not a feature name", line=line, name="feature_names")
    if len(set(names)) != len(names):
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise ModelTextError(f"the name {_quote(twice)} comes twice", line=line, name="feature_names")


def _check_infos(infos: Sequence[bytes], line: int) -> None:
    for info in infos:
        if not _FEATURE_INFO.fullmatch(info):
            problem = f"found {_quote(info)}, allowed are none, [low:high] and categories a:b:c"
            raise ModelTextError(problem, line=line, name="feature_infos")


def _check_monotone(value: bytes | None, width: int, lines: Mapping[str, int]) -> None:
    if value is not None and (len(signs := value.split(b" ")) != width or not {b"-1", b"0", b"1"}.issuperset(signs)):
        problem = f"found {_quote(value)}, allowed are {width} of -1, 0 and 1"
        raise ModelTextError(problem, line=lines["monotone_constraints"], name="monotone_constraints")


def _objective(value: bytes | None, lines: Mapping[str, int]) -> str | None:
    if value is None:
        return None
    if not _OBJECTIVE.fullmatch(value.decode()):
        problem = f"{_quote(value)} is not an objective with one score a row that LightGBM writes"
        raise ModelTextError(problem, line=lines["objective"], name="objective")
    return value.decode()


# ---- trees ----


class _Field(NamedTuple):
    name: str
    per: Literal["split", "leaf", "leaf or none", "bitset boundary", "bitset word"]
    kind: Literal["integer", "real", "real or inf", "statistic"]


_FIELDS: Final = (
    _Field("split_feature", "split", "integer"),
    _Field("split_gain", "split", "statistic"),
    _Field("threshold", "split", "real or inf"),
    _Field("decision_type", "split", "integer"),
    _Field("left_child", "split", "integer"),
    _Field("right_child", "split", "integer"),
    _Field("leaf_value", "leaf", "real"),
    _Field("leaf_weight", "leaf or none", "statistic"),
    _Field("leaf_count", "leaf or none", "integer"),
    _Field("internal_value", "split", "statistic"),
    _Field("internal_weight", "split", "statistic"),
    _Field("internal_count", "split", "integer"),
)
_CAT_BOUNDARIES: Final = _Field("cat_boundaries", "bitset boundary", "integer")
_CAT_THRESHOLD: Final = _Field("cat_threshold", "bitset word", "integer")


class _Block(NamedTuple):
    """The lines of one tree as key -> value, and where its first byte lies."""

    start: int
    leaves: int
    categorical_splits: int
    values: dict[str, bytes]


class _Source(NamedTuple):
    text: bytes
    blocks: list[_Block]

    def error(self, problem: str, tree: int, name: str) -> ModelTextError:
        start = self.blocks[tree].start
        at = self.text.index(b"\n" + name.encode() + b"=", start) + 1
        return ModelTextError(problem, line=self.text.count(b"\n", 0, at) + 1, tree=tree, name=name)


def _tree_sizes(header: _Header, available: int) -> list[int]:
    line, name = header.tree_sizes_line, "tree_sizes"
    if not _LIST["integer"].fullmatch(header.tree_sizes):
        problem = f"found {_quote(header.tree_sizes)}, allowed is the number of bytes of each of at least one tree"
        raise ModelTextError(problem, line=line, name=name)
    sizes = [int(size) for size in header.tree_sizes.split(b" ")]
    if min(sizes) <= 0 or sum(sizes) > available:
        problem = f"sizes from {min(sizes)} to {sum(sizes)} in all; {available} bytes follow the header"
        raise ModelTextError(problem, line=line, name=name)
    return sizes


def _tree_blocks(text: bytes, start: int, sizes: Iterable[int]) -> Iterator[_Block]:
    for tree, size in enumerate(sizes):
        yield _tree_block(text, tree, start, size)
        start += size


def _tree_block(text: bytes, tree: int, start: int, size: int) -> _Block:
    lines = text[start : start + size].split(b"\n")
    number = text.count(b"\n", 0, start) + 1 if tree == 0 else 0  # counted exactly only when an error needs it

    def error(problem: str, offset: int, name: str | None = None) -> ModelTextError:
        first = number or text.count(b"\n", 0, start) + 1
        return ModelTextError(problem, line=first + offset, tree=tree, name=name)

    if lines[0] != b"Tree=%d" % tree:
        raise error(f"found {_quote(lines[0])} where tree_sizes puts 'Tree={tree}'", 0)
    if lines[-3:] != [b"", b"", b""]:
        raise error(f"the tree does not end after the {size} bytes that tree_sizes says", len(lines) - 1)
    values: dict[str, bytes] = {}
    keys = _tree_keys(lines)
    for offset, (line, key) in enumerate(itertools.zip_longest(lines[1:-3], keys), start=1):
        if line is None or key is None or not line.startswith(key.encode() + b"="):
            raise error(f"found {_quote(line or b'')} where {key or 'a blank line'!r} belongs", offset, key)
        values[key] = line[len(key) + 1 :]
    leaves = _bounded(values["num_leaves"], 1, MAX_LEAVES)
    categorical = _bounded(values["num_cat"], 0, MAX_LEAVES)
    if leaves is None:
        raise error(f"found {_quote(values['num_leaves'])}, allowed is 1 to {MAX_LEAVES}", 1, "num_leaves")
    if categorical is None or categorical >= leaves:
        raise error(f"found {_quote(values['num_cat'])}, allowed is 0 to {leaves - 1}", 2, "num_cat")
    if values["is_linear"] != b"0":
        raise error(f"found {_quote(values['is_linear'])}, allowed is 0: no linear trees", len(lines) - 5, "is_linear")
    return _Block(start, leaves, categorical, values)


_TREE_KEYS: Final = ("num_leaves", "num_cat", *(spec.name for spec in _FIELDS))
_CATEGORY_KEYS: Final = (_CAT_BOUNDARIES.name, _CAT_THRESHOLD.name)
_LAST_KEYS: Final = ("is_linear", "shrinkage")


def _tree_keys(lines: Sequence[bytes]) -> tuple[str, ...]:
    categories = () if len(lines) > 2 and lines[2] == b"num_cat=0" else _CATEGORY_KEYS
    return (*_TREE_KEYS, *categories, *_LAST_KEYS)


def _bounded(value: bytes, low: int, high: int) -> int | None:
    number = int(value) if _ONE["integer"].fullmatch(value) else None
    return number if number is not None and low <= number <= high else None


def _read_trees(source: _Source, features: int) -> tuple[Tree, ...]:
    columns = {spec.name: _read_field(source, spec, _lengths(source, spec)) for spec in (*_FIELDS, _CAT_BOUNDARIES)}
    words = _bitset_words(source, columns["cat_boundaries"])
    columns["cat_threshold"] = _read_field(source, _CAT_THRESHOLD, words)
    shrinkage = _read_shrinkage(source)
    forest = _Forest(source, columns)
    _check_range(forest, "split_feature", 0, features - 1)
    _check_range(forest, "cat_threshold", 0, 2**32 - 1)
    _check_decisions(forest)
    _check_shape(forest)
    _check_leaves(forest)
    return tuple(
        Tree(leaves=block.leaves, shrinkage=rate, **{name: column[index] for name, column in columns.items()})
        for index, (block, rate) in enumerate(zip(source.blocks, shrinkage, strict=True))
    )


class _Column:
    """One field of all trees: `flat` from `offsets[t]` to `offsets[t + 1]` is tree t's."""

    def __init__(self, flat: NDArray[Any], lengths: Sequence[int]) -> None:
        flat.setflags(write=False)
        self.flat = flat
        self.offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))

    def __getitem__(self, tree: int) -> NDArray[Any]:
        return self.flat[self.offsets[tree] : self.offsets[tree + 1]]

    def place(self, index: int) -> tuple[int, int]:
        """Return the tree of a flat index, and the index within that tree."""
        tree = int(np.searchsorted(self.offsets, index, side="right")) - 1
        return tree, index - int(self.offsets[tree])


class _Forest(NamedTuple):
    source: _Source
    columns: dict[str, _Column]

    def refuse(self, name: str, faults: NDArray[np.bool_], allowed: str) -> None:
        """Raise for the first fault in a field, if there is one."""
        if faults.any():
            index = int(np.argmax(faults))
            tree, position = self.columns[name].place(index)
            problem = f"element {position} is {self.columns[name].flat[index]}, allowed is {allowed}"
            raise self.source.error(problem, tree, name)


def _lengths(source: _Source, spec: _Field) -> list[int]:
    """How many elements each tree's line must have."""
    if spec.per == "split":
        return [block.leaves - 1 for block in source.blocks]
    if spec.per == "leaf":
        return [block.leaves for block in source.blocks]
    if spec.per == "leaf or none":  # a constant tree may be written without its leaf's weight and count
        return [0 if b.leaves == 1 and not b.values[spec.name] else b.leaves for b in source.blocks]
    return [b.categorical_splits + 1 if b.categorical_splits else 0 for b in source.blocks]


def _read_field(source: _Source, spec: _Field, lengths: Sequence[int]) -> _Column:
    """All trees' numbers of one field, read in one go."""
    lists = [block.values.get(spec.name, b"") for block in source.blocks]
    for tree, (value, length) in enumerate(zip(lists, lengths, strict=True)):
        if (value.count(b" ") + 1 if value else 0) != length:
            found = len(value.split(b" ")) if value else 0
            raise source.error(f"{found} elements, allowed are {length}", tree, spec.name)
    joined = b" ".join(value for value in lists if value)
    if joined and not _LIST[spec.kind].fullmatch(joined):
        raise _misspelt(source, spec)
    flat = np.fromstring(joined, dtype=np.int64 if spec.kind == "integer" else np.float64, sep=" ")
    column = _Column(flat, lengths)
    if spec.kind in {"real", "real or inf"} and np.isinf(flat).sum() != joined.count(b"inf"):
        raise _too_large(source, spec)
    if spec.kind == "integer" and flat.size and (flat.min() < -(2**31) or flat.max() >= 2**32):
        _Forest(source, {spec.name: column}).refuse(spec.name, (flat < -(2**31)) | (flat >= 2**32), "32 bits")
    return column


def _misspelt(source: _Source, spec: _Field) -> ModelTextError:
    for tree, block in enumerate(source.blocks):
        for position, number in enumerate(block.values.get(spec.name, b"").split(b" ")):
            if block.values.get(spec.name) and not _ONE[spec.kind].fullmatch(number):
                problem = f"element {position} is {_quote(number)}, allowed is: {spec.kind}, as LightGBM writes it"
                return source.error(problem, tree, spec.name)
    raise AssertionError("a list that does not match has an element that does not match")


def _too_large(source: _Source, spec: _Field) -> ModelTextError:
    for tree, block in enumerate(source.blocks):
        for position, number in enumerate(block.values[spec.name].split(b" ")):
            if number and number != b"inf" and np.isinf(float(number)):
                problem = f"element {position} is {_quote(number)}, allowed is a number that a double can hold"
                return source.error(problem, tree, spec.name)
    raise AssertionError("an infinity was read, so one was written")


def _read_shrinkage(source: _Source) -> list[float]:
    for tree, block in enumerate(source.blocks):
        if not _ONE["real"].fullmatch(block.values["shrinkage"]):
            problem = f"found {_quote(block.values['shrinkage'])}, allowed is a number"
            raise source.error(problem, tree, "shrinkage")
    return [float(block.values["shrinkage"]) for block in source.blocks]


def _check_range(forest: _Forest, name: str, low: int, high: int) -> None:
    flat = forest.columns[name].flat
    forest.refuse(name, (flat < low) | (flat > high), f"{low} to {high}")


def _bitset_words(source: _Source, boundaries: _Column) -> list[int]:
    """32-bit words of each tree's bitsets together, which is where its boundaries end."""
    for tree, block in enumerate(source.blocks):
        own = boundaries[tree]
        if block.categorical_splits and (own[0] != 0 or (np.diff(own) <= 0).any()):
            raise source.error("allowed are rising numbers from 0", tree, "cat_boundaries")
    return [int(boundaries[tree][-1]) if block.categorical_splits else 0 for tree, block in enumerate(source.blocks)]


def _check_decisions(forest: _Forest) -> None:
    """Legal bits, and as many categorical splits as num_cat says, each with a bitset of its own."""
    decisions, thresholds = forest.columns["decision_type"].flat, forest.columns["threshold"].flat
    categorical = (decisions & CATEGORICAL) != 0
    legal = np.where(categorical, np.isin(decisions, (1, 5, 9)), np.isin(decisions, (0, 2, 4, 6, 8, 10)))
    forest.refuse("decision_type", ~legal, "0, 2, 4, 6, 8, 10 (numerical) or 1, 5, 9 (categorical)")
    tree_of = np.repeat(np.arange(len(forest.source.blocks)), [block.leaves - 1 for block in forest.source.blocks])
    found = np.bincount(tree_of[categorical], minlength=len(forest.source.blocks))
    for tree, block in enumerate(forest.source.blocks):
        if found[tree] != block.categorical_splits:
            problem = f"{found[tree]} categorical splits, but num_cat={block.categorical_splits}"
            raise forest.source.error(problem, tree, "decision_type")
    bitsets = np.array([block.categorical_splits for block in forest.source.blocks])[tree_of]
    fits = (thresholds == np.floor(thresholds)) & (thresholds >= 0) & (thresholds < bitsets)
    forest.refuse("threshold", categorical & ~fits, "the index of a bitset below num_cat")


def _check_shape(forest: _Forest) -> None:
    """Each node but the root and each leaf is the child of exactly one node, and a node comes after its parent.

    That is how LightGBM numbers them, and together it means: one tree, no cycle, nothing out of reach.
    """
    leaves = np.array([block.leaves for block in forest.source.blocks])
    tree_of = np.repeat(np.arange(leaves.size), leaves - 1)
    most = leaves[tree_of]
    parent = np.arange(tree_of.size) - forest.columns["left_child"].offsets[:-1][tree_of]
    for name in ("left_child", "right_child"):
        child = forest.columns[name].flat
        within = np.where(child >= 0, (child > parent) & (child < most - 1), ~child < most)
        forest.refuse(name, ~within, "a later node or a leaf of the tree")
    both = np.concatenate([forest.columns["left_child"].flat, forest.columns["right_child"].flat])
    first = np.concatenate([[0], np.cumsum(2 * leaves - 1)])[:-1]  # a tree's nodes, then its leaves
    offset = np.concatenate([first[tree_of], first[tree_of]])
    places = offset + np.where(both >= 0, both, np.concatenate([most, most]) - 1 + ~both)
    seen = np.bincount(places, minlength=int((2 * leaves - 1).sum()))
    expected = np.ones_like(seen)
    expected[first] = 0  # the root, which in a tree of one leaf is that leaf
    if (seen != expected).any():
        index = int(np.argmax(seen != expected))
        tree = int(np.searchsorted(first, index, side="right")) - 1
        place, nodes = index - int(first[tree]), int(leaves[tree]) - 1
        what = f"node {place}" if place < nodes else f"leaf {place - nodes}"
        raise forest.source.error(f"{what} is a child {seen[index]} times, allowed is once", tree, "left_child")


def _check_leaves(forest: _Forest) -> None:
    column = forest.columns["leaf_value"]
    largest = np.maximum.reduceat(np.abs(column.flat), column.offsets[:-1])
    with np.errstate(over="ignore"):
        overflow = np.isinf(np.cumsum(largest))
    if overflow.any():
        tree = int(np.argmax(overflow))
        raise forest.source.error("with this tree the sum of the leaves can be infinite", tree, "leaf_value")


# ---- what follows the trees ----


class _Tail(NamedTuple):
    importances: dict[str, int]
    parameters: dict[str, str]
    pandas_categorical: list[list[Any]] | None


def _read_tail(text: bytes, start: int, names: Sequence[str]) -> _Tail:
    first_line = text.count(b"\n", 0, start) + 1
    lines = _Lines(text[start:].decode().split("\n"), first_line)
    lines.expect("end of trees", "", "feature_importances:")
    importances = _importances(lines, frozenset(names))
    lines.expect("parameters:")
    parameters = dict(_parameters(lines))
    lines.expect("end of parameters", "")
    categories = _pandas_categorical(lines, len(names))
    lines.expect("")
    lines.end()
    return _Tail(importances, parameters, categories)


class _Lines:
    """A cursor over the lines that follow the trees."""

    def __init__(self, lines: list[str], first_number: int) -> None:
        self._lines, self._first, self._next = lines, first_number, 0

    def take(self, expected: str) -> str:
        if self._next >= len(self._lines):
            raise ModelTextError(f"the text ends before {expected!r}", line=self._first + len(self._lines) - 1)
        self._next += 1
        return self._lines[self._next - 1]

    def expect(self, *expected: str) -> None:
        for line in expected:
            found = self.take(line)
            if found != line:
                raise self.error(f"found {_quote(found)} where {line!r} belongs")

    def until_blank(self, what: str) -> Iterator[str]:
        while (line := self.take(what)) != "":
            yield line

    def end(self) -> None:
        if self._next != len(self._lines):
            self._next += 1
            raise self.error(f"found {_quote(self._lines[self._next - 1])} after the end of the model")

    def error(self, problem: str, name: str | None = None) -> ModelTextError:
        return ModelTextError(problem, line=self._first + self._next - 1, name=name)


def _importances(lines: _Lines, names: frozenset[str]) -> dict[str, int]:
    importances: dict[str, int] = {}
    for line in lines.until_blank("the end of feature_importances"):
        name, _, count = line.rpartition("=")
        if name not in names or name in importances or not re.fullmatch(r"[1-9][0-9]{0,18}", count):
            problem = f"found {_quote(line)}, allowed is a feature's name once, and a count"
            raise lines.error(problem, "feature_importances")
        importances[name] = int(count)
    return importances


def _parameters(lines: _Lines) -> Iterator[tuple[str, str]]:
    for line in lines.until_blank("the end of parameters"):
        if not _PARAMETER.fullmatch(line):
            raise lines.error(f"found {_quote(line)}, allowed is [name: value]", "parameters")
        name, _, value = line[1:-1].partition(": ")
        yield name, value


def _pandas_categorical(lines: _Lines, features: int) -> list[list[Any]] | None:
    key = "pandas_categorical:"
    line = lines.take(key)
    if not line.startswith(key):
        raise lines.error(f"found {_quote(line)} where {key!r} belongs")
    try:
        value = json.loads(line.removeprefix(key))
    except (ValueError, RecursionError):
        raise lines.error("what follows is not JSON", "pandas_categorical") from None
    if value is not None and not _lists_of_categories(value, features):
        problem = f"allowed is null or at most {features} lists of strings, numbers and booleans"
        raise lines.error(problem, "pandas_categorical")
    return cast("list[list[Any]] | None", value)


def _lists_of_categories(value: object, most: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= most
        and all(isinstance(entries, list) for entries in value)
        and all(isinstance(entry, str | int | float | bool) for entries in value for entry in entries)
    )
