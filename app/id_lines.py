"""Ids as lines of one text, which kernels read: with a line feed behind each, they are hashed and compared in words."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

from app.words import INLINE, PADDING, as_word, bytes_before, first_bytes, mixed_with, word_at

END: Final = "\n" + "\0" * PADDING

_0, _1, _8, _PADDING = (np.uint64(number) for number in (0, 1, 8, PADDING))
_UPPER: Final = np.uint64(2**64 - 2**32)
_START: Final = np.uint64(2**32 - 1)
_LINE_FEEDS = as_word(b"\n" * 8)


class IdLines(Sequence[str]):
    """Ids that came as lines: `text` has each of `count` with a line feed behind it, and `PADDING` zeros at its end.

    They are plain: ASCII, and between quotes they are JSON as they stand. Texts of their own are made of them once
    somebody asks for one.
    """

    __slots__ = ("_count", "_texts", "text")

    def __init__(self, text: NDArray[np.uint8], count: int) -> None:
        self.text = text
        self._count = count
        self._texts: list[str] | None = None

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts())

    def __getitem__(self, place: Any) -> Any:
        return self.texts()[place]

    def texts(self) -> list[str]:
        """One by one."""
        if self._texts is None:
            self._texts = str(self.text[: -len(END)].data, "ascii").split("\n")
        return self._texts


def lines_of(ids: Sequence[str]) -> NDArray[np.uint8] | None:
    """Ids as kernels read them; None where that cannot be, for half of a surrogate pair has no UTF-8.

    Of ids that are no `IdLines` one may have a line feed in it, and then there are more lines than ids.
    """
    if type(ids) is IdLines:
        return ids.text
    try:
        return as_text("\n".join(ids) + END)
    except UnicodeEncodeError:
        return None


def as_text(text: str) -> NDArray[np.uint8]:
    """Its bytes. That they may be written to makes them of the one type that kernels are compiled for."""
    return np.frombuffer(bytearray(text.encode()), np.uint8)


@njit(**INLINE)
def end_of_lines(text):  # type: ignore[no-untyped-def]
    """Where the last line feed was."""
    return uint64(text.size) - _PADDING


@njit(**INLINE)
def line_at(text, place):  # type: ignore[no-untyped-def]
    """Where the line behind the one at `place` begins, and this one's hash."""
    mixed = _0
    while True:
        word = word_at(text, place)
        before = bytes_before(word, _LINE_FEEDS)
        if before < _8:
            return place + before + _1, mixed_with(mixed, first_bytes(word, before + _1))
        mixed = mixed_with(mixed, word)
        place += _8


@njit(**INLINE)
def end_of_line(text, place):  # type: ignore[no-untyped-def]
    """Where the line behind the one at `place` begins."""
    before = bytes_before(word_at(text, place), _LINE_FEEDS)
    while before == _8:
        place += _8
        before = bytes_before(word_at(text, place), _LINE_FEEDS)
    return place + before + _1


@njit(**INLINE)
def is_line(text, place, end, other, start):  # type: ignore[no-untyped-def]
    """Whether the line of `text` from `place` to `end` is the one of `other` at `start`."""
    while place < end:
        if first_bytes(word_at(text, place) ^ word_at(other, start), end - place):
            return False
        place += _8
        start += _8
    return True


@njit(**INLINE)
def are_distinct(text, lines, seen, turn):  # type: ignore[no-untyped-def]
    """Whether no line of the first so many stands twice.

    `seen` (slots, 2) is scratch, of more than twice as many slots as lines, a power of two; few lines use few of them,
    which so stay in the nearest cache. What was written there in another `turn` does not count: the turn, and a part of
    a line's hash with where it starts.
    """
    slots, place = _1, _0
    while slots <= lines:
        slots <<= _1
    last = (slots << _1) - _1
    for _ in range(lines):
        after, mixed = line_at(text, place)
        slot = mixed & last
        while seen[slot, 0] == turn:
            found = seen[slot, 1]
            if not (found ^ mixed) & _UPPER and is_line(text, place, after, text, found & _START):
                return False
            slot = slot + _1 & last
        seen[slot, 0], seen[slot, 1] = turn, mixed & _UPPER | place
        place = after
    return True
