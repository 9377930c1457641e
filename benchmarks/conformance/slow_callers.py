"""Callers who never finish saying what they want: `python -m benchmarks.conformance.slow_callers`.

A process of its own, so that holding thousands of connections takes nothing from those who measure. It reads a request
(JSON `Slow`) from its standard input, keeps that many connections open, each with one byte more of headers or of a body
now and then, opens another for each that the server cuts, and ends when its input does. Then it prints `Lives`.
"""

import asyncio
import math
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast

import msgspec

from benchmarks.errors import BenchError
from benchmarks.target import Target

SPARE_FILES = 500
STEP_SECONDS, FILL_SECONDS = 0.02, 8.0  # they come evenly, so that their ends do, too
TRICKLE_SECONDS = 5.0
END_SECONDS = 30


class Slow(msgspec.Struct, frozen=True):
    """How many connections, where to, and what one says: the `first` bytes of `text` at once, the rest one by one."""

    host: str
    port: int
    connections: int
    texts: list[bytes]
    first: list[int]


class Lives(msgspec.Struct, frozen=True):
    """How many connections were opened, cut and refused, and how long the longest was borne, in seconds."""

    opened: int
    cut: int
    refused: int
    longest_seconds: float


class TooFewFiles(BenchError):
    """A process may not have so many connections open."""


def allow_connections(count: int) -> None:
    """Raise the limit of open files of this process and its children; raises TooFewFiles where it is not allowed."""
    wanted = count + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise TooFewFiles(f"{count:,} connections need {wanted:,} open files and {hard:,} are allowed (ulimit -Hn)")
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class SlowCallers:
    """A running process of slow callers."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def end(self) -> Lives:
        """Hang up on everything; raises BenchError when the process failed."""
        said, _ = self._process.communicate(timeout=END_SECONDS)
        if self._process.returncode:
            raise BenchError(f"the slow callers ended with {self._process.returncode}")
        return msgspec.json.decode(said, type=Lives)


@contextmanager
def slow_callers(target: Target, request: bytes, connections: int) -> Iterator[SlowCallers]:
    """Half of them are slow with their headers, half with the body of `request`."""
    head = request.index(b"\r\n\r\n")
    headers = request[:head] + b"\r\nX-Slow: " + b"a" * 1_000
    slow = Slow(target.host, target.port, connections, [headers, request], [head + 10, head + 10])
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.conformance.slow_callers"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(slow) + b"\n")
        process.stdin.flush()
        yield SlowCallers(process)
    finally:
        process.kill()
        process.wait()


class _Caller(asyncio.Protocol):
    """One slow connection."""

    def __init__(self, crowd: "_Crowd", text: bytes, first: int) -> None:
        self._crowd = crowd
        self._text = text
        self._said = first
        self._transport: asyncio.Transport | None = None
        self._born_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._born_at = self._crowd.loop.time()
        self._crowd.came(self)
        self._transport.write(self._text[: self._said])
        self._crowd.loop.call_later(TRICKLE_SECONDS, self._trickle)

    def _trickle(self) -> None:
        if self._transport is None or self._said >= len(self._text) - 1:
            return
        self._transport.write(self._text[self._said : self._said + 1])
        self._said += 1
        self._crowd.loop.call_later(TRICKLE_SECONDS, self._trickle)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._crowd.lost(self, self.age())

    def age(self) -> float:
        return self._crowd.loop.time() - self._born_at


class _Crowd:
    """All of them."""

    def __init__(self, slow: Slow) -> None:
        self.loop = asyncio.get_running_loop()
        self._slow = slow
        self._alive: set[_Caller] = set()
        self._opened = self._cut = self._refused = 0
        self._longest = 0.0

    async def stand(self) -> None:
        """Keep as many as were asked for, until cancelled."""
        at_once = math.ceil(self._slow.connections * STEP_SECONDS / FILL_SECONDS)
        while True:
            missing = min(at_once, self._slow.connections - len(self._alive))
            await asyncio.gather(*(self._open() for _ in range(missing)))
            await asyncio.sleep(STEP_SECONDS)

    async def _open(self) -> None:
        turn = self._opened % len(self._slow.texts)
        text, first = self._slow.texts[turn], self._slow.first[turn]
        self._opened += 1
        try:
            await self.loop.create_connection(lambda: _Caller(self, text, first), self._slow.host, self._slow.port)
        except OSError:
            self._refused += 1

    def came(self, caller: _Caller) -> None:
        self._alive.add(caller)

    def lost(self, caller: _Caller, age: float) -> None:
        self._alive.discard(caller)
        self._cut += 1
        self._longest = max(self._longest, age)

    def lives(self) -> Lives:
        longest = max([self._longest, *(caller.age() for caller in self._alive)])
        return Lives(self._opened, self._cut, self._refused, longest)


async def _run(slow: Slow) -> Lives:
    crowd = _Crowd(slow)
    standing = asyncio.create_task(crowd.stand())
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)  # until it ends
    standing.cancel()
    with suppress(asyncio.CancelledError):
        await standing
    return crowd.lives()


if __name__ == "__main__":
    asked = msgspec.json.decode(sys.stdin.buffer.readline(), type=Slow)
    allow_connections(asked.connections)
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(_run(asked))))
    sys.stdout.flush()
    os._exit(0)  # the sockets need no polite end
