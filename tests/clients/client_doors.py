"""Both clients behind the same calls, which are awaited: a test says what is true of either."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

from frontrow_client import AsyncFrontrowClient, FrontrowClient, Order, Ranking, Receipt


class Door(Protocol):
    async def rank(self, *arguments: Any, **options: Any) -> Ranking: ...
    async def order(self, *arguments: Any, **options: Any) -> Order: ...
    async def send_events(self, *events: Any, **options: Any) -> Receipt: ...
    async def forget(self, *arguments: Any, **options: Any) -> None: ...


Open = Callable[..., AbstractAsyncContextManager[Door]]


class ThreadDoor:
    """The client for threads, each call in one."""

    def __init__(self, client: FrontrowClient) -> None:
        self._client = client

    async def rank(self, *arguments: Any, **options: Any) -> Ranking:
        return await asyncio.to_thread(self._client.rank, *arguments, **options)

    async def order(self, *arguments: Any, **options: Any) -> Order:
        return await asyncio.to_thread(self._client.order, *arguments, **options)

    async def send_events(self, *events: Any, **options: Any) -> Receipt:
        return await asyncio.to_thread(self._client.send_events, *events, **options)

    async def forget(self, *arguments: Any, **options: Any) -> None:
        await asyncio.to_thread(self._client.forget, *arguments, **options)


@asynccontextmanager
async def for_threads(url: str, **options: Any) -> AsyncIterator[Door]:
    with FrontrowClient(url, **options) as client:
        yield ThreadDoor(client)


@asynccontextmanager
async def for_asyncio(url: str, **options: Any) -> AsyncIterator[Door]:
    async with AsyncFrontrowClient(url, **options) as client:
        yield client


OPEN: dict[str, Open] = {"threads": for_threads, "asyncio": for_asyncio}
