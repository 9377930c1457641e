import asyncio
from collections.abc import AsyncIterator

import pytest
from fake_store import Clock, event, line, readable
from redis_server import RedisServer, SlowProxy, free_port, tcp_server

from features import Bounds, StoreUnavailable, Visitors, open_store
from features.events import visitor_key
from features.stores.redis import RedisStore

pytestmark = pytest.mark.real("redis")

ANNA, BEN = visitor_key("anna"), visitor_key("ben")
KEY = f"frontrow:history:{ANNA.hex()}"


@pytest.fixture
async def store(redis: RedisServer, clock: Clock) -> AsyncIterator[RedisStore]:
    store = RedisStore(redis.url, Bounds(ttl_ms=60_000), clock=clock)
    yield store
    await store.close()


async def test_a_batch_of_visitors_is_one_command(store: RedisStore, redis: RedisServer, clock: Clock) -> None:
    visitors = [f"visitor {number}" for number in range(64)]
    await store.append([event(clock, visitor=visitor) for visitor in visitors])
    values = await store.fetch([visitor_key(visitor) for visitor in visitors])
    assert None not in values
    assert (redis.calls("mget"), redis.calls("get")) == (1, 64)  # the GETs are those of the 64 appends


async def test_an_append_is_one_call_a_visitor_once_the_server_knows_the_script(
    store: RedisStore, redis: RedisServer, clock: Clock
) -> None:
    for _ in range(3):
        await store.append([event(clock, ago, visitor=visitor) for visitor in ("anna", "ben") for ago in range(10)])
    assert redis.calls("evalsha") == 6
    assert redis.calls("eval") <= 2


async def test_a_history_expires_at_its_last_event_plus_the_time_to_live(
    store: RedisStore, redis: RedisServer, clock: Clock
) -> None:
    await store.append([event(clock, 20_000), event(clock, 10_000)])
    with redis.client() as client:
        assert client.execute_command("PEXPIRETIME", KEY) == clock.ms + 50_000


@pytest.mark.parametrize("garbage", [b"", b"{}", b"FRH\x01", b"FRH\x01" + bytes(12 + 7)])
async def test_a_value_that_is_no_history_is_replaced_by_the_next_event(
    store: RedisStore, redis: RedisServer, clock: Clock, garbage: bytes
) -> None:
    with redis.client() as client:
        client.set(KEY, garbage)
    await store.append([event(clock)])
    (value,) = await store.fetch([ANNA])
    assert readable(value, "anna", clock) == [line(0)]


async def test_a_key_of_another_type_is_nothing_and_is_replaced(
    store: RedisStore, redis: RedisServer, clock: Clock
) -> None:
    with redis.client() as client:
        client.rpush(KEY, "a list")
    assert await store.fetch([ANNA]) == [None]
    await store.append([event(clock)])
    assert await store.fetch([ANNA]) != [None]


async def test_a_server_that_comes_back_empty_takes_events_at_once(own_redis: RedisServer, clock: Clock) -> None:
    store = RedisStore(own_redis.url, clock=clock)
    await store.append([event(clock, 2)])
    own_redis.kill()
    with pytest.raises(StoreUnavailable, match="Redis: ConnectionError"):
        await store.append([event(clock, 1)])
    own_redis.start()
    await store.append([event(clock, 0)])
    (value,) = await store.fetch([ANNA])
    await store.close()
    assert readable(value, "anna", clock) == [line(0)]


async def test_a_server_that_does_not_answer_is_given_up_after_the_timeout(
    own_redis: RedisServer, clock: Clock
) -> None:
    store = RedisStore(own_redis.url, timeout_seconds=0.05, clock=clock)
    await store.ping()
    own_redis.pause()
    for asked in (store.append([event(clock)]), store.fetch([ANNA]), store.delete(ANNA), store.ping()):
        with pytest.raises(StoreUnavailable, match="Redis: TimeoutError"):
            await asked
    own_redis.resume()
    await store.ping()
    await store.close()


async def test_a_fetch_that_was_left_never_answers_the_next_one(redis: RedisServer, clock: Clock) -> None:
    proxy = SlowProxy(redis)
    async with tcp_server(proxy.handle) as port:
        store = RedisStore(f"redis://127.0.0.1:{port}", clock=clock)
        await store.append([event(clock, 1, visitor="anna"), event(clock, 2, visitor="ben")])
        await store.ping()
        proxy.delay_seconds = 0.05
        left = asyncio.create_task(store.fetch([ANNA]))
        proxy.answered.clear()
        await proxy.answered.wait()
        left.cancel()
        (value,) = await store.fetch([BEN])
        await store.close()
    assert readable(value, "ben", clock) == [line(2)]


ANSWERS = {
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "no protocol": bytes(range(256)),
    "too few values": b"*1\r\n$-1\r\n",
    "a number": b":7\r\n",
    "an error": b"-LOADING Redis is loading the dataset in memory\r\n",
    "half an answer": b"*2\r\n$5\r\nab",
    "numbers as values": b"*2\r\n:1\r\n:2\r\n",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_a_server_that_talks_nonsense_is_known_for_it(answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(answer)
        writer.close()

    async with tcp_server(talk) as port:
        store = RedisStore(f"redis://127.0.0.1:{port}", timeout_seconds=0.2)
        visitors = Visitors(store, budget_seconds=1)
        found = await visitors.fetch(["anna", "ben"])
        await visitors.close()
    assert [one.degraded for one in found] == [True, True]


async def test_nobody_listening_is_said_without_a_word_of_the_password() -> None:
    store = RedisStore(f"redis://:secret@127.0.0.1:{free_port()}")
    with pytest.raises(StoreUnavailable, match="Redis: ConnectionError") as raised:
        await store.ping()
    await store.close()
    assert "secret" not in str(raised.value)


def test_a_url_of_something_else_is_refused_without_a_word_of_the_password() -> None:
    with pytest.raises(StoreUnavailable, match="must start with memory:") as raised:
        open_store("postgres://user:secret@host")
    assert "secret" not in str(raised.value)
