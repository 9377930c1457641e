"""Callers who never finish saying what they want: `python -m benchmarks.conformance.slow_callers`.

A process of its own, so that holding thousands of connections takes nothing from those who measure. It reads a request
(JSON `Slow`) from its standard input, keeps that many connections open, each with one byte more of headers or of a body
now and then, opens another for each that the server cuts, and ends when its input does. Then it prints `Lives`.
"""

import math
import os
import resource
import selectors
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

import msgspec

from benchmarks.errors import BenchError
from benchmarks.target import Target

SPARE_FILES = 500
# They come one by one and evenly, so that their ends do, too: strangers do not come in step.
FILL_SECONDS, LONGEST_INTERVAL_SECONDS = 8.0, 0.02
TRICKLE_SECONDS = 5.0
PIECE_BYTES = 65_536
END_SECONDS = 30
LEAST_URGENT = 19  # they stand for other machines: what this one has to do for them is the server's part alone


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


class _Caller:
    """One slow connection."""

    def __init__(self, connection: socket.socket, text: bytes, first: int) -> None:
        self._connection = connection
        self._text = text
        self._said = first
        self._born_at = math.inf

    def fileno(self) -> int:
        return self._connection.fileno()

    def begin(self, now: float) -> None:
        """Say the first piece; raises OSError when nobody took the connection."""
        self._connection.send(self._text[: self._said])
        self._born_at = now

    def trickle(self) -> bool:
        """Say one byte more; returns whether there may be another."""
        if self.fileno() < 0 or self._said >= len(self._text) - 1:
            return False
        with suppress(OSError):  # whoever reads learns of it
            self._connection.send(self._text[self._said : self._said + 1])
        self._said += 1
        return True

    def is_cut(self) -> bool:
        """Read what came."""
        try:
            return not self._connection.recv(PIECE_BYTES)
        except OSError:
            return True

    def hang_up(self) -> None:
        self._connection.close()

    def age(self, now: float) -> float:
        return max(0.0, now - self._born_at)


class _Crowd:
    """All of them in one thread, with neither tasks nor timers of their own: the machine is shared with the server."""

    def __init__(self, slow: Slow) -> None:
        self._slow = slow
        found = socket.getaddrinfo(slow.host, slow.port, type=socket.SOCK_STREAM)[0]
        self._family, self._address = found[0], found[4]
        self._interval = min(LONGEST_INTERVAL_SECONDS, FILL_SECONDS / slow.connections)
        self._open_at = time.monotonic()
        self._selector = selectors.DefaultSelector()
        self._alive: set[_Caller] = set()
        self._trickles: deque[tuple[float, _Caller]] = deque()  # each caller's next byte, the soonest first
        self._opened = self._cut = self._refused = 0
        self._longest = 0.0

    def stand(self, end: BinaryIO) -> None:
        """Keep as many as were asked for, until something can be read from `end`, which may be its end."""
        self._selector.register(end, selectors.EVENT_READ)
        while True:
            now = time.monotonic()
            self._open_one_if_due(now)
            self._trickle(now)
            for key, events in self._selector.select(self._idle_seconds()):
                if key.fileobj is end:
                    return
                self._attend(key.data, events)

    def _open_one_if_due(self, now: float) -> None:
        if now < self._open_at or len(self._alive) >= self._slow.connections:
            return
        self._open_at = max(self._open_at + self._interval, now)  # what was held up does not come all at once
        turn = self._opened % len(self._slow.texts)
        self._opened += 1
        connection = socket.socket(self._family)
        connection.setblocking(False)
        connection.connect_ex(self._address)  # what becomes of it is seen once it can be written to
        caller = _Caller(connection, self._slow.texts[turn], self._slow.first[turn])
        self._alive.add(caller)
        self._selector.register(connection, selectors.EVENT_WRITE, caller)

    def _attend(self, caller: _Caller, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._begin(caller)
        elif caller.is_cut():
            self._cut += 1
            self._longest = max(self._longest, caller.age(time.monotonic()))
            self._forget(caller)

    def _begin(self, caller: _Caller) -> None:
        now = time.monotonic()
        try:
            caller.begin(now)
        except OSError:
            self._refused += 1
            self._forget(caller)
            return
        self._selector.modify(caller, selectors.EVENT_READ, caller)
        self._trickles.append((now + TRICKLE_SECONDS, caller))

    def _trickle(self, now: float) -> None:
        while self._trickles and self._trickles[0][0] <= now:
            _, caller = self._trickles.popleft()
            if caller.trickle():
                self._trickles.append((now + TRICKLE_SECONDS, caller))

    def _forget(self, caller: _Caller) -> None:
        self._alive.discard(caller)
        self._selector.unregister(caller)
        caller.hang_up()

    def _idle_seconds(self) -> float | None:
        """How long nothing is to be done but to listen; None for as long as nothing comes."""
        due = [self._trickles[0][0]] if self._trickles else []
        if len(self._alive) < self._slow.connections:
            due.append(self._open_at)
        return max(0.0, min(due) - time.monotonic()) if due else None

    def lives(self) -> Lives:
        now = time.monotonic()
        return Lives(
            self._opened, self._cut, self._refused, max([self._longest, *(each.age(now) for each in self._alive)])
        )


def _run(slow: Slow) -> Lives:
    crowd = _Crowd(slow)
    crowd.stand(sys.stdin.buffer)
    return crowd.lives()


if __name__ == "__main__":
    os.nice(LEAST_URGENT)
    asked = msgspec.json.decode(sys.stdin.buffer.readline(), type=Slow)
    allow_connections(asked.connections)
    sys.stdout.buffer.write(msgspec.json.encode(_run(asked)))
    sys.stdout.flush()
    os._exit(0)  # the sockets need no polite end
