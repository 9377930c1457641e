"""A visitor's history: the last events, each once, in order of time, and the bytes that a store keeps.

A packed history is a head of 16 bytes and its records in ascending order. The head is `FRH`, the version, the number
of records, and the first 8 bytes of the visitor's key: so a value that is damaged, or somebody else's, is recognized.
`stores/append.lua` does in Redis what `merge` does here; a test holds them against each other.
"""

import struct
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.events import KINDS, RECORD_BYTES

MAGIC = b"FRH\x01"
HEAD_BYTES = 16

_HEAD = struct.Struct(">4sI8s")

DAY_MS = 24 * 3_600_000


class Bounds(NamedTuple):
    """How much of a visitor counts: the last `events`, and none older than `ttl_ms` milliseconds."""

    events: int = 50
    ttl_ms: int = 30 * DAY_MS


class Garbled(Exception):
    """Bytes that are no history of this visitor."""


class History(NamedTuple):
    """Events in order of time: when (int64, milliseconds), what (codes of `KINDS`), and the activities' keys."""

    at: NDArray[np.int64]
    kinds: NDArray[np.int64]
    activities: NDArray[np.uint64]

    def before(self, moment: int, bounds: Bounds) -> "History":
        """What counts at that moment: events strictly before it, the last of them, and none too old."""
        start, stop = self.at.searchsorted((moment - bounds.ttl_ms, moment)).tolist()
        part = slice(max(start, stop - bounds.events), stop)
        return History(self.at[part], self.kinds[part], self.activities[part])

    def moment(self, now: int) -> int:
        """The moment of a ranking: now, and after everything that is known to have happened. In milliseconds.

        An event that was accepted counts in the next ranking, also when both fall into one millisecond or the clock of
        the process that took it is ahead.
        """
        return max(now, int(self.at[-1]) + 1) if len(self.at) else now


def from_records(records: bytes) -> History:
    """The history of sorted records, which stand one behind the other."""
    words = np.frombuffer(records, ">u8").reshape(-1, 2).T.astype(np.uint64, order="C")
    stamps = words[0].view(np.int64)  # of 53 bits at most, so the sign is not touched
    return History(stamps >> 8, stamps & 255, words[1])


NOTHING = from_records(b"")


def unpack(value: bytes, visitor: bytes) -> History:
    """The history that a store gave for a visitor's key. Raises `Garbled` for what `merge` never makes."""
    if not isinstance(value, bytes):
        raise Garbled(f"a value of type {type(value).__name__}")
    records = _records(value, visitor)
    history = from_records(records)
    at = history.at
    if max(records[7::RECORD_BYTES], default=0) >= len(KINDS) or np.count_nonzero(at[1:] < at[:-1]):
        raise Garbled("unknown kinds of events, or events out of order")
    return history


def merge(value: bytes | None, records: Iterable[bytes], visitor: bytes, *, limit: int, oldest: bytes) -> bytes | None:
    """The packed history with more events in it; None when none remains.

    Each event is kept once and in its place; then those before the record `oldest` go, and all but the last `limit`.
    A value that is no history of this visitor is replaced.
    """
    merged = sorted({*_split(value, visitor), *records})
    kept = [one for one in merged if one >= oldest][-limit:]
    return _head(len(kept), visitor) + b"".join(kept) if kept else None


def newest_at(value: bytes) -> int:
    """The time of the last event of a packed history, in milliseconds."""
    return int.from_bytes(value[-RECORD_BYTES:][:7], "big")


def _split(value: bytes | None, visitor: bytes) -> list[bytes]:
    if value is None:
        return []
    try:
        records = _records(value, visitor)
    except Garbled:
        return []
    return [records[start : start + RECORD_BYTES] for start in range(0, len(records), RECORD_BYTES)]


def _records(value: bytes, visitor: bytes) -> bytes:
    if len(value) < HEAD_BYTES:
        raise Garbled(f"{len(value)} bytes, and the head alone is {HEAD_BYTES}")
    magic, count, owner = _HEAD.unpack_from(value)
    if magic != MAGIC or owner != visitor[:8]:
        raise Garbled(f"starts with {value[:HEAD_BYTES].hex()}, not with {_head(count, visitor).hex()}")
    if len(value) != HEAD_BYTES + count * RECORD_BYTES:
        raise Garbled(f"{len(value)} bytes for {count} events")
    return value[HEAD_BYTES:]


def _head(count: int, visitor: bytes) -> bytes:
    return _HEAD.pack(MAGIC, count, visitor[:8])
