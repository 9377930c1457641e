"""Nothing that a caller sends becomes a label: Prometheus holds as many series after a flood as before."""

import asyncio
import json
import os
import random
from collections.abc import Callable, Sequence

import httpx
import pytest
from served import listening

from app.service import Service

REQUESTS = int(os.environ.get("HOSTILE_REQUESTS", "3000"))
MOST_SERIES = 1_500
ON_A_CONNECTION = 50
CONNECTIONS = 8
METHODS = ("GET", "HEAD", "PUT", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "MKCOL", "M-SEARCH", "LINK", "PURGE")
PATHS = ("/{}", "/v1/{}", "/v1/rank/{}", "/v1/models?{}", "/metrics/{}", "/v1/visitors/{}", "/docs#{}", "/%2e%2e/{}")


def request(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    lines = "".join(f"{line}\r\n" for line in ("Host: frontrow", f"Content-Length: {len(body)}", *headers))
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body


def rank(word: str) -> bytes:
    """A ranking in which everything that may be said is new."""
    candidates = [word, {"id": f"{word}-own", "features": {"category": word, "price": 1}}]
    body = json.dumps({"context": {"device": word}, "candidates": candidates}).encode()
    return request(
        *("POST", "/v1/rank", body, "Content-Type: application/json", f"X-Visitor-Id: {word}", f"X-Request-Id: {word}"),
        *(f"X-Variant: {word}", f"User-Agent: {word}", f"traceparent: {word}", f"{word}: {word}", f"X-Model: {word}"),
    )


def garbled_headers(word: str) -> bytes:
    headers = (f"X-Visitor-Id: {word} \xe9", f"X-Request-Id: {word}/{word}", f"X-Priority: {word}")
    return request("POST", "/v1/rank", b"{}", "Content-Type: application/json", *headers)


def wrong_body(word: str) -> bytes:
    body = json.dumps({word: word, "context": {word: 1}, "candidates": [{"id": word, "features": {word: word}}]})
    return request("POST", "/v1/rank", body.encode(), "Content-Type: application/json", f"X-Variant: {word}")


def wrong_media(word: str) -> bytes:
    return request("POST", "/v1/rank", b"{}", f"Content-Type: application/{word}", f"Content-Encoding: {word}")


def events(word: str) -> bytes:
    known = {"visitor_id": word, "activity_id": "A1", "type": "view"}
    body = json.dumps(random.choice([[known], [known | {"activity_id": word}], [known | {"type": word}]]))
    return request("POST", "/v1/events", body.encode(), "Content-Type: application/json")


def forget(word: str) -> bytes:
    return request("DELETE", f"/v1/visitors/{word}")


def anything(word: str) -> bytes:
    return request(random.choice(METHODS), random.choice(PATHS).format(word), b"", f"{word}: {word}")


KINDS: Sequence[Callable[[str], bytes]] = (
    rank,
    garbled_headers,
    wrong_body,
    wrong_media,
    events,
    forget,
    anything,
)


async def send(port: int, first: int) -> int:
    """Send some requests at once on a connection, and one that nobody can read on another; the number of answers."""
    numbers = range(first, first + ON_A_CONNECTION - 2)
    several = [random.choice(KINDS)(f"hostile-{number}") for number in numbers]
    last = request("GET", f"/hostile-{first}", b"", "Connection: close")
    unreadable = f"HOSTILE-{first} / HTTP/1.1\r\n\r\n".encode()
    return await answers_to(port, b"".join([*several, last])) + await answers_to(port, unreadable)


async def answers_to(port: int, sent: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    answers = await reader.read(-1)
    writer.close()
    await writer.wait_closed()
    return answers.count(b"HTTP/1.1 ")


async def series(port: int) -> list[str]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
        lines = (await client.get("/metrics")).text.splitlines()
    return [line.rpartition(" ")[0] for line in lines if not line.startswith("#")]


@pytest.mark.timeout(120 + REQUESTS / 100)
async def test_a_flood_of_hostile_requests_makes_no_series(service: Service) -> None:
    random.seed(0)
    firsts = iter(range(0, REQUESTS, ON_A_CONNECTION))

    async def flood(port: int) -> int:
        return sum([await send(port, first) for first in firsts])

    async with listening(service) as port:
        before = await series(port)
        answers = await asyncio.gather(*(flood(port) for _ in range(CONNECTIONS)))
        after = await series(port)
    assert sum(answers) == -(-REQUESTS // ON_A_CONNECTION) * ON_A_CONNECTION
    assert not [name for name in after if "hostile" in name.lower()]
    assert len(after) <= MOST_SERIES
    # What a flood adds is what the service itself has few names for, such as features with unknown categories.
    assert len(after) - len(before) < 50
