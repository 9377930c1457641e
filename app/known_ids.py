"""Where known activities are, by id: a hash table that looks thousands of ids up at once.

A dict follows pointers to an entry and to a text, one id after the other, and each of them waits for memory. Here the
looks at one id do not depend on those at another, so that a processor has many of them under way.

"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

from app.id_lines import end_of_line, end_of_lines, is_line, line_at, lines_of
from app.words import INLINE
from scoring.kernel_cache import compiled
from scoring.kernels import fetch_ahead

Places = NDArray[np.int64]

_0, _1, _32 = (np.uint64(number) for number in (0, 1, 32))
_START: Final = np.uint64(2**32 - 1)
_NOBODY: Final = np.uint64(2**64 - 1)


class KnownIds:
    """Places of known ids, from 0 on, in the order in which they are given."""

    def __init__(self, places: Mapping[str, int]) -> None:
        self._places = places
        self._text = lines_of(list(places))
        self._slots = np.full((1 << (2 * len(places)).bit_length(), 2), _NOBODY, np.uint64)
        # Ids of which one has a line feed in it are looked up one by one.
        self._in_lines = self._text is not None and bool(fill(self._text, np.uint64(len(places)), self._slots))
        self.find(["A"])  # compiles

    def find(self, ids: Sequence[str]) -> tuple[Places, int]:
        """The place of each id, the number of known ones for a stranger; and how many strangers there are."""
        found = np.empty(len(ids), np.int64)
        if self._in_lines and (text := lines_of(ids)) is not None:
            strangers = find_lines(text, self._text, self._slots, len(self._places), found)
            if strangers >= 0:
                return found, strangers
        found[:] = [self._places.get(one, len(self._places)) for one in ids]
        return found, int(np.count_nonzero(found == len(self._places)))


def _fill_slots(text, lines, slots):  # type: ignore[no-untyped-def]
    """Put all lines of `text` into `slots`: a hash, and a place and where its line starts; False for more or less."""
    last, place = uint64(slots.shape[0]) - _1, _0
    size = end_of_lines(text)
    for line in range(lines):
        if place >= size:
            return False
        after, mixed = line_at(text, place)
        slot = mixed & last
        while slots[slot, 1] != _NOBODY:
            slot = slot + _1 & last
        slots[slot, 0], slots[slot, 1] = mixed, line << _32 | place
        place = after
    return place == size


@njit(**INLINE)
def _slot_of(mixed, slot, slots):  # type: ignore[no-untyped-def]
    """The next slot from that one on which has this hash, or nothing."""
    last = uint64(slots.shape[0]) - _1
    while slots[slot, 0] != mixed and slots[slot, 1] != _NOBODY:
        slot = slot + _1 & last
    return slot


def _find_lines(text, known, slots, stranger, found):  # type: ignore[no-untyped-def]
    """Write each line's place among the `known` ones to `found`, or `stranger`. Returns how many; -1 for more lines.

    What is looked at next is fetched for all lines first: a busy cache holds none of it, and so all come at once.
    """
    last, place, strangers = uint64(slots.shape[0]) - _1, _0, 0
    for line in range(uint64(found.size)):
        place, mixed = line_at(text, place)
        found[line] = mixed
        fetch_ahead(slots, (mixed & last) << _1)
    for line in range(uint64(found.size)):
        mixed = uint64(found[line])
        slot = _slot_of(mixed, mixed & last, slots)
        found[line] = slot
        if slots[slot, 1] != _NOBODY:
            fetch_ahead(known, slots[slot, 1] & _START)
    place = _0
    for line in range(uint64(found.size)):
        slot, after = uint64(found[line]), end_of_line(text, place)
        while slots[slot, 1] != _NOBODY and not is_line(text, place, after, known, slots[slot, 1] & _START):
            slot = _slot_of(slots[slot, 0], slot + _1 & last, slots)
        is_stranger = slots[slot, 1] == _NOBODY
        found[line] = stranger if is_stranger else slots[slot, 1] >> _32
        strangers += is_stranger
        place = after
    return strangers if place == end_of_lines(text) else -1


fill: Any = compiled(_fill_slots, nogil=True)
find_lines: Any = compiled(_find_lines)
