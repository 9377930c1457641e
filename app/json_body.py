"""Rankings as JSON: a body of the usual form is read into columns, every other one candidate by candidate."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from app import json_scan
from app.columns import Columns
from app.id_lines import IdLines
from app.room import Room
from app.schemas import MAX_CATEGORY_LENGTH, MAX_ID_LENGTH, Field, RankRequest, RequestShape
from app.words import MIXER, PADDING

KINDS: Final = {
    "number": json_scan.NUMBER,
    "integer": json_scan.INTEGER,
    "boolean": json_scan.BOOLEAN,
    "category": json_scan.CATEGORY,
}
_PADDING: Final = bytes(PADDING)


class Lexicon(NamedTuple):
    """Texts that are known without escapes, each as an entry of its owner; found by hash, with linear probing.

    `slots` hold entries, -1 where there is none. `entries` (entries, 2) hold owner and length in one word, and where
    the text begins in `words`, padded with zeros to whole ones.
    """

    slots: NDArray[np.int32]
    entries: NDArray[np.uint64]
    words: NDArray[np.uint64]


class JsonBody:
    """Decodes bodies of one shape. With `one_by_one` candidates are always decoded so, for rules to look at.

    It is for one thread: each body is read into the same memory.
    """

    def __init__(self, shape: RequestShape, *, one_by_one: bool) -> None:
        self._shape = shape
        self._one_by_one = one_by_one
        fields = shape.activity
        self._rest: msgspec.json.Decoder[RankRequest] = msgspec.json.Decoder(shape.rest_type)
        self._nobody, self._nothing = np.empty(0, np.int64), np.empty((0, len(fields)))
        lexicon, firsts = _lexicon(fields)
        kinds = np.array([[KINDS[field.type] for field in fields], firsts], np.int64)
        habit = np.zeros((4, len(fields)), np.uint64)
        seen = np.zeros((1 << (2 * shape.max_candidates).bit_length(), 2), np.uint64)
        self._values = np.empty((shape.max_candidates, len(fields)))
        self._bringing = np.empty(shape.max_candidates, np.int64)
        self._ids = np.empty(shape.max_candidates * (MAX_ID_LENGTH + 1) + PADDING, np.uint8)
        self._memory = (*lexicon, kinds, habit, seen, self._values.view(np.uint64), self._bringing, self._ids)
        self._turn = 0
        self._room = Room()
        if not one_by_one:
            self.read(b'{"candidates":[{"id":"A1","features":{}}]}')  # compiles

    def decode(self, body: bytes) -> RankRequest:
        """The request in `body`. Raises `Problem`: 400 for what is no JSON, 413 for too many candidates, else 422."""
        if self._one_by_one:
            return self._shape.decode(body)
        usual = self.read(body)
        return self._shape.decode(body) if usual is None else usual

    def read(self, body: bytes) -> RankRequest | None:
        """The request in a body of the plain form, as `RequestShape.decode` reads it; None for any other body."""
        start, end, candidates, brought, used = self.scan(self._placed(body))
        if not end:
            return None
        try:
            request = self._rest.decode(body[:start] + b"null" + body[end:])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        ids = IdLines(self._ids[:used].copy(), candidates)
        bringing, values = self._nobody, self._nothing
        if brought:
            bringing, values = self._bringing[:brought].copy(), self._values[:brought].copy()
        request.candidates = Columns(self._shape.activity, ids, bringing, values)
        if request.top_k is not None:
            request.top_k = int(request.top_k)
        return request

    def _placed(self, body: bytes) -> NDArray[np.uint8]:
        """The body in this object's memory, with zeros behind it."""
        size, room = len(body), self._room
        room.hold(size + PADDING)
        room.view[:size] = body
        room.view[size : size + PADDING] = _PADDING
        return room.text

    def scan(self, text: NDArray[np.uint8]) -> tuple[int, int, int, int, int]:
        """What `json_scan.scan` finds in a text with `PADDING` zeros at its end; it is in this object's memory."""
        self._turn += 1
        found: tuple[int, int, int, int, int] = json_scan.scan(text, self._turn, *self._memory)
        return found


def _lexicon(fields: Sequence[Field]) -> tuple[Lexicon, list[int]]:
    """The names of the fields, whose entries are their positions, and their categories, one field after the other.

    And the first entry of each field's categories, of which the others follow in their order.
    """
    texts = [(len(fields), field.name) for field in fields]
    firsts = []
    for position, field in enumerate(fields):
        firsts.append(len(texts))
        texts += [(position, category) for category in field.categories]
    return _indexed(texts), firsts


def _indexed(texts: Sequence[tuple[int, str]]) -> Lexicon:
    slots = np.full(1 << (2 * len(texts)).bit_length(), -1, np.int32)
    entries = np.zeros((len(texts), 2), np.uint64)
    words: list[int] = []
    for entry, (owner, text) in enumerate(texts):
        if not _is_plain(text):
            continue  # it is never found
        encoded = text.encode()
        own = [int.from_bytes(encoded[at : at + 8], "little") for at in range(0, len(encoded), 8)]
        key = owner << 32 | len(encoded)
        slot = _hash(key, own) % len(slots)
        while slots[slot] >= 0:
            slot = (slot + 1) % len(slots)
        slots[slot] = entry
        entries[entry] = key, len(words)
        words += own
    return Lexicon(slots, entries, np.array(words, np.uint64))


def _hash(key: int, words: Iterable[int]) -> int:
    """What `json_scan.find` makes of them."""
    mixed = key
    for word in words:
        mixed = (mixed ^ word) * MIXER % 2**64
        mixed ^= mixed >> 32
    return mixed


def _is_plain(text: str) -> bool:
    """Whether it may stand between quotes as it is."""
    try:
        encoded = msgspec.json.encode(text)
    except UnicodeEncodeError:
        return False
    return encoded == b'"%b"' % text.encode() and len(text) <= MAX_CATEGORY_LENGTH
