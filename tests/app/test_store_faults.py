"""A real Redis server that fails while rankings come: none of them fails, they say so, and they get over it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis_server import RedisServer, SlowProxy, tcp_server
from served import running

from app.service import Service
from app.settings import Settings

pytestmark = [pytest.mark.real("redis"), pytest.mark.xdist_group("store_faults")]

IDS = [f"A{n}" for n in range(50)]
CALLERS = 8
PATIENCE_SECONDS = 30
LENIENT_MS = 100  # a budget that a busy machine does not break by itself


class Traffic:
    """Callers that rank without a pause, each for a visitor of its own, and what they were answered."""

    def __init__(self, service: Service, client: httpx.AsyncClient) -> None:
        self.service = service
        self.client = client
        self.statuses: dict[int, int] = {}
        self.latest = dict.fromkeys(range(CALLERS), True)  # whether a caller's last answer was degraded
        self._answered = asyncio.Condition()

    async def until(self, *, degraded: bool, answers: int = 0) -> None:
        """Wait until everybody's last answer was (not) degraded, and there are so many."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._answered:
            await self._answered.wait_for(
                lambda: set(self.latest.values()) == {degraded} and self.statuses.get(200, 0) >= answers
            )

    async def send(self, visitor: int) -> int:
        event = {"visitor_id": f"v{visitor}", "activity_id": "A3", "type": "view"}
        return (await self.client.post("/v1/events", json=event)).status_code

    async def call(self, caller: int) -> None:
        while True:
            response = await self.client.post(
                "/v1/rank", json={"candidates": IDS}, headers={"X-Visitor-Id": f"v{caller}"}
            )
            self.statuses[response.status_code] = self.statuses.get(response.status_code, 0) + 1
            async with self._answered:
                self.latest[caller] = response.json().get("degraded")
                self._answered.notify_all()


@asynccontextmanager
async def traffic(settings: Settings, bundles: Path, store: str) -> AsyncIterator[Traffic]:
    """Traffic that is not degraded. At the end, no ranking may have failed."""
    update: dict[str, Any] = {
        "control_model": str(bundles / "pairs"),
        "treatment_model": "",
        "feature_store": store,
        "feature_budget_ms": LENIENT_MS,
    }
    settings = settings.model_copy(update=update)
    async with running(settings) as (service, client):
        traffic = Traffic(service, client)
        for caller in range(CALLERS):
            assert await traffic.send(caller) == 202
        callers = [asyncio.create_task(traffic.call(caller)) for caller in range(CALLERS)]
        try:
            await traffic.until(degraded=False)
            yield traffic
        finally:
            for caller in callers:
                caller.cancel()
            ends = await asyncio.gather(*callers, return_exceptions=True)
    failed = [end for end in ends if isinstance(end, Exception)]
    assert failed == []
    assert traffic.statuses.keys() == {200}


async def test_a_server_that_is_killed_and_comes_back_empty(
    settings: Settings, history_bundles: Path, own_redis: RedisServer
) -> None:
    async with traffic(settings, history_bundles, own_redis.url) as rankings:
        own_redis.kill()
        await rankings.until(degraded=True)
        assert await rankings.send(0) == 503
        own_redis.start()
        await rankings.until(degraded=False)
        assert await rankings.send(0) == 202


async def test_a_server_that_is_paused(settings: Settings, history_bundles: Path, own_redis: RedisServer) -> None:
    async with traffic(settings, history_bundles, own_redis.url) as rankings:
        own_redis.pause()
        await rankings.until(degraded=True)
        assert await rankings.send(0) == 503
        own_redis.resume()
        await rankings.until(degraded=False)


async def test_a_server_that_is_slow(settings: Settings, history_bundles: Path, own_redis: RedisServer) -> None:
    proxy = SlowProxy(own_redis)
    async with (
        tcp_server(proxy.handle) as port,
        traffic(settings, history_bundles, f"redis://127.0.0.1:{port}/0") as rankings,
    ):
        proxy.delay_seconds = 3 * LENIENT_MS / 1e3
        await rankings.until(degraded=True)
        proxy.delay_seconds = 0
        await rankings.until(degraded=False)


async def test_a_server_that_talks_nonsense(settings: Settings, history_bundles: Path, own_redis: RedisServer) -> None:
    proxy = SlowProxy(own_redis)
    async with (
        tcp_server(proxy.handle) as port,
        traffic(settings, history_bundles, f"redis://127.0.0.1:{port}/0") as rankings,
    ):
        proxy.garbage = b"\x00HTTP/1.1 200 OK\r\n\r\n"
        await rankings.until(degraded=True)
        proxy.garbage = None
        await rankings.until(degraded=False)


async def test_values_that_are_nonsense_degrade_those_visitors_until_their_next_event(
    settings: Settings, history_bundles: Path, own_redis: RedisServer
) -> None:
    async with traffic(settings, history_bundles, own_redis.url) as rankings:
        with own_redis.client() as client:
            for key in list(client.scan_iter()):
                client.set(key, b"\x80\x04garbage")
        await rankings.until(degraded=True)
        for caller in range(CALLERS):
            assert await rankings.send(caller) == 202
        await rankings.until(degraded=False)


async def test_a_batch_makes_one_round_trip_as_the_server_counts_them(
    settings: Settings, history_bundles: Path, redis: RedisServer
) -> None:
    async with traffic(settings, history_bundles, redis.url) as rankings:
        await rankings.until(degraded=False, answers=500)
    lane = rankings.service.batcher.stats().lanes["control"]
    text = rankings.service.metrics.exposition().decode()
    (batches,) = [
        float(line.split()[1])
        for line in text.splitlines()
        if line.startswith('frontrow_batch_requests_count{variant="control"}')
    ]
    assert redis.calls("mget") == batches
    assert batches < lane.offered  # else there was nothing to share
