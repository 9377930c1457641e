"""Callers on keep-alive connections, who hang up as the traffic says and come back to whatever process is there."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol, cast

import httptools

from benchmarks.long_run.ledger import Ledger, Life
from benchmarks.long_run.traffic import Leaves, Traffic
from benchmarks.target import Target

CALLERS = 16
PATIENCE_SECONDS = 30.0  # a bound for a busy machine: what is not answered then is lost
RECONNECT_SECONDS = 0.05
CUT = 20  # bytes of a head that is no whole head yet


class Backend(Protocol):
    """A process that takes requests; `life` is of the process that is there now."""

    @property
    def target(self) -> Target: ...

    @property
    def life(self) -> Life: ...


class Connection(asyncio.Protocol):
    """A keep-alive connection that notes every answer that arrives, whether anybody waits for it or not."""

    def __init__(self, ledger: Ledger, life: Life) -> None:
        self.life = life
        self._ledger = ledger
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._asked = -1
        self._over = asyncio.get_running_loop().create_future()

    def send(self, number: int, payload: bytes) -> None:
        self._asked = number
        self._over = asyncio.get_running_loop().create_future()
        if self._transport is None:
            self._end(answered=False)
        else:
            self._transport.write(payload)

    async def answered(self, patience_seconds: float) -> bool:
        """Whether an answer has come, at the latest once patience or the connection has ended."""
        await asyncio.wait([self._over], timeout=patience_seconds)
        return self._over.done() and self._over.result()

    @property
    def ended(self) -> bool:
        return self._transport is None

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._end(answered=False)

    def on_message_begin(self) -> None:
        self._request_id, self._body = "", b""

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-request-id":
            self._request_id = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._ledger.answered(self.life, self._asked, self._request_id, self._parser.get_status_code(), self._body)
        if not self._parser.should_keep_alive():
            self.close()
        self._end(answered=True)

    def _end(self, *, answered: bool) -> None:
        if not self._over.done():
            self._over.set_result(answered)


class Callers:
    """Some callers who share the numbers of a traffic, each of them when it is due.

    `pick` is asked for each new connection. `pause` and `resume` bracket a rest, in which there is no connection.
    """

    def __init__(self, traffic: Traffic, ledger: Ledger, rate: float, pick: Callable[[], Backend | None]) -> None:
        self.begun = 0
        self._traffic = traffic
        self._ledger = ledger
        self._rate = rate
        self._pick = pick
        self._go = asyncio.Event()
        self._go.set()
        self._busy = 0
        self._quiet = asyncio.Event()

    async def ask_all(self) -> None:
        """Ask for every number, and wait for what comes of it."""
        began_at = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as callers:
            for _ in range(CALLERS):
                callers.create_task(self._ask_in_turn(began_at))

    async def pause(self) -> None:
        """Return when every caller has what it asked for and has closed its connection."""
        self._go.clear()
        if self._busy:
            await self._quiet.wait()

    def resume(self) -> None:
        self._go.set()

    async def _ask_in_turn(self, began_at: float) -> None:
        while self.begun < len(self._traffic):
            await self._go.wait()
            self._busy += 1
            self._quiet.clear()
            try:
                await self._ask_until_paused(began_at)
            finally:
                self._busy -= 1
                if not self._busy:
                    self._quiet.set()

    async def _ask_until_paused(self, began_at: float) -> None:
        clock = asyncio.get_running_loop().time
        connection: Connection | None = None
        while self._go.is_set() and self.begun < len(self._traffic):
            number = self.begun
            self.begun += 1
            early = began_at + number / self._rate - clock()
            if early > 0:
                await asyncio.sleep(early)
            connection = await self._ask(number, connection)
        if connection is not None:
            connection.close()

    async def _ask(self, number: int, connection: Connection | None) -> Connection:
        """Ask, and again if the connection ends without a word: who is told nothing was not taken on."""
        while True:
            if connection is None or not connection.usable:
                connection = await self._connect()
            self._send(number, connection)
            if self._traffic.leaves[number] != Leaves.NEVER:
                await self._leave(number, connection)
                return connection
            if await connection.answered(PATIENCE_SECONDS):
                return connection
            if not connection.ended:  # lost: nobody knows what else might come on it
                connection.close()
                return connection
            self._ledger.asked_again += 1

    def _send(self, number: int, connection: Connection) -> None:
        head, body = self._traffic.request(number)
        leaves = self._traffic.leaves[number]
        self._ledger.sent[number] = True
        if leaves == Leaves.IN_THE_HEADERS:
            connection.send(number, head[:CUT])
            return
        connection.life.arrived += 1
        connection.send(number, head if leaves == Leaves.BEFORE_THE_BODY else head + body)

    async def _leave(self, number: int, connection: Connection) -> None:
        later = self._traffic.leaves[number] == Leaves.A_MOMENT_LATER
        if not await connection.answered(float(self._traffic.moments[number]) if later else 0.0):
            self._ledger.left[number] = True
            connection.close()

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        while True:
            if backend := self._pick():
                target, life = backend.target, backend.life
                try:
                    factory = partial(Connection, self._ledger, life)
                    return (await loop.create_connection(factory, target.host, target.port))[1]
                except OSError:  # it is on its way out
                    self._ledger.connections_refused += 1
            await asyncio.sleep(RECONNECT_SECONDS)
