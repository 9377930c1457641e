"""Visitor histories at size: what they cost in each store, and whether anything is lost. Prints a table.

    python -m benchmarks.histories --redis redis://127.0.0.1:6379/0

The Redis server must be empty, and what is left in it is of no use. Every event is sent twice.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import pyarrow as pa
from redis import Redis

from features import Catalog, DerivedFeatures, Event, HistoryStore, declare
from features.events import KINDS, RECORD_BYTES, activity_key, visitor_key
from features.history import HEAD_BYTES, Bounds, unpack
from features.stores.memory import MemoryStore
from features.stores.redis import RedisStore
from features.stores.sqlite import SqliteStore

CHUNK = 500  # events of one append
BATCH = 64  # visitors of one fetch


class Load(NamedTuple):
    """Event number n belongs to visitor n modulo `visitors`, so that everybody has as many."""

    events: int
    visitors: int
    now: int

    def event(self, number: int) -> Event:
        at = self.now - (self.events - number)
        return Event(f"visitor {number % self.visitors}", f"A{number % 9_973}", KINDS[number % 3], at)


class Result(NamedTuple):
    appends_per_second: float
    fetch_ms: float
    lost: int
    twice: int
    bytes_a_visitor: float


async def measure(store: HistoryStore, load: Load, used_bytes: Callable[[], int]) -> Result:
    """Send every event twice, then read everybody back."""
    before = used_bytes()
    started = time.perf_counter()
    with click.progressbar(range(0, load.events, CHUNK), label=store.name, hidden=not os.isatty(2)) as starts:
        for start in starts:
            chunk = [load.event(number) for number in range(start, min(start + CHUNK, load.events))]
            await store.append(chunk)
            await store.append(chunk)
    seconds = time.perf_counter() - started
    used = used_bytes() - before
    lost = twice = 0
    fetches = []
    async for first, values, fetch_seconds in _fetched(store, load):
        fetches.append(fetch_seconds)
        for place, value in enumerate(values):
            expected = {
                (event.at, KINDS.index(event.kind), activity_key(event.activity))
                for event in map(load.event, range(first + place, load.events, load.visitors))
            }
            history = unpack(value or b"", visitor_key(f"visitor {first + place}"))
            found = list(zip(history.at.tolist(), history.kinds.tolist(), history.activities.tolist(), strict=True))
            lost += len(expected - set(found))
            twice += len(found) - len(set(found))
    return Result(2 * load.events / seconds, 1e3 * float(np.median(fetches)), lost, twice, used / load.visitors)


async def _fetched(store: HistoryStore, load: Load) -> AsyncIterator[tuple[int, list[bytes | None], float]]:
    for first in range(0, load.visitors, BATCH):
        keys = [visitor_key(f"visitor {number}") for number in range(first, min(first + BATCH, load.visitors))]
        started = time.perf_counter()
        values = await store.fetch(keys)
        yield first, values, time.perf_counter() - started


async def read_your_writes(store: HistoryStore, times: int) -> int:
    """Of so many events, how many the next fetch of the visitor sees."""
    now = int(1e3 * time.time())
    seen = 0
    for number in range(times):
        visitor = f"reader {number % 100}"
        await store.append([Event(visitor, f"A{number}", "view", now - times + number)])
        (value,) = await store.fetch([visitor_key(visitor)])
        history = unpack(value or b"", visitor_key(visitor))
        seen += int(history.activities[-1]) == activity_key(f"A{number}")
    return seen


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _file_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _redis_bytes(url: str) -> int:
    with Redis.from_url(url) as client:
        return int(client.info("memory")["used_memory"])


async def _row(store: HistoryStore, load: Load, used_bytes: Callable[[], int], writes: int) -> str:
    result = await measure(store, load, used_bytes)
    seen = await read_your_writes(store, writes)
    await store.close()
    return (
        f"| {store.name} | {result.lost} | {result.twice} | {result.bytes_a_visitor:.0f} | "
        f"{result.appends_per_second:,.0f} | {result.fetch_ms:.2f} | {seen:,} of {writes:,} |"
    )


async def _table(load: Load, redis: str | None, writes: int) -> None:
    packed = HEAD_BYTES + min(load.events // load.visitors, Bounds().events) * RECORD_BYTES
    print(f"{load.events:,} events of {load.visitors:,} visitors, each sent twice; {packed} bytes packed a visitor\n")
    print("| store | lost | kept twice | bytes a visitor | events/s | ms to fetch 64 | read after write |")
    print("|---|---|---|---|---|---|---|")
    print(await _row(MemoryStore(max_visitors=load.visitors + 100), load, _resident_bytes, writes))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(await _row(SqliteStore(folder / "histories.db"), load, lambda: _file_bytes(folder), writes))
    if redis is not None:
        print(await _row(RedisStore(redis, timeout_seconds=5), load, lambda: _redis_bytes(redis), writes))


def _catalog_seconds(activities: int) -> tuple[float, float]:
    """To read a snapshot of so many activities, and to make derived features ready over it."""
    random = np.random.default_rng(1)
    table = pa.table(
        {
            "id": [f"A{number}" for number in range(activities)],
            "category": random.choice(["museum", "boat", "food", "walk"], activities),
            "city": random.choice([f"city {number}" for number in range(200)], activities),
            **{f"feature {number}": random.normal(size=activities) for number in range(20)},
            "price": random.gamma(3, 20, activities),
        }
    )
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "catalog.parquet"
        pa.parquet.write_table(table, path)
        started = time.perf_counter()
        catalog = Catalog.read(path)
        read = time.perf_counter()
        DerivedFeatures({one.name: one.categories for one in declare(catalog)}, catalog)
        return read - started, time.perf_counter() - read


@click.command()
@click.option("--events", default=1_000_000, show_default=True)
@click.option("--visitors", default=100_000, show_default=True)
@click.option("--writes", default=10_000, show_default=True, help="Events that are each read back at once.")
@click.option("--activities", default=100_000, show_default=True, help="Size of the catalog.")
@click.option("--redis", help="URL of an empty server; without it Redis is left out.")
def main(events: int, visitors: int, writes: int, activities: int, redis: str | None) -> None:
    asyncio.run(_table(Load(events, visitors, int(1e3 * time.time())), redis, writes))
    read, ready = _catalog_seconds(activities)
    print(f"\ncatalog of {activities:,} activities: read in {read:.2f} s, derived features ready in {ready:.2f} s more")


if __name__ == "__main__":
    main()
