"""Rankings as JSON: bodies of the two usual forms are read into columns, every other one candidate by candidate."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from app import json_scan
from app.columns import Columns
from app.schemas import MAX_CATEGORY_LENGTH, MAX_ID_LENGTH, Field, RankRequest, RequestShape

KINDS: Final = {
    "number": json_scan.NUMBER,
    "integer": json_scan.INTEGER,
    "boolean": json_scan.BOOLEAN,
    "category": json_scan.CATEGORY,
}
_PADDING: Final = bytes(json_scan.PADDING)
_FEATURES: Final = b'"features"'


class Lexicon(NamedTuple):
    """Texts that are known without escapes, each as an entry of its owner; found by hash, with linear probing.

    `slots` hold entries, -1 where there is none. `entries` (entries, 2) hold owner and length in one word, and where
    the text begins in `words`, padded with zeros to whole ones.
    """

    slots: NDArray[np.int32]
    entries: NDArray[np.uint64]
    words: NDArray[np.uint64]


class Found(NamedTuple):
    """What `json_scan.scan` found in a text."""

    start: int
    end: int
    candidates: int
    brought: int
    used: int


class JsonBody:
    """Decodes bodies of one shape. With `one_by_one` candidates are always decoded so, for rules to look at.

    It is for one thread: each body is read into the same memory.
    """

    def __init__(self, shape: RequestShape, *, one_by_one: bool) -> None:
        self._shape = shape
        self._one_by_one = one_by_one
        fields = shape.activity
        self._rest: msgspec.json.Decoder[RankRequest] = msgspec.json.Decoder(shape.rest_type)
        self._of_ids: msgspec.json.Decoder[RankRequest] = msgspec.json.Decoder(shape.ids_type)
        self._nothing = np.empty((0, len(fields)))
        self._lexicon, firsts = _lexicon(fields)
        self._fields = np.array([[KINDS[field.type] for field in fields], firsts], np.int64)
        self._habit = np.zeros((4, len(fields)), np.uint64)
        self._values = np.empty((shape.max_candidates, len(fields)))
        self._bringing = np.empty(shape.max_candidates, np.int64)
        self._ids = np.empty(shape.max_candidates * (MAX_ID_LENGTH + 1), np.uint8)
        if not one_by_one:
            self.read(b'{"candidates":[{"id":"A1","features":{}}]}')  # compiles

    def decode(self, body: bytes) -> RankRequest:
        """The request in `body`. Raises `Problem`: 400 for what is no JSON, 413 for too many candidates, else 422."""
        if self._one_by_one:
            return self._shape.decode(body)
        usual = self.read(body) if _FEATURES in body else self.read_ids(body)
        return self._shape.decode(body) if usual is None else usual

    def read_ids(self, body: bytes) -> RankRequest | None:
        """The request in a body whose candidates are ids alone; None for any other body."""
        try:
            request = self._of_ids.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        ids = cast("list[str]", request.candidates)
        if len(ids) > self._shape.max_candidates or len(set(ids)) < len(ids):
            return None
        return self._in_columns(request, ids, [], self._nothing)

    def read(self, body: bytes) -> RankRequest | None:
        """The request in a body of the plain form, as `RequestShape.decode` reads it; None for any other body."""
        found = self.scan(np.frombuffer(body + _PADDING, np.uint8))
        if not found.end:
            return None
        ids = str(self._ids[: found.used - 1].data, "ascii").split("\n")
        if len(set(ids)) < len(ids):
            return None
        try:
            request = self._rest.decode(body[: found.start] + b"null" + body[found.end :])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        bringing, values = self._bringing[: found.brought].tolist(), self._values[: found.brought].copy()
        return self._in_columns(request, ids, bringing, values)

    def _in_columns(
        self, request: RankRequest, ids: list[str], bringing: list[int], values: NDArray[np.float64]
    ) -> RankRequest:
        request.candidates = Columns(self._shape.activity, ids, bringing, values)
        if request.top_k is not None:
            request.top_k = int(request.top_k)
        return request

    def scan(self, text: NDArray[np.uint8]) -> Found:
        """Where the candidates are in a text, which ends with `json_scan.PADDING`; they are in this object's memory."""
        bits = self._values.view(np.uint64)
        memory = (self._habit, bits, self._bringing, self._ids)
        return Found(*json_scan.scan(text, self._lexicon, self._fields, *memory))


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
        mixed = (mixed ^ word) * json_scan.MIXER % 2**64
        mixed ^= mixed >> 32
    return mixed


def _is_plain(text: str) -> bool:
    """Whether it may stand between quotes as it is."""
    try:
        encoded = msgspec.json.encode(text)
    except UnicodeEncodeError:
        return False
    return encoded == b'"%b"' % text.encode() and len(text) <= MAX_CATEGORY_LENGTH
