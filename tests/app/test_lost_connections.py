"""What is left of a connection that its caller gave up: nothing, at once."""

import asyncio
import socket
import struct
import weakref

import pytest
from served import listening

from app.protocol import HttpProtocol
from app.service import Service

BODY = b'{"candidates": ["A1"]}'
REQUEST = (
    b"POST /v1/rank HTTP/1.1\r\nHost: frontrow\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    % (len(BODY), BODY)
)
RESET = struct.pack("ii", 1, 0)  # of SO_LINGER: closing is a reset


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize(
    ("said", "answers"),
    [(b"", 0), (REQUEST, 1), (REQUEST[:60], 0), (REQUEST[:-5], 0), (3 * REQUEST, 0), (REQUEST + REQUEST[:-5], 1)],
    ids=["nothing", "one", "half of the headers", "half of a body", "three at once", "one and a half"],
)
@pytest.mark.usefixtures("no_collector")
async def test_a_caller_that_leaves_takes_its_connection_along(
    service: Service, monkeypatch: pytest.MonkeyPatch, said: bytes, answers: int, *, reset: bool
) -> None:
    connections: list[weakref.ref[HttpProtocol]] = []
    made, received = HttpProtocol.connection_made, asyncio.Event()

    def watched(protocol: HttpProtocol, transport: asyncio.Transport) -> None:
        connections.append(weakref.ref(protocol))
        made(protocol, transport)

    def heard(protocol: HttpProtocol, data: bytes) -> None:
        receive(protocol, data)
        received.set()

    receive = HttpProtocol.data_received
    monkeypatch.setattr(HttpProtocol, "connection_made", watched)
    monkeypatch.setattr(HttpProtocol, "data_received", heard)
    async with listening(service) as port, asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        if said:
            await received.wait()
        for _ in range(answers):
            await reader.readuntil(b"\r\n\r\n")
        if reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()
        while not connections or connections[0]() is not None:  # noqa: ASYNC110 nobody tells of an end
            await asyncio.sleep(0.01)
