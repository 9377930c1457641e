"""A caller that sends requests without waiting for answers."""

import asyncio

import pytest
from served import listening

from app.protocol import HttpProtocol
from app.service import Service

REQUESTS = 200
BODY = b'{"candidates": ["A1"]}' + b" " * 60_000
REQUEST = (
    b"POST /v1/rank HTTP/1.1\r\nHost: frontrow\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    % (len(BODY), BODY)
)
LARGEST_READ = 262_144  # of an event loop's transport


async def test_what_a_connection_asks_ahead_is_bounded_and_every_request_is_answered(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[int] = []
    receive = HttpProtocol.data_received

    def watched(protocol: HttpProtocol, data: bytes) -> None:
        receive(protocol, data)
        waiting.append(len(protocol.pipeline))

    monkeypatch.setattr(HttpProtocol, "data_received", watched)
    async with listening(service) as port, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(REQUEST * REQUESTS)
        for _ in range(REQUESTS):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
        writer.close()
    assert max(waiting) <= 2 * (LARGEST_READ // len(BODY) + 1)
