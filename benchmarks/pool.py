"""The callers' side of the wire: connections that are open, requests that are on them, requests that wait for one."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from benchmarks.connection import IDLE, Connection
from benchmarks.errors import Unreachable
from benchmarks.record import BROKEN, DROPPED, GAVE_UP
from benchmarks.target import Target, tls_context

OPENED_AT_ONCE = 64

Ended = Callable[[int, int, float], None]
"""Hears `(request, status, sent_at)`: an HTTP status or one of record.NO_ANSWER, and the loop's time of sending."""


class ConnectionPool:
    """Sends requests on idle connections, opens more up to `limit`, and gives up on those that take too long.

    Every submitted request is reported to `ended` exactly once. The connection that answered last is taken first, as
    HTTP clients do, so one that the server has not accepted yet keeps no more than one request waiting. Request
    number n sends `payloads[n % len(payloads)]`. Times are the loop's.
    """

    def __init__(
        self, target: Target, payloads: Sequence[bytes], ended: Ended, *, limit: int, give_up_seconds: float
    ) -> None:
        self._target = target
        self._payloads = payloads
        self._ended = ended
        self._limit = limit
        self._give_up_seconds = give_up_seconds
        self._loop = asyncio.get_running_loop()
        self._tls = tls_context(target)
        self._connections: set[Connection] = set()
        self._idle: deque[Connection] = deque()
        self._waiting: deque[tuple[int, float]] = deque()  # (request, since)
        self._opening: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self._quiet: asyncio.Future[None] | None = None
        self.most_connections = 0

    async def open(self, count: int) -> None:
        """Open `count` connections; raises Unreachable when one is refused."""
        for first in range(0, count, OPENED_AT_ONCE):
            try:
                await asyncio.gather(*(self._connect() for _ in range(first, min(count, first + OPENED_AT_ONCE))))
            except OSError as error:
                raise Unreachable(f"{self._target.authority}: {error}") from error

    def submit(self, request: int) -> None:
        """Send `request` on an idle connection, or on the next one; with no room for one more it ends as dropped."""
        connection = self._take_idle()
        if connection is not None:
            self._under_way += 1
            self._send(connection, request)
        elif len(self._connections) + len(self._opening) < self._limit:
            self._under_way += 1
            self._waiting.append((request, self._loop.time()))
            self._grow()
        else:
            self._ended(request, DROPPED, self._loop.time())

    async def drain(self) -> None:
        """Wait until nothing is under way. Needs `give_up_on_the_slow` to be called now and then to be bounded."""
        if self._under_way:
            self._quiet = self._loop.create_future()
            await self._quiet

    async def close(self) -> None:
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for connection in list(self._connections):
            connection.hang_up()
        await asyncio.sleep(0)  # transports tell their connections of the end in the next turn of the loop

    def give_up_on_the_slow(self) -> None:
        """Hang up on requests that were sent, or wait to be sent, for longer than `give_up_seconds`."""
        oldest = self._loop.time() - self._give_up_seconds
        while self._waiting and self._waiting[0][1] < oldest:
            request, since = self._waiting.popleft()
            self._end(request, GAVE_UP, since)
        for connection in [each for each in self._connections if each.request != IDLE and each.sent_at < oldest]:
            self._connections.discard(connection)
            request, connection.request = connection.request, IDLE
            connection.hang_up()
            self._end(request, GAVE_UP, connection.sent_at)

    def opened(self, connection: Connection) -> None:
        self._connections.add(connection)
        self.most_connections = max(self.most_connections, len(self._connections))
        # The bottom of the stack: it is used when those that are known to work are taken.
        self._release(connection, self._idle.appendleft)

    def answered(self, connection: Connection, request: int, status: int) -> None:
        sent_at = connection.sent_at
        self._release(connection, self._idle.append)  # which may send another request on it
        self._end(request, status, sent_at)

    def lost(self, connection: Connection, request: int) -> None:
        self._connections.discard(connection)
        if request != IDLE:
            self._end(request, BROKEN, connection.sent_at)
        if len(self._opening) < len(self._waiting):
            self._grow()

    def _send(self, connection: Connection, request: int) -> None:
        connection.send(request, self._payloads[request % len(self._payloads)], self._loop.time())

    def _release(self, connection: Connection, keep: Callable[[Connection], None]) -> None:
        """Give the connection to the request that has waited longest, or keep it idle."""
        if not connection.reusable:
            return
        if self._waiting:
            self._send(connection, self._waiting.popleft()[0])
        else:
            keep(connection)

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                return connection
        return None

    def _end(self, request: int, status: int, sent_at: float) -> None:
        self._under_way -= 1
        self._ended(request, status, sent_at)  # may submit again
        if self._quiet is not None and not self._under_way and not self._quiet.done():
            self._quiet.set_result(None)

    def _grow(self) -> None:
        task = self._loop.create_task(self._connect_for_the_waiting())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect_for_the_waiting(self) -> None:
        try:
            await self._connect()
        except OSError:
            if self._waiting:
                request, since = self._waiting.popleft()
                self._end(request, BROKEN, since)

    async def _connect(self) -> None:
        await self._loop.create_connection(
            lambda: Connection(self), self._target.host, self._target.port, ssl=self._tls
        )
