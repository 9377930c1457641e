"""Bytes to a server and back, with nothing in between that would mend them."""

import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass

import httptools

from benchmarks.target import Target

CONTINUE = 100
PIECE_BYTES = 65_536
MOMENT_SECONDS = 0.5


@dataclass(frozen=True)
class Exchange:
    """What came back: each answer's status and body in order, whether the server closed, and what was no HTTP."""

    statuses: list[int]
    bodies: list[bytes]
    closed: bool
    garbage: bytes
    seconds: float


def seen(found: Exchange) -> str:
    """In words, as `400, closed`."""
    words = [", ".join(map(str, found.statuses)) or "no answer", "closed" if found.closed else "left open"]
    return ", ".join([*words, "and bytes that are no HTTP"] if found.garbage else words)


class _Answers:
    """Reads answers one after another, also one that ends with the connection."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.bodies: list[bytes] = []
        self.garbage = b""
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.garbage += data

    def on_headers_complete(self) -> None:
        if self._parser.get_status_code() != CONTINUE:
            self.statuses.append(self._parser.get_status_code())
            self.bodies.append(b"")

    def on_body(self, data: bytes) -> None:
        self.bodies[-1] += data


def exchange(target: Target, pieces: Iterable[bytes], *, hang_up: bool = False, seconds: float = 2.0) -> Exchange:
    """Send `pieces` on one connection and read until the server closes it, for `seconds` at most.

    With `hang_up` the caller's side is closed when nothing has come for a moment, as by one who has said everything. A
    server that closes while it is being sent to is read all the same.
    """
    started = time.monotonic()
    answers, closed = _Answers(), False
    with socket.create_connection((target.host, target.port), timeout=seconds) as connection:
        _send(connection, pieces)
        if hang_up:
            closed = _read(connection, answers, MOMENT_SECONDS)
            _hang_up(connection)
        closed = _read(connection, answers, seconds) or closed
    return Exchange(answers.statuses, answers.bodies, closed, answers.garbage, time.monotonic() - started)


def _send(connection: socket.socket, pieces: Iterable[bytes]) -> None:
    try:
        for piece in pieces:
            connection.sendall(piece)
    except (ConnectionError, TimeoutError):
        return  # it has heard enough; what it says to that is read


def _hang_up(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the server was first


def _read(connection: socket.socket, answers: _Answers, seconds: float) -> bool:
    """Read what comes for `seconds`; returns whether the server closed."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            data = connection.recv(PIECE_BYTES)
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        if not data:
            return True
        answers.feed(data)
    return False
