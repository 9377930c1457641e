"""What visitors do, one event at a time, and the bytes that are kept of it.

A record is 16 bytes, big-endian: the time in milliseconds (7 bytes), the kind (1), a digest of the activity's id (8).
So records in the order of their bytes are in the order of time, then kind, then activity, and equal events are equal
bytes. A digest and not a row of the catalog, because rows change with every snapshot.
"""

import struct
from collections.abc import Iterable
from hashlib import blake2b
from typing import Literal, NamedTuple

Kind = Literal["view", "click", "booking"]
KINDS: tuple[Kind, ...] = ("view", "click", "booking")  # a kind's code is its place here

RECORD_BYTES = 16
MAX_AT = 1 << 45  # the year 3084: below it, time and kind together are exact in the doubles that Redis scripts count in

_RECORD = struct.Struct(">Q8s")


class EventError(ValueError):
    """An event that cannot be kept: its kind or its time is not among those allowed."""


class Event(NamedTuple):
    """`at` is in milliseconds since 1970, UTC."""

    visitor: str
    activity: str
    kind: Kind
    at: int


def record(event: Event) -> bytes:
    """The event without its visitor, who is the key that it is kept under. Raises `EventError`."""
    if event.kind not in KINDS:
        raise EventError(f"kind {event.kind!r} is none of {', '.join(KINDS)}")
    if not 0 <= event.at < MAX_AT:
        raise EventError(f"time {event.at} ms is outside of 0 to {MAX_AT - 1}")
    return _RECORD.pack(event.at << 8 | KINDS.index(event.kind), activity_digest(event.activity))


def oldest_record(at: int) -> bytes:
    """The least record of that moment: all earlier events are less. `at` in milliseconds."""
    return _RECORD.pack(min(max(at, 0), MAX_AT) << 8, bytes(8))


def activity_digest(activity: str) -> bytes:
    """What stands for an activity in a record, 64 bits. Of 100,000 activities, two share one in 1 of 10^9 cases."""
    return _digest(activity, 8)


def activity_key(activity: str) -> int:
    """The digest as a number."""
    return int.from_bytes(activity_digest(activity), "big")


def visitor_key(visitor: str) -> bytes:
    """What stands for a visitor in a store, 16 bytes: who has the id finds the history, but not the other way round."""
    return _digest(visitor, 16)


def records_by_visitor(events: Iterable[Event]) -> dict[bytes, list[bytes]]:
    """Visitor key -> records of theirs. Raises `EventError`."""
    records: dict[bytes, list[bytes]] = {}
    for event in events:
        records.setdefault(visitor_key(event.visitor), []).append(record(event))
    return records


def _digest(text: str, size: int) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()
