import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fake_store import Clock
from redis_server import BINARY, RedisServer

from features import Bounds, HistoryStore
from features.stores.memory import MemoryStore
from features.stores.redis import RedisStore
from features.stores.sqlite import SqliteStore

STORES = ("memory", "sqlite", pytest.param("redis", marks=pytest.mark.real("redis")))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if any("redis" in marker.args for marker in item.iter_markers("real")) and BINARY is None:
        if os.environ.get("CI") and os.environ.get("REAL_PARTS") == "1":
            pytest.fail("redis-server is not installed, and CI has to have it")
        pytest.skip("redis-server is not installed")


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for tests that leave it running; empty for each of them through `redis`."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def redis(shared_redis: RedisServer) -> RedisServer:
    with shared_redis.client() as client:
        client.flushall()
        client.config_resetstat()
    return shared_redis


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server for a test that pauses or kills it."""
    server = RedisServer(tmp_path)
    yield server
    server.resume()
    server.kill()


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
