"""The client for asyncio."""

import asyncio
import time
from collections.abc import Iterable
from typing import Self, Unpack

import httpx

from frontrow_client import wire
from frontrow_client.errors import NoRanking, Unreachable
from frontrow_client.policy import DEFAULT_TIMEOUT_SECONDS, Call, Policy
from frontrow_client.types import Candidate, Event, Order, Ranking, RankOptions, Receipt


class AsyncFrontrowClient:
    """Rankings of one service, on an asyncio event loop; `aclose` it, or use it as a context manager.

    A call ends at its deadline, whatever it waits for, and may be cancelled at any time.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        policy: Policy | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """`timeout_seconds` is for a whole call, unless it says otherwise. `http` brings certificates and proxies."""
        self._url = url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._policy = policy or Policy()
        self._http = http or httpx.AsyncClient()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def rank(self, candidates: Iterable[str | Candidate], **options: Unpack[RankOptions]) -> Ranking:
        """Rank candidates. Raises `NoRanking` or `Rejected`."""
        request = wire.rank_request(candidates, options)
        return wire.read_ranking(await self._send(request, options.get("timeout_seconds")))

    async def order(self, candidates: Iterable[str | Candidate], **options: Unpack[RankOptions]) -> Order:
        """An order to show, at the deadline at the latest: the candidates as given, where no ranking came in time.

        Raises `Rejected`, for no order would mend the caller's mistake.
        """
        candidates = list(candidates)
        try:
            return Order.of(await self.rank(candidates, **options))
        except NoRanking as reason:
            return Order.as_given(candidates, options.get("top_k"), reason)

    async def send_events(
        self, *events: Event, request_id: str | None = None, timeout_seconds: float | None = None
    ) -> Receipt:
        """Tell what visitors did; the very next ranking of each has it. Raises `NoRanking` or `Rejected`."""
        request = wire.events_request(events, now_ms=wire.now_ms(), request_id=request_id)
        return wire.read_receipt(await self._send(request, timeout_seconds))

    async def forget(
        self, visitor_id: str, *, request_id: str | None = None, timeout_seconds: float | None = None
    ) -> None:
        """Have everything deleted that is kept of a visitor. Raises `NoRanking` or `Rejected`."""
        await self._send(wire.forget_request(visitor_id, request_id=request_id), timeout_seconds)

    async def _send(self, request: wire.Request, timeout_seconds: float | None) -> wire.Answer:
        seconds = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        call = Call(self._policy, time.monotonic(), seconds)
        while True:
            try:
                return wire.check(await self._attempt(request, call))
            except NoRanking as failure:
                rest_seconds = call.rest_seconds(failure, time.monotonic())
            await asyncio.sleep(rest_seconds)

    async def _attempt(self, request: wire.Request, call: Call) -> wire.Answer:
        remaining = call.begin(time.monotonic())
        begun = False
        try:
            async with (
                asyncio.timeout(remaining),
                self._http.stream(
                    request.method,
                    self._url + request.path,
                    content=request.body,
                    headers=request.headers_for(remaining),
                    timeout=None,
                ) as response,
            ):
                begun = True
                body = await response.aread()
        except TimeoutError as error:
            raise call.late() from error
        except httpx.RequestError as error:
            raise Unreachable(f"{self._url}: {error}", repeatable=not begun) from error
        return wire.Answer(response.status_code, response.headers, body, call.attempts)
