"""A server on a socket that takes one step of a script for each request, whatever the step is."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

STOP_SECONDS = 10


@dataclass(frozen=True)
class Step:
    """Bytes to send, and whether the connection ends with them; without any, the caller waits until it leaves."""

    sends: bytes = b""
    ends: bool = False


@dataclass(frozen=True)
class Asked:
    """A request as it came; header names are in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def timeout_ms(self) -> int:
        return int(self.headers["x-request-timeout-ms"])


@dataclass
class Script:
    url: str = ""
    steps: list[Step] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)


def answer(status: int, document: Any, **headers: str) -> Step:
    """`headers` are written with underscores."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    kind = "application/json" if status < 400 else "application/problem+json"
    lines = {"Content-Type": kind, "Content-Length": str(len(body))}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return Step(f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{head}\r\n".encode() + body)


def ranked(*ids: str) -> Step:
    document = {
        "request_id": "r",
        "variant": "control",
        "assignment": "hash",
        "model": {"name": "m", "version": "1"},
        "ranking": [{"id": one, "score": 1.0 - place, "position": place + 1} for place, one in enumerate(ids)],
        "unknown_candidates": [],
        "degraded": False,
    }
    return answer(200, document, X_Code_Version="abc")


def refused(status: int, **headers: str) -> Step:
    problem = {"type": "urn:frontrow:x", "title": "X", "status": status, "detail": "because", "request_id": "r"}
    return answer(status, problem, **headers)


SILENT = Step()
CUT = Step(ends=True)
GARBAGE = Step(b"\x00\xff what is this\r\n\r\n", ends=True)
HALF = Step(ranked("A1").sends[:-5], ends=True)


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        script: Script = self.server.script  # type: ignore[attr-defined]
        while line := self.rfile.readline().decode().strip():
            script.asked.append(self._rest_of(line))
            step = script.steps[len(script.asked) - 1]
            if step == SILENT:
                self.rfile.read()  # until the caller leaves
                return
            self.wfile.write(step.sends)
            if step.ends:
                return

    def _rest_of(self, line: str) -> Asked:
        headers: dict[str, str] = {}
        while header := self.rfile.readline().decode("latin-1").strip():
            name, _, value = header.partition(": ")
            headers[name.lower()] = value
        return Asked(line, headers, self.rfile.read(int(headers.get("content-length", 0))))


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True


@contextmanager
def scripted(*steps: Step) -> Iterator[Script]:
    """Serve the steps on a free port. The port listens before this returns; callers have left when it is closed."""
    script = Script(steps=list(steps))
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.script = script  # type: ignore[attr-defined]
        script.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield script
        finally:
            server.shutdown()
            thread.join(STOP_SECONDS)
            assert not thread.is_alive()
