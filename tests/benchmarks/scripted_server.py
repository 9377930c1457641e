"""A real HTTP server in a thread of its own that answers as a test's script says, and counts as ours does."""

import asyncio
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

EXAMPLE = {
    "context": {"device": "tablet", "days_to_trip": 25},
    "candidates": [
        "A1000",
        {"id": "example-1", "features": {"category": "museum", "price": 15.5, "reviews": 10, "open": True}},
        {"id": "example-2", "features": {"category": "tour", "price": 40.0, "reviews": 90, "open": None}},
    ],
}
OPENAPI = {
    "paths": {"/v1/rank": {"post": {"requestBody": {"content": {"application/json": {"example": EXAMPLE}}}}}},
    "components": {"schemas": {"Features": {"properties": {"category": {"examples": ["boat", "museum"]}}}}},
}
OUTCOMES = {200: "ok", 503: "shed", 504: "expired", 422: "invalid", 500: "error"}


@dataclass(frozen=True)
class Reply:
    """`stall_seconds` holds up the whole server, `never` keeps the caller waiting, `close` ends the connection."""

    status: int = 200
    stall_seconds: float = 0.0
    never: bool = False
    close: bool = False


Script = Callable[[int], Reply]
"""Given the number of a request, from 0 in the order of arrival."""


@dataclass
class ScriptedServer:
    """`requests` has what came to any path but /metrics and /openapi.json: (path, headers, body)."""

    script: Script
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    port: int = 0
    uncounted: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bodies(self) -> list[Any]:
        return [json.loads(body) for _, _, body in self.requests]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/metrics":
            await _answer(send, 200, self._metrics())
        elif scope["path"] == "/openapi.json":
            await _answer(send, 200, json.dumps(OPENAPI).encode())
        else:
            await self._answer_by_script(scope, receive, send)

    async def _answer_by_script(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.requests.append((scope["path"], headers, await _whole_body(receive)))
        reply = self.script(len(self.requests) - 1)
        if reply.never:
            await _until_the_caller_leaves(receive)
            return
        time.sleep(reply.stall_seconds)  # noqa: ASYNC251 - the point is to hold up everybody
        self.counts[OUTCOMES[reply.status]] += 1
        await _answer(send, reply.status, b"{}", close=reply.close)

    def _metrics(self) -> bytes:
        shown = {outcome: self.counts[outcome] for outcome in OUTCOMES.values()}
        shown["ok"] -= self.uncounted
        return "\n".join(
            [
                "# TYPE frontrow_requests counter",
                *(f'frontrow_requests_total{{variant="a",outcome="{name}"}} {count}' for name, count in shown.items()),
                'frontrow_requests_total{variant="b",outcome="ok"} 0',
                "# TYPE process_cpu_seconds counter",
                f"process_cpu_seconds_total {sum(self.counts.values()) / 1000}",
                "",
            ]
        ).encode()


async def _whole_body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def _until_the_caller_leaves(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _answer(send: Any, status: int, body: bytes, *, close: bool = False) -> None:
    headers = [(b"content-length", str(len(body)).encode())] + [(b"connection", b"close")] * close
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def serve(script: Script = lambda _number: Reply()) -> Iterator[ScriptedServer]:
    """Serve `script` on a free port of this machine. The port listens before this returns."""
    app = ScriptedServer(script)
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        app.port = listener.getsockname()[1]
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=asyncio.run, args=(server.serve(sockets=[listener]),))
        thread.start()
        try:
            yield app
        finally:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()
