"""What the HTTP protocol does with a connection, byte by byte."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from served import listening
from structlog.testing import capture_logs

from app.protocol import MAX_HEAD_BYTES, RANK_LINE, HttpProtocol, RankCycle
from app.rank_route import CHEAP_BODY_BYTES, Exchange
from app.service import Service
from batching import QueueFull

BODY = json.dumps({"candidates": ["A1", "A2", "A3"]}).encode()
PAGE = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD = b"POST /v1/rank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def request(body: bytes = BODY, *, headers: bytes = b"") -> bytes:
    return HEAD + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body


class Wire:
    """The caller's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self._writer = reader, writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(20):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            return int(head[0].split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def rest(self) -> bytes:
        """All until the service closes the connection."""
        async with asyncio.timeout(20):
            return await self.reader.read()

    def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def wire(service: Service) -> AsyncIterator[Wire]:
    async with listening(service) as port:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", port))
        yield wire
        wire.close()


@pytest.fixture
async def caller(service: Service) -> AsyncIterator[Wire]:
    async with wire(service) as one:
        yield one


async def test_pipelined_requests_are_answered_in_their_order(caller: Wire) -> None:
    caller.send(b"".join(request(headers=b"X-Request-Id: r%d\r\n" % n) for n in range(50)))
    assert [(await caller.answer())[1]["x-request-id"] for _ in range(50)] == [f"r{n}" for n in range(50)]


@pytest.mark.parametrize("asked", [[request()], [PAGE], [request(), PAGE, request()]], ids=len)
async def test_what_is_no_request_is_answered_after_the_requests_before_it(asked: list[bytes], caller: Wire) -> None:
    caller.send(b"".join(asked) + b"HOSTILE / HTTP/1.1\r\n\r\n" + request())
    assert [(await caller.answer())[0] for _ in asked] == [200] * len(asked)
    assert (await caller.answer())[0] == 400
    assert await caller.rest() == b""


async def test_a_pipelined_request_with_a_broken_body_costs_those_before_it_nothing(caller: Wire) -> None:
    broken = HEAD + b"Transfer-Encoding: chunked\r\n\r\nno size\r\n"
    caller.send(request() + request() + broken)
    assert [(await caller.answer())[0] for _ in range(3)] == [200, 200, 400]
    assert await caller.rest() == b""


async def test_a_page_between_two_rankings_keeps_its_place(caller: Wire) -> None:
    caller.send(request() + b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" + request())
    bodies = [json.loads((await caller.answer())[2]) for _ in range(3)]
    assert ["ranking" in body for body in bodies] == [True, False, True]


async def test_a_body_that_reads_like_the_next_ranking_is_none(caller: Wire) -> None:
    caller.send(HEAD + b"Content-Length: %d\r\n\r\n" % len(RANK_LINE))
    await asyncio.sleep(0)
    caller.send(RANK_LINE + PAGE + request())
    assert [(await caller.answer())[0] for _ in range(3)] == [400, 200, 200]


async def test_a_thousand_pipelined_refusals_need_no_deep_stack(caller: Wire) -> None:
    caller.send(request(headers=b"X-Priority: vip\r\n") * 1_000)
    assert {(await caller.answer())[0] for _ in range(1_000)} == {422}


async def test_who_asks_before_sending_a_body_is_told_to_go_on(caller: Wire) -> None:
    caller.send(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
    assert await caller.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    caller.send(BODY)
    assert (await caller.answer())[0] == 200


@pytest.fixture
def questions(service: Service, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows with which somebody asked for a place without having read a body; there is none for them."""
    asked: list[int] = []

    def turn_away(lane: str, *, rows: int, **_: object) -> None:
        asked.append(rows)
        raise QueueFull(lane, rows, needed=rows, allowed=0, retry_after_seconds=1.0)

    monkeypatch.setattr(service.batcher, "turn_away", turn_away)
    return asked


HEAD_ALONE = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY)
LARGE = b"[" * (CHEAP_BODY_BYTES + 1)


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        (HEAD_ALONE, [503]),
        (HEAD_ALONE + BODY[:10], [503]),
        (HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY), [503]),
        (request() + HEAD_ALONE, [200, 503]),
        (request(LARGE), [503]),
        (request(BODY) + request(LARGE), [200, 503]),
    ],
    ids=["no body", "half a body", "asking first", "no body, pipelined", "a large body", "a large body, pipelined"],
)
async def test_what_would_be_refused_is_refused_before_its_body_is_read(
    sent: bytes, statuses: list[int], caller: Wire, questions: list[int]
) -> None:
    caller.send(sent)
    assert [(await caller.answer())[0] for _ in statuses] == statuses
    assert len(questions) == 1


async def test_a_small_body_that_is_there_is_read_without_asking_first(caller: Wire, questions: list[int]) -> None:
    caller.send(request())
    assert (await caller.answer())[0] == 200
    assert not questions


async def test_who_asks_before_sending_a_body_that_is_too_large_is_spared_it(caller: Wire) -> None:
    caller.send(HEAD + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
    status, headers, _ = await caller.answer()
    assert (status, headers["connection"]) == (413, "close")


async def test_a_chunked_body_past_the_limit_is_413_although_it_goes_on(caller: Wire) -> None:
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    caller.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 20)
    assert (await caller.answer())[0] == 413
    assert await caller.rest() == b""


async def test_a_body_that_comes_in_many_parts_is_ranked(caller: Wire) -> None:
    for byte in request():
        caller.send(bytes([byte]))
        await asyncio.sleep(0)
    assert (await caller.answer())[0] == 200


async def test_a_body_that_stops_is_408_and_slow_headers_are_cut(service: Service) -> None:
    object.__setattr__(service.settings, "body_timeout_seconds", 0.05)
    async with wire(service) as caller:
        caller.send(request()[:-5])
        assert (await caller.answer())[0] == 408
    async with wire(service) as caller:
        caller.send(HEAD)
        assert await caller.rest() == b""


async def test_a_crowd_of_slow_bodies_is_told_408_each_and_logged_a_few_times(service: Service) -> None:
    object.__setattr__(service.settings, "body_timeout_seconds", 0.05)
    with capture_logs() as logged:
        async with listening(service) as port, asyncio.timeout(20):
            wires = [Wire(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(40)]
            for one in wires:
                one.send(request()[:-5])
            assert {(await one.answer())[0] for one in wires} == {408}
            for one in wires:
                one.close()
    assert 0 < len([line for line in logged if line["event"] == "rank"]) < 40


@pytest.mark.parametrize(
    "asked",
    [
        b"GET / HTTP/2.0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n40\r\n" + b" " * 64 + b"\r\n0\r\n\r\n",
    ],
    ids=["no HTTP/1", "a body past the limit"],
)
async def test_a_caller_that_stays_after_the_last_word_is_left(
    asked: bytes, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, loses = asyncio.Event(), HttpProtocol.connection_lost

    def told(protocol: HttpProtocol, error: Exception | None) -> None:
        loses(protocol, error)
        lost.set()

    monkeypatch.setattr(HttpProtocol, "connection_lost", told)
    monkeypatch.setattr("app.protocol.LINGER_SECONDS", 0.05)
    object.__setattr__(service.settings, "max_body_bytes", 32)
    async with wire(service) as caller, asyncio.timeout(20):
        caller.send(asked)
        assert (await caller.answer())[0] in (400, 413)
        await lost.wait()


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[HttpProtocol]:
    """Gets the connection at each look whether it is idle, which there is every 10 ms."""
    looks: asyncio.Queue[HttpProtocol] = asyncio.Queue()
    look = HttpProtocol.look_whether_idle

    def told(protocol: HttpProtocol) -> None:
        look(protocol)
        looks.put_nowait(protocol)

    monkeypatch.setattr(HttpProtocol, "look_whether_idle", told)
    monkeypatch.setattr("app.routes.LOOKS_IN_KEEP_ALIVE", 7_500)
    return looks


@pytest.mark.usefixtures("looks")
@pytest.mark.parametrize(
    "asked", [b"", b"\r\n", request(), PAGE], ids=["nothing", "a line feed", "a ranking", "a page"]
)
async def test_who_sends_nothing_more_is_left(asked: bytes, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.routes.KEEP_ALIVE_SECONDS", 0.1)
    async with wire(service) as caller:
        caller.send(asked)
        answered = await caller.rest()
    assert answered.startswith(b"HTTP/1.1 200") == (asked.strip() != b"")


async def test_who_was_heard_of_lately_is_not_left(looks: asyncio.Queue[HttpProtocol], caller: Wire) -> None:
    for _ in range(3):
        await asyncio.wait_for(looks.get(), 20)
    caller.send(request())
    assert (await caller.answer())[0] == 200


async def test_who_is_in_the_middle_of_a_request_is_not_left(looks: asyncio.Queue[HttpProtocol], caller: Wire) -> None:
    caller.send(HEAD + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
    async with asyncio.timeout(20):
        await caller.reader.readuntil(b"\r\n\r\n")  # it has begun
        (await looks.get()).keep_alive_seconds = 0
        for _ in range(3):
            await looks.get()
    caller.send(BODY)
    assert (await caller.answer())[0] == 200


async def test_headers_without_an_end_are_431(caller: Wire) -> None:
    caller.send(HEAD)
    for n in range(2 * MAX_HEAD_BYTES // 1_000):
        caller.send(b"X-Filler-%d: " % n + b"x" * 1_000 + b"\r\n")
        await asyncio.sleep(0)
    assert (await caller.answer())[0] == 431
    assert await caller.rest() == b""


@pytest.mark.parametrize("line", [b"POST /v1/rank\r\n", b"POST /v1/rank HTTP/2.7\r\n", b"\x16\x03\x01\x02\r\n"])
async def test_what_is_not_http_1_is_400_and_the_end_of_the_connection(line: bytes, caller: Wire) -> None:
    caller.send(line + b"Content-Length: 0\r\n\r\n" + request())
    status, headers, body = await caller.answer()
    assert (status, headers["connection"], json.loads(body)["type"]) == (400, "close", "urn:frontrow:malformed-http")
    assert await caller.rest() == b""


async def test_an_answer_that_closes_is_the_last_one(caller: Wire) -> None:
    caller.send(request(headers=b"Connection: close\r\n") + request())
    status, headers, _ = await caller.answer()
    assert (status, headers["connection"]) == (200, "close")
    assert await caller.rest() == b""


async def test_a_draining_service_closes_with_its_answer(service: Service, caller: Wire) -> None:
    service.draining = True
    caller.send(request())
    assert (await caller.answer())[1]["connection"] == "close"
    assert await caller.rest() == b""


async def test_a_request_leaves_nothing_to_the_garbage_collector(caller: Wire) -> None:
    async def ask() -> None:
        caller.send(request())
        await caller.answer()

    for _ in range(20):
        await ask()
    gc.collect()
    gc.disable()
    try:
        for _ in range(50):
            await ask()
        assert gc.collect() < 50  # the test's own readers; an exchange in a circle would be some ten objects each
    finally:
        gc.enable()


async def test_an_idle_connection_keeps_nothing_of_what_was_asked_last(caller: Wire) -> None:
    for _ in range(3):
        caller.send(request())
        assert (await caller.answer())[0] == 200
    await asyncio.sleep(0)  # the batcher's last callback
    assert not [one for one in gc.get_objects() if isinstance(one, Exchange | RankCycle)]
