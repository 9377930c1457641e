"""The client for threads."""

import time
from collections.abc import Iterable
from typing import Self, Unpack

import httpx

from frontrow_client import wire
from frontrow_client.errors import NoRanking, Unreachable
from frontrow_client.policy import DEFAULT_TIMEOUT_SECONDS, Call, Policy
from frontrow_client.types import Candidate, Event, Order, Ranking, RankOptions, Receipt


class FrontrowClient:
    """Rankings of one service. Several threads may use it at once; `close` it, or use it as a context manager.

    What httpx does not bound, this cannot bound either: looking up a host's name takes its time, and an answer that
    comes in dribs and drabs may take twice the time of the call.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        policy: Policy | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        """`timeout_seconds` is for a whole call, unless it says otherwise. `http` brings certificates and proxies."""
        self._url = url.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._policy = policy or Policy()
        self._http = http or httpx.Client()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def rank(self, candidates: Iterable[str | Candidate], **options: Unpack[RankOptions]) -> Ranking:
        """Rank candidates. Raises `NoRanking` or `Rejected`."""
        request = wire.rank_request(candidates, options)
        return wire.read_ranking(self._send(request, options.get("timeout_seconds")))

    def order(self, candidates: Iterable[str | Candidate], **options: Unpack[RankOptions]) -> Order:
        """An order to show, at the deadline at the latest: the candidates as given, where no ranking came in time.

        Raises `Rejected`, for no order would mend the caller's mistake.
        """
        candidates = list(candidates)
        try:
            return Order.of(self.rank(candidates, **options))
        except NoRanking as reason:
            return Order.as_given(candidates, options.get("top_k"), reason)

    def send_events(
        self, *events: Event, request_id: str | None = None, timeout_seconds: float | None = None
    ) -> Receipt:
        """Tell what visitors did; the very next ranking of each has it. Raises `NoRanking` or `Rejected`."""
        request = wire.events_request(events, now_ms=wire.now_ms(), request_id=request_id)
        return wire.read_receipt(self._send(request, timeout_seconds))

    def forget(self, visitor_id: str, *, request_id: str | None = None, timeout_seconds: float | None = None) -> None:
        """Have everything deleted that is kept of a visitor. Raises `NoRanking` or `Rejected`."""
        self._send(wire.forget_request(visitor_id, request_id=request_id), timeout_seconds)

    def _send(self, request: wire.Request, timeout_seconds: float | None) -> wire.Answer:
        seconds = self._timeout_seconds if timeout_seconds is None else timeout_seconds
        call = Call(self._policy, time.monotonic(), seconds)
        while True:
            try:
                return wire.check(self._attempt(request, call))
            except NoRanking as failure:
                rest_seconds = call.rest_seconds(failure, time.monotonic())
            time.sleep(rest_seconds)

    def _attempt(self, request: wire.Request, call: Call) -> wire.Answer:
        remaining = call.begin(time.monotonic())
        begun = False
        try:
            with self._http.stream(
                request.method,
                self._url + request.path,
                content=request.body,
                headers=request.headers_for(remaining),
                timeout=remaining,  # of each read and write
            ) as response:
                begun = True
                body = b"".join(_in_time(response, call))
        except httpx.TimeoutException as error:
            raise call.late() from error
        except httpx.RequestError as error:
            raise Unreachable(f"{self._url}: {error}", repeatable=not begun) from error
        return wire.Answer(response.status_code, response.headers, body, call.attempts)


def _in_time(response: httpx.Response, call: Call) -> Iterable[bytes]:
    for piece in response.iter_bytes():
        if time.monotonic() >= call.due_at:
            raise call.late()
        yield piece
