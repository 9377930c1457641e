"""What a ranking sees of a real Redis server that fails. How long it waits is tested on virtual time."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from fake_store import Clock, event
from redis_server import RedisServer, SlowProxy, tcp_server

from features import StoreUnavailable, Visitors
from features.stores.redis import RedisStore

pytestmark = pytest.mark.real("redis")

LENIENT = 0.2  # seconds: a budget that a machine under load does not break by itself


@pytest.fixture
async def visitors(own_redis: RedisServer, clock: Clock) -> AsyncIterator[Visitors]:
    visitors = Visitors(RedisStore(own_redis.url, clock=clock), budget_seconds=LENIENT)
    await visitors.record([event(clock)])
    yield visitors
    await visitors.close()


async def known(visitors: Visitors) -> int | None:
    """Events that the visitor is known for; None while degraded."""
    (anna,) = await visitors.fetch(["anna"])
    return None if anna.degraded else len(anna.history.at)


async def rank(visitors: Visitors, times: int = 20) -> list[int | None]:
    return [await known(visitors) for _ in range(times)]


async def recovered(visitors: Visitors) -> int | None:
    """Events that the visitor is known for once the store is back; None when it is not back after 500 rankings."""
    for _ in range(500):
        if (events := await known(visitors)) is not None:
            return events
        await asyncio.sleep(0.02)  # the pace of the rankings
    return None


async def test_a_paused_server_degrades_rankings_and_loses_nothing(own_redis: RedisServer, visitors: Visitors) -> None:
    assert await known(visitors) == 1
    own_redis.pause()
    assert await rank(visitors) == [None] * 20
    own_redis.resume()
    assert await recovered(visitors) == 1


async def test_a_killed_server_degrades_rankings_and_comes_back_empty(
    own_redis: RedisServer, visitors: Visitors, clock: Clock
) -> None:
    assert await known(visitors) == 1
    own_redis.kill()
    assert await rank(visitors) == [None] * 20
    with pytest.raises(StoreUnavailable):
        await visitors.record([event(clock)])
    own_redis.start()
    assert await recovered(visitors) == 0
    await visitors.record([event(clock)])
    assert await known(visitors) == 1


async def test_a_slow_server_degrades_rankings_until_it_is_quick_again(own_redis: RedisServer, clock: Clock) -> None:
    proxy = SlowProxy(own_redis)
    async with tcp_server(proxy.handle) as port:
        visitors = Visitors(RedisStore(f"redis://127.0.0.1:{port}", clock=clock), budget_seconds=LENIENT)
        await visitors.record([event(clock)])
        assert await known(visitors) == 1
        proxy.delay_seconds = 1.5 * LENIENT
        assert await rank(visitors) == [None] * 20
        proxy.delay_seconds = 0
        assert await recovered(visitors) == 1
        await visitors.close()


async def test_a_garbled_value_degrades_until_the_next_event(
    own_redis: RedisServer, visitors: Visitors, clock: Clock
) -> None:
    with own_redis.client() as client:
        (key,) = client.keys()
        client.set(key, b"\x80\x04garbage")
    assert await known(visitors) is None
    await visitors.record([event(clock)])
    assert await known(visitors) == 1
