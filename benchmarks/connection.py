"""One keep-alive connection with at most one request on it."""

import asyncio
from typing import Protocol, cast

import httptools

IDLE = -1
NO_BODY_YET = 200

_received = memoryview(bytearray(262_144))


class Pool(Protocol):
    """Who owns the connections and hears from them."""

    def opened(self, connection: "Connection") -> None: ...

    def answered(self, connection: "Connection", request: int, status: int) -> None: ...

    def lost(self, connection: "Connection", request: int) -> None: ...


class Connection(asyncio.BufferedProtocol):
    """Tells its pool when it is open, answered and lost; `request` is the number under way, or IDLE.

    Connections of a thread read into the same memory, one at a time: asyncio would else find new memory of 256 KiB for
    each answer, however small.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self.request = IDLE
        self.reusable = True
        self.sent_at = 0.0

    def send(self, request: int, payload: bytes, now: float) -> None:
        """Write `payload` for `request`; only when idle."""
        assert self._transport is not None
        assert self.request == IDLE
        self.request = request
        self.sent_at = now
        self._transport.write(payload)

    def hang_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._pool.opened(self)

    def get_buffer(self, _size: int) -> memoryview:
        return _received

    def buffer_updated(self, size: int) -> None:
        try:
            self._parser.feed_data(_received[:size])
        except httptools.HttpParserError:
            self.hang_up()

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < NO_BODY_YET or self.request == IDLE:
            return
        self.reusable = self._parser.should_keep_alive()
        request, self.request = self.request, IDLE
        if not self.reusable and self._transport is not None:
            self._transport.close()
        self._pool.answered(self, request, status)

    def connection_lost(self, _error: Exception | None) -> None:
        self.reusable = False
        self._transport = None
        self._pool.lost(self, self.request)
