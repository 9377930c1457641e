"""Histories in Redis: for any number of replicas.

One packed value a visitor. A fetch is one MGET, whatever the batch; an append is one script call a visitor, all in one
pipeline. One primary (with replicas or not) is what this is for: Redis Cluster refuses an MGET over several slots.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha1
from pathlib import Path
from typing import Any

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from features.events import Event, oldest_record, records_by_visitor
from features.history import MAGIC, Bounds
from features.stores.protocol import StoreUnavailable

PREFIX = "frontrow:history:"
CONNECTIONS = 16  # of each kind, a process

_SCRIPT = Path(__file__).with_name("append.lua").read_text()
_SCRIPT_SHA = sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


class RedisStore:
    """`timeout_seconds` bounds a connection attempt and each answer; nothing is tried twice.

    Reads and writes have connections of their own, so that a burst of events never keeps a ranking waiting for one.
    """

    name = "redis"

    def __init__(
        self,
        url: str,
        bounds: Bounds = Bounds(),  # noqa: B008 - immutable
        *,
        timeout_seconds: float = 0.5,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Connects at the first use. Raises `StoreUnavailable` when the URL is none of Redis."""
        self._bounds = bounds
        self._clock = clock
        options: dict[str, Any] = {
            "socket_timeout": timeout_seconds,
            "socket_connect_timeout": timeout_seconds,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,  # saves the HELLO of a new connection
            "max_connections": CONNECTIONS,
        }
        try:
            reading = ConnectionPool.from_url(url, **options)
            writing = BlockingConnectionPool.from_url(url, timeout=timeout_seconds, **options)
        except ValueError:
            # The URL may hold a password, so the message does not repeat it.
            raise StoreUnavailable("the URL of the store must start with redis://, rediss:// or unix://") from None
        self._reader: Redis = Redis.from_pool(reading)
        self._writer: Redis = Redis.from_pool(writing)

    async def append(self, events: Sequence[Event]) -> None:
        oldest = oldest_record(int(1e3 * self._clock()) - self._bounds.ttl_ms)
        calls = [
            (_key(visitor), MAGIC, visitor[:8], self._bounds.events, self._bounds.ttl_ms, oldest, *records)
            for visitor, records in records_by_visitor(events).items()
        ]
        with _named_errors():
            answers = await self._call("EVALSHA", _SCRIPT_SHA, calls)
            if any(isinstance(answer, NoScriptError) for answer in answers):  # a new server, or one that restarted
                answers = await self._call("EVAL", _SCRIPT, calls)  # events are kept once, so all may go again
        for answer in answers:
            if isinstance(answer, Exception):
                raise StoreUnavailable(_reason(answer)) from answer

    async def fetch(self, visitors: Sequence[bytes]) -> list[bytes | None]:
        if not visitors:
            return []
        with _named_errors():
            values: Any = await self._reader.mget([_key(visitor) for visitor in visitors])
        if not isinstance(values, list) or len(values) != len(visitors):
            raise StoreUnavailable(f"Redis gave {type(values).__name__} for the histories of {len(visitors)} visitors")
        return values

    async def delete(self, visitor: bytes) -> None:
        with _named_errors():
            await self._writer.unlink(_key(visitor))

    async def ping(self) -> None:
        with _named_errors():
            await self._reader.ping()

    async def close(self) -> None:
        for client in (self._reader, self._writer):
            await client.aclose(close_connection_pool=True)

    async def _call(self, command: str, script: str, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        async with self._writer.pipeline(transaction=False) as pipeline:
            for call in calls:
                pipeline.execute_command(command, script, 1, *call)
            return await pipeline.execute(raise_on_error=False)


def _key(visitor: bytes) -> str:
    return PREFIX + visitor.hex()


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError, ValueError, AttributeError) as error:  # the last two: what the parser makes of garbage
        raise StoreUnavailable(_reason(error)) from error


def _reason(error: Exception) -> str:
    return f"Redis: {type(error).__name__}: {error}"
