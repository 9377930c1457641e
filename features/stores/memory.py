"""Histories in this process: for one worker, and gone with it."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from features.events import Event, oldest_record, records_by_visitor
from features.history import Bounds, merge, newest_at


class MemoryStore:
    """The histories of at most `max_visitors`: whoever did nothing for the longest time is forgotten first."""

    name = "memory"

    def __init__(
        self,
        bounds: Bounds = Bounds(),  # noqa: B008 - immutable
        *,
        max_visitors: int = 100_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._bounds = bounds
        self._max_visitors = max_visitors
        self._clock = clock
        self._histories: OrderedDict[bytes, bytes] = OrderedDict()  # in the order of the last append

    def __len__(self) -> int:
        return len(self._histories)

    async def append(self, events: Sequence[Event]) -> None:
        oldest_at = self._oldest_at()
        oldest = oldest_record(oldest_at)
        for visitor, records in records_by_visitor(events).items():
            known = self._histories.pop(visitor, None)
            merged = merge(known, records, visitor, limit=self._bounds.events, oldest=oldest)
            if merged is not None:
                self._histories[visitor] = merged
        self._make_room(oldest_at)

    async def fetch(self, visitors: Sequence[bytes]) -> list[bytes | None]:
        return [self._histories.get(visitor) for visitor in visitors]

    async def delete(self, visitor: bytes) -> None:
        self._histories.pop(visitor, None)

    async def ping(self) -> None:
        pass

    async def close(self) -> None:
        self._histories.clear()

    def _oldest_at(self) -> int:
        return int(1e3 * self._clock()) - self._bounds.ttl_ms

    def _make_room(self, oldest_at: int) -> None:
        while self._histories and (
            len(self._histories) > self._max_visitors or newest_at(next(iter(self._histories.values()))) < oldest_at
        ):
            self._histories.popitem(last=False)
