"""Edits of model texts, with `tree_sizes` set right again where the edit is to reach the checks behind it."""

import random
import re
from collections.abc import Iterator

NASTY = (
    "", "nan", "inf", "-inf", "1e999", "1e+999", "-1e+999", "99999999999", "4294967296", "2147483648", "-2147483649",
    "-5", "-1", "+1", "0x10", "1_0", "5.", ".5", "--1", "1e5", "00", "1 2", "1,5", "1e", "\u0661",
    "0.1234567890123456789012345", "255",
)  # fmt: skip
TREE_FIELDS = (
    "num_leaves", "num_cat", "split_feature", "split_gain", "threshold", "decision_type", "left_child", "right_child",
    "leaf_value", "leaf_weight", "leaf_count", "internal_value", "internal_weight", "internal_count",
    "cat_boundaries", "cat_threshold", "is_linear", "shrinkage",
)  # fmt: skip


def resize(text: bytes) -> bytes:
    """Write the `tree_sizes` that the text has now."""
    starts = [match.start() for match in re.finditer(rb"^Tree=", text, re.MULTILINE)]
    end = text.find(b"end of trees")
    sizes = [b"%d" % (right - left) for left, right in zip(starts, [*starts[1:], end], strict=True)]
    return re.sub(rb"(?m)^tree_sizes=.*$", b"tree_sizes=" + b" ".join(sizes), text, count=1)


def set_field(text: bytes, tree: int, name: str, value: bytes) -> bytes:
    start = text.index(b"Tree=%d\n" % tree)
    line = re.compile(rb"^" + name.encode() + rb"=.*$", re.MULTILINE)
    return resize(text[:start] + line.sub(name.encode() + b"=" + value, text[start:], count=1))


def get_field(text: bytes, tree: int, name: str) -> bytes:
    line = re.search(rb"(?m)^" + name.encode() + rb"=(.*)$", text[text.index(b"Tree=%d\n" % tree) :])
    return line.group(1) if line else b""


def mutations(text: bytes, seed: int) -> Iterator[bytes]:
    """Some 1,300 damaged forms of a text, the same ones for the same seed."""
    rng = random.Random(seed)
    yield from _truncations(text, rng)
    yield from _bytes_edited(text, rng)
    yield from _lines_edited(text, rng)
    yield from _fields_edited(text, rng)
    yield from _children_shuffled(text, rng)
    yield from _sizes_edited(text)


def _truncations(text: bytes, rng: random.Random) -> Iterator[bytes]:
    for at in [*(match.start() for match in re.finditer(b"\n", text)), *(rng.randrange(len(text)) for _ in range(60))]:
        yield text[:at]
    for at in (1, 2, 10):
        yield text[:-at]


def _bytes_edited(text: bytes, rng: random.Random) -> Iterator[bytes]:
    digits = [match.start() for match in re.finditer(rb"[0-9]", text)]
    for at in rng.sample(digits, 200):  # the length stays, so only the number's meaning can give it away
        yield text[:at] + rng.choice(b"0123456789").to_bytes(1, "big") + text[at + 1 :]
    for _ in range(100):
        at = rng.randrange(len(text))
        yield text[:at] + rng.randrange(256).to_bytes(1, "big") + text[at + 1 :]
        yield text[:at] + text[at + 1 :]
        yield text[:at] + text[at:][:1] + text[at:]


def _lines_edited(text: bytes, rng: random.Random) -> Iterator[bytes]:
    lines = text.split(b"\n")
    for _ in range(60):
        first, second = sorted(rng.sample(range(len(lines)), 2))
        deleted = lines[:first] + lines[first + 1 :]
        doubled = lines[: first + 1] + lines[first:]
        swapped = [*lines[:first], lines[second], *lines[first + 1 : second], lines[first], *lines[second + 1 :]]
        for edited in (deleted, doubled, swapped):
            yield b"\n".join(edited)
            yield resize(b"\n".join(edited))
    for key in ("num_class", "num_tree_per_iteration", "version", "max_feature_idx", "objective", "feature_names"):
        for value in ("", "0", "-1", "2", "99999999999", "multiclass num_class:3", "nan", "a b"):
            yield re.sub(rb"(?m)^" + key.encode() + rb"=.*$", f"{key}={value}".encode(), text, count=1)


def _fields_edited(text: bytes, rng: random.Random) -> Iterator[bytes]:
    for name in TREE_FIELDS:
        for value in NASTY:
            tree = rng.randrange(3)
            numbers = get_field(text, tree, name).split(b" ")
            numbers[rng.randrange(len(numbers))] = value.encode()
            yield set_field(text, tree, name, b" ".join(numbers))
        numbers = get_field(text, 0, name).split(b" ")
        yield set_field(text, 0, name, b" ".join(numbers[:-1]))
        yield set_field(text, 0, name, b" ".join([*numbers, b"1"]))


def _children_shuffled(text: bytes, rng: random.Random) -> Iterator[bytes]:
    for _ in range(60):
        tree = rng.randrange(3)
        sides = {name: get_field(text, tree, name).split(b" ") for name in ("left_child", "right_child")}
        one, two = rng.choice(list(sides.values())), rng.choice(list(sides.values()))
        first, second = rng.randrange(len(one)), rng.randrange(len(two))
        one[first], two[second] = two[second], one[first]
        edited = text
        for name, numbers in sides.items():
            edited = set_field(edited, tree, name, b" ".join(numbers))
        yield edited


def _sizes_edited(text: bytes) -> Iterator[bytes]:
    sizes = re.search(rb"(?m)^tree_sizes=(.*)$", text)
    assert sizes is not None
    numbers = [int(size) for size in sizes.group(1).split()]
    first, second, third = numbers
    for edited in (
        [], [first], [first, second], [*numbers, third], [first + 1, second - 1, third], [first, second, third - 1],
        [first, second, third + 1], [second, first, third], [0, first + second, third], [-first, *numbers[1:]],
        [first + second, third], [first, second, 10**10], [sum(numbers), 0, 0], [2**63, 2**63, 2**63],
    ):  # fmt: skip
        yield text.replace(sizes.group(), b"tree_sizes=" + b" ".join(b"%d" % size for size in edited), 1)
    yield text.replace(sizes.group() + b"\n", b"", 1)
