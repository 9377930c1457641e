"""A clock that stands still, events for it, and a store that does what a test says."""

import asyncio
import time
from collections.abc import Sequence

from features import KINDS, Event
from features.events import Kind, activity_key, visitor_key
from features.history import unpack
from features.stores.memory import MemoryStore


class Clock:
    """Seconds since 1970; starts at the present, because a Redis server has a clock of its own."""

    def __init__(self) -> None:
        self.seconds = float(int(time.time()))

    def __call__(self) -> float:
        return self.seconds

    @property
    def ms(self) -> int:
        return int(1e3 * self.seconds)


def event(clock: Clock, ago_ms: int = 0, activity: str = "A1", visitor: str = "anna", kind: Kind = "view") -> Event:
    return Event(visitor, activity, kind, clock.ms - ago_ms)


def readable(value: bytes | None, visitor: str, clock: Clock) -> list[tuple[int, str, int]]:
    """(milliseconds ago, kind, activity key) of each event, oldest first."""
    if value is None:
        return []
    history = unpack(value, visitor_key(visitor))
    return [
        (clock.ms - at, KINDS[kind], key)
        for at, kind, key in zip(history.at.tolist(), history.kinds.tolist(), history.activities.tolist(), strict=True)
    ]


def line(ago_ms: int, activity: str = "A1", kind: Kind = "view") -> tuple[int, str, int]:
    return ago_ms, kind, activity_key(activity)


class FakeStore(MemoryStore):
    """Fetches take `delay_seconds`, raise `error`, or give `answer`; its appends take `append_seconds`."""

    def __init__(self) -> None:
        super().__init__()
        self.delay_seconds = 0.0
        self.append_seconds = 0.0
        self.error: Exception | None = None
        self.answer: list[bytes | None] | None = None
        self.fetches: list[Sequence[bytes]] = []
        self.cancelled = 0

    async def append(self, events: Sequence[Event]) -> None:
        await asyncio.sleep(self.append_seconds)
        await super().append(events)

    async def fetch(self, visitors: Sequence[bytes]) -> list[bytes | None]:
        self.fetches.append(visitors)
        error, answer = self.error, self.answer
        try:
            await asyncio.sleep(self.delay_seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if error is not None:
            raise error
        return await super().fetch(visitors) if answer is None else answer
