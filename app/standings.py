"""An order of activities: a sequence of them for whoever asks, and JSON that is made without one object for each."""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, Final

import msgspec
import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

from app.decimals import LONGEST, count_digits, put_digits, put_double
from app.id_lines import END, IdLines, as_text, line_at
from app.room import Room
from app.schemas import RankedActivity
from app.words import INLINE, as_word, bytes_before, put_word, word_at
from scoring.kernel_cache import compiled

Floats = NDArray[np.float64]
Places = NDArray[np.int64]

_0, _1, _2, _4, _7, _8, _10 = (np.uint64(number) for number in (0, 1, 2, 4, 7, 8, 10))
_BEGIN, _END = (np.uint8(byte) for byte in b"[]")
_LINE_FEEDS: Final = as_word(b"\n" * 8)
_ID: Final = as_word(b'{"id":"')
_SCORE: Final = (as_word(b'","score'), as_word(b'":'))
_POSITION: Final = (as_word(b',"positi'), as_word(b'on":'))
_NEXT: Final = as_word(b"},")

# Bytes that an activity has besides its id: its score's, and its position's 20 at most.
AROUND: Final = len('{"id":"","score":,"position":},') + LONGEST + 20

_encode = msgspec.json.Encoder().encode


class Standings(Sequence[RankedActivity]):
    """Activities from first to last: their `places` (int64) among `ids` and `scores`, which are of all candidates."""

    __slots__ = ("_activities", "ids", "places", "scores")

    def __init__(self, ids: Sequence[str], places: Places, scores: Floats) -> None:
        self.ids = ids
        self.places = places
        self.scores = scores
        self._activities: list[RankedActivity] | None = None

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[RankedActivity]:
        return iter(self._one_by_one())

    def __getitem__(self, place: Any) -> Any:
        return self._one_by_one()[place]

    def _one_by_one(self) -> list[RankedActivity]:
        if self._activities is None:
            ids = map(self.ids.__getitem__, self.places.tolist())
            self._activities = list(map(RankedActivity, ids, self.scores[self.places].tolist(), count(1)))
        return self._activities


class Weaver:
    """Makes JSON of standings, for one thread: each is written into the same memory."""

    def __init__(self) -> None:
        self._room = Room()
        self.json(Standings(IdLines(as_text("A1" + END), 1), np.zeros(1, np.int64), np.zeros(1)))  # compiles

    def json(self, standings: Standings) -> bytes:
        """What `msgspec` makes of the activities."""
        ids, places, room = standings.ids, standings.places, self._room
        if type(ids) is not IdLines:
            return _encode(list(standings))
        room.hold(len(ids.text) + AROUND * (len(places) + 1))
        return bytes(room.view[: weave(ids.text, places, standings.scores, room.text)])


@njit(**INLINE)
def _copy_line(text, place, out, used):  # type: ignore[no-untyped-def]
    """Copy a line; where the copy ends."""
    while True:
        word = word_at(text, place)
        put_word(out, used, word)
        before = bytes_before(word, _LINE_FEEDS)
        place += before
        used += before
        if before < _8:
            return used


def _weave(text, order, scores, out):  # type: ignore[no-untyped-def]
    """Write the JSON of activities into `out`, and return where it ends.

    Their ids are lines of `text`, numbered by `order` as the `scores` (lines) are.
    """
    starts, place = np.empty(scores.size, np.uint32), _0
    for line in range(uint64(starts.size)):
        starts[line] = np.uint32(place)
        place, _ = line_at(text, place)
    out[_0] = _BEGIN
    used = _1
    for position in range(uint64(order.size)):
        put_word(out, used, _ID)
        line = uint64(order[position])
        used = _copy_line(text, uint64(starts[line]), out, used + _7)
        put_word(out, used, _SCORE[0])
        put_word(out, used + _8, _SCORE[1])
        used = put_double(out, used + _10, scores[line])
        put_word(out, used, _POSITION[0])
        put_word(out, used + _8, _POSITION[1])
        used = put_digits(out, used + _8 + _4, position + _1, count_digits(position + _1))
        put_word(out, used, _NEXT)
        used += _2
    used -= uint64(order.size > 0)  # the last one has no comma behind it
    out[used] = _END
    return used + _1


weave: Any = compiled(_weave)
