from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fake_store import Clock

from features import Bounds, HistoryStore
from features.stores.memory import MemoryStore
from features.stores.redis import RedisStore
from features.stores.sqlite import SqliteStore

STORES = ("memory", "sqlite", pytest.param("redis", marks=pytest.mark.real("redis")))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[HistoryStore]:
    """Each kind of store, of at most 50 events a visitor and a day, at the time of `clock`."""
    bounds = Bounds(events=50, ttl_ms=24 * 3_600_000)
    store: HistoryStore
    if request.param == "memory":
        store = MemoryStore(bounds, clock=clock)
    elif request.param == "sqlite":
        store = SqliteStore(tmp_path / "histories.db", bounds, clock=clock)
    else:
        store = RedisStore(request.getfixturevalue("redis").url, bounds, clock=clock)
    yield store
    await store.close()
