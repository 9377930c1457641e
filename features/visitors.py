"""What visitors did lately, for a ranking that cannot wait: a store behind a budget and a circuit breaker."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, NamedTuple

from features.breaker import Breaker, Passage
from features.events import Event, visitor_key
from features.history import NOTHING, Garbled, History, unpack
from features.stores.protocol import HistoryStore, StoreUnavailable

Outcome = Literal["ok", "late", "error", "skipped"]

UNFINISHED = 8  # fetches that a store may owe before it is asked for no more


class Visitor(NamedTuple):
    """What a ranking knows of its visitor.

    history: empty for whoever is new, has no id, or could not be looked up.
    moment: when the ranking takes place, in milliseconds since 1970: after every event of the history. Derived features
        are those of this moment, so whoever wants them again has to keep it.
    degraded: the store has not said what it knows.
    """

    history: History
    moment: int
    degraded: bool


class FetchReport(NamedTuple):
    """One round trip, or one that was spared.

    outcome: `ok`; `late`, past the budget; `error`, the store failed within it; `skipped`, the breaker was open.
    visitors: how many were asked for. seconds: what their batch waited.
    garbled: values that were no histories; their visitors are degraded.
    error: what the store failed with.
    """

    outcome: Outcome
    visitors: int
    seconds: float
    garbled: int = 0
    error: Exception | None = None


class Stats(NamedTuple):
    """open: the breaker is. unfinished: fetches that the store has not ended, also those that nobody waits for."""

    open: bool
    unfinished: int


class _Asked(NamedTuple):
    outcome: Outcome
    values: list[bytes | None] | None = None
    error: Exception | None = None


class Visitors:
    """Looks visitors up. Never raises for a store, and never waits for one past `budget_seconds`.

    A fetch past the budget goes on by itself, within the timeouts of the store, and its answer is dropped: to cancel it
    would cost its connection, and a new one may cost more than the budget. The breaker's probe is the fetch of a batch
    that does not wait for it.

    clock: seconds, monotonic, what durations are measured with. wall_clock: seconds since 1970.
    observer: called after each fetch; must not raise.
    """

    # All state changes on the event loop and between awaits, so it needs no lock.

    def __init__(
        self,
        store: HistoryStore,
        *,
        budget_seconds: float = 0.010,
        record_seconds: float = 1.0,
        breaker: Breaker | None = None,
        observer: Callable[[FetchReport], None] | None = None,
        clock: Callable[[], float] = time.perf_counter,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self._budget_seconds = budget_seconds
        self._record_seconds = record_seconds
        self._breaker = breaker or Breaker()
        self._observer = observer
        self._clock = clock
        self._wall_clock = wall_clock
        self._fetches: set[asyncio.Task[list[bytes | None]]] = set()
        self._probe: asyncio.Task[_Asked] | None = None

    async def fetch(self, visitors: Sequence[str | None]) -> list[Visitor]:
        """What is known of each visitor, in their order; None is a visitor without an id. One round trip at most."""
        keys = {visitor: visitor_key(visitor) for visitor in visitors if visitor is not None}
        found: dict[str | None, Visitor] = {}
        if keys:
            started = self._clock()
            asked = await self._ask(list(keys.values()))
            seconds = self._clock() - started
            found = self._read(keys, asked)
            garbled = sum(visitor.degraded for visitor in found.values()) if asked.outcome == "ok" else 0
            if self._observer is not None:
                self._observer(FetchReport(asked.outcome, len(keys), seconds, garbled, asked.error))
        found[None] = Visitor(NOTHING, self.now(), degraded=False)
        return [found[visitor] for visitor in visitors]

    async def record(self, events: Sequence[Event]) -> None:
        """Keep the events: every later `fetch` sees them. Sending them again changes nothing.

        An event's `at` should be no later than `now()`: one of the future would count as the last one until then.
        Raises `StoreUnavailable`, after `record_seconds` at the latest, and `EventError`.
        """
        async with self._bounded():
            await self.store.append(events)

    async def forget(self, visitor: str) -> None:
        """Delete all that is kept of a visitor. Raises `StoreUnavailable`, after `record_seconds` at the latest."""
        async with self._bounded():
            await self.store.delete(visitor_key(visitor))

    def now(self) -> int:
        """The time by which events and rankings are ordered: milliseconds since 1970."""
        return int(1e3 * self._wall_clock())

    def stats(self) -> Stats:
        return Stats(self._breaker.open, len(self._fetches))

    async def close(self) -> None:
        """End what nobody waits for, and the store."""
        waiting: list[asyncio.Task[Any]] = [*self._fetches, *([self._probe] if self._probe else [])]
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await self.store.close()

    async def _ask(self, keys: Sequence[bytes]) -> _Asked:
        """Ask the store as the breaker says."""
        passage = self._breaker.passage(self._clock())
        if passage is Passage.CALL:
            return await self._attempt(passage, keys)
        if passage is Passage.PROBE:
            self._probe = asyncio.create_task(self._attempt(passage, keys))
        return _Asked("skipped")

    async def _attempt(self, passage: Passage, keys: Sequence[bytes]) -> _Asked:
        """Ask the store and wait no longer than the budget; tell the breaker how it went."""
        asked = await self._within_budget(keys) if len(self._fetches) < UNFINISHED else _Asked("late")
        if asked.outcome == "ok":
            self._breaker.succeeded(passage)
        else:
            self._breaker.failed(passage, self._clock())
        return asked

    async def _within_budget(self, keys: Sequence[bytes]) -> _Asked:
        fetch = asyncio.create_task(self.store.fetch(keys))
        self._fetches.add(fetch)
        fetch.add_done_callback(self._fetch_ended)
        await asyncio.wait({fetch}, timeout=self._budget_seconds)
        if not fetch.done():
            return _Asked("late")
        try:
            return _Asked("ok", fetch.result())
        except Exception as error:  # noqa: BLE001 - whatever a store raises, the ranking goes on without it
            return _Asked("error", error=error)

    def _fetch_ended(self, fetch: asyncio.Task[list[bytes | None]]) -> None:
        self._fetches.discard(fetch)
        if not fetch.cancelled():
            fetch.exception()  # asked for, so that asyncio does not log it as never retrieved

    def _read(self, keys: Mapping[str, bytes], asked: _Asked) -> dict[str | None, Visitor]:
        now = self.now()
        if asked.values is None:
            return dict.fromkeys(keys, Visitor(NOTHING, now, degraded=True))
        return {
            visitor: _visitor(value, key, now) for (visitor, key), value in zip(keys.items(), asked.values, strict=True)
        }

    @asynccontextmanager
    async def _bounded(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._record_seconds):
                yield
        except TimeoutError:
            raise StoreUnavailable(
                f"the {self.store.name} store has not answered for {self._record_seconds:g} s"
            ) from None


def _visitor(value: bytes | None, key: bytes, now: int) -> Visitor:
    if value is None:
        return Visitor(NOTHING, now, degraded=False)
    try:
        history = unpack(value, key)
    except Garbled:
        return Visitor(NOTHING, now, degraded=True)
    return Visitor(history, history.moment(now), degraded=False)
