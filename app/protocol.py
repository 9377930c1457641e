"""HTTP/1.1 on a connection: uvicorn's protocol for the pages, and a shorter way for rankings.

A ranking needs no task, no scope and no messages: its headers and its body are handed to an `Exchange` as the parser
finds them, and the answer is written when it calls back. What an ASGI server does for every request costs more than
ranking fifty known activities does.
"""

import asyncio
import select
import time
import urllib.parse
from typing import Any, Protocol

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import get_local_addr, get_remote_addr

from app.deadlines import Deadlines
from app.errors import PROBLEM_JSON, Problem, headers_too_large, malformed_http
from app.rank_route import CHEAP_BODY_BYTES, Exchange, Header, RankRoute, Reply, lines, new_request_id

RANK_PATH = RankRoute.path.encode()
RANK_LINE = b"POST %b HTTP/1.1\r\n" % RANK_PATH  # how almost every request begins
LINGER_SECONDS = 2.0
MAX_HEAD_BYTES = 65_536  # past the limit that has a polite answer, this one saves memory


class Door(Protocol):
    """What takes the requests of a path, headers first."""

    def exchange(self, headers: list[Header], arrived_at: float, reply: Reply) -> Exchange: ...


class HttpProtocol(HttpToolsProtocol):
    """One connection. Its application has a `rank_route`, which gets what is posted to `/v1/rank`, and other `door`s.

    Whatever a caller sends has to be complete `body_timeout_seconds` after its first byte; and a connection on which
    nothing comes for `keep_alive_seconds` is closed at the next look, before its first request, too.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        app = self.config.loaded_app
        self.route: RankRoute = app.rank_route
        self.receipts: Deadlines = app.receipts  # of requests that are on their way in
        self.idle: Deadlines = app.idle  # of looks at connections, whether they are idle
        self.keep_alive_seconds: float = app.keep_alive_seconds
        self.answering: RankCycle | None = None  # the ranking whose turn it is
        self._ranking: RankCycle | None = None  # what is being received, if it is a ranking
        self._deaf = False  # what comes after the last answer is not looked at
        self._receiving = False
        self._is_watched = False  # for a request that is incomplete
        self._has_headers = False
        self._head_bytes = 0  # of the headers that are being received, without the piece that they began in
        self._begins_here = False
        self._begins_usual = False  # what came begins with the line of a ranking
        self._is_usual = False  # so does the request that is being received
        self._linger: asyncio.TimerHandle | None = None
        self._received_at = self._answered_at = 0.0
        self._usual: tuple[list[Header], bytes] = ([], b"")  # headers of every answer, and as lines

    def usual_lines(self) -> bytes:
        """Headers of every answer. The server has a new list of them each second."""
        headers = self.server_state.default_headers
        if headers is not self._usual[0]:
            self._usual = headers, lines(headers)
        return self._usual[1]

    # What the transport calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # Not the parent's, which asks the system for the addresses of both ends: only pages look at them.
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self._answered_at = time.perf_counter()
        self.idle.watch(self.look_whether_idle)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._received_at = time.perf_counter()
        self._begins_here = False
        self._begins_usual = not self._receiving and data.startswith(RANK_LINE)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._turn_away(malformed_http())
        except httptools.HttpParserUpgrade:  # nobody speaks the other protocol, so the request was answered in this one
            pass
        if self._receiving and not self._deaf:
            self._watch_receipt(0 if self._begins_here else len(data))
            if self._ranking is not None:
                self._ranking.await_rest()

    def _watch_receipt(self, size: int) -> None:
        """A request is incomplete: it has so long for its rest, and so many bytes for its headers."""
        self._is_watched = True
        self.receipts.watch(self._receipt_ended)
        if not self._has_headers:
            self._head_bytes += size
            if self._head_bytes > MAX_HEAD_BYTES:
                self._turn_away(headers_too_large(f"{MAX_HEAD_BYTES} bytes came and the headers did not end"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_receipt()
        if self._linger is not None:
            self._linger.cancel()
        if self.answering is not None:
            self.answering.exchange.leave()
        self._ranking = self.answering = None
        super().connection_lost(exc)
        # A connection ends now, with what it had received, and not when the collector comes by or its time is over.
        self.idle.forget(self.look_whether_idle)
        self.cycle = None  # type: ignore[assignment]
        self.pipeline.clear()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.pipeline:
            self.flow.resume_reading()

    def on_response_complete(self) -> None:
        # Not the parent's, which makes a timer after each answer.
        self.server_state.total_requests += 1
        self._answered_at = time.perf_counter()
        if self.transport.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        if self.pipeline:  # what a connection asks ahead is bounded: each answer would let in several requests more
            self.flow.pause_reading()
        else:
            self.flow.resume_reading()

    def look_whether_idle(self) -> None:
        """Come again, or end a connection on which nothing has come for long; a request does without any timer."""
        answers = self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr] # see below
        quiet_seconds = time.perf_counter() - max(self._received_at, self._answered_at)
        if self._receiving or answers or quiet_seconds < self.keep_alive_seconds:
            self.idle.watch(self.look_whether_idle)
        else:
            self.transport.close()

    # What the parser calls

    def on_message_begin(self) -> None:
        # The scope of an ASGI application is made when it is known that one is asked.
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self._receiving = True
        self._has_headers = False
        self._head_bytes = 0
        self._begins_here = True
        self._is_usual, self._begins_usual = self._begins_usual, False

    def on_headers_complete(self) -> None:
        if self._deaf:  # more of the data that was fed already
            return
        self._has_headers = True
        if self._is_usual:
            self._begin_ranking(self.route, keep_alive=self.parser.should_keep_alive())
        elif (version := self.parser.get_http_version()) not in ("1.1", "1.0"):
            self._turn_away(malformed_http())
        elif (door := self._door()) is not None:
            self._begin_ranking(door, keep_alive=version != "1.0" and self.parser.should_keep_alive())
        else:
            self._begin_page()

    def _begin_page(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        if self.scheme is None:
            self.scheme = "http"
            self.server, self.client = get_local_addr(self.transport), get_remote_addr(self.transport)
        super().on_message_begin()
        self.url, self.headers, self.expect_100_continue = url, headers, expects
        self.scope["headers"] = headers
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._ranking is not None:
            self._ranking.take(body)
        elif not self._deaf:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._receiving = False
        if self._is_watched:
            self._end_receipt()
        if self._ranking is not None:
            ranking, self._ranking = self._ranking, None
            ranking.complete()
        elif not self._deaf:
            super().on_message_complete()

    # Rankings

    def _door(self) -> Door | None:
        """What takes this request, if it asks for scores; None for what is asked of a page."""
        if self.parser.get_method() != b"POST":
            return None
        path: bytes = httptools.parse_url(self.url).path
        if RANK_PATH in (path, urllib.parse.unquote_to_bytes(path)):
            return self.route
        door: Door | None = self.config.loaded_app.door(path)
        return door

    def _begin_ranking(self, door: Door, *, keep_alive: bool) -> None:
        before = self.cycle
        cycle = RankCycle(self, door, self.headers, self._received_at, keep_alive=keep_alive)
        self._ranking = self.cycle = cycle
        if before is None or before.response_complete:  # type: ignore[redundant-expr] # uvicorn begins with None
            self._answer(cycle)
        else:  # a pipelined request waits for its turn
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if isinstance(cycle, RankCycle):
            self.loop.call_soon(self._take_turn, cycle)  # not from here: a thousand may be in the pipeline
        elif isinstance(cycle, LastWord):
            self.loop.call_soon(self._say, cycle.problem)
        else:
            super()._start_asgi_task(cycle, app)

    def _answer(self, cycle: "RankCycle") -> None:
        if not self.transport.is_closing():
            self.answering = cycle
            cycle.open()

    def _take_turn(self, cycle: "RankCycle") -> None:
        self._answer(cycle)
        if cycle.more_body:
            cycle.await_rest()

    # The end of it

    def _turn_away(self, problem: Problem) -> None:
        """Answer what is no request of HTTP, once all before it is answered.

        Nothing after it can be trusted to begin where it seems to, so it is not looked at.
        """
        self._deaf = True
        before = self.cycle
        if self.pipeline:
            if self.pipeline[0][0].more_body:  # it is the body of this one that is wrong
                self.pipeline.popleft()
        elif before is None or before.response_complete or before.more_body:  # type: ignore[redundant-expr] # see above
            self._say(problem)
            return
        self._end_receipt()
        self.pipeline.appendleft((LastWord(problem), self.app))

    def _say(self, problem: Problem) -> None:
        """End the connection with the problem."""
        if self.transport.is_closing():
            return
        request_id = new_request_id()
        body = problem.document(request_id)
        head = lines(
            [
                (b"content-type", PROBLEM_JSON),
                (b"content-length", b"%d" % len(body)),
                (b"x-request-id", request_id.encode()),
                (b"connection", b"close"),
            ]
        )
        self.transport.write(b"".join((STATUS_LINE[problem.status], head, b"\r\n", body)))
        self._receiving = True  # for all that we know
        self.end()

    def _end_receipt(self) -> None:
        self._is_watched = False
        self.receipts.forget(self._receipt_ended)

    def _receipt_ended(self) -> None:
        """A request did not arrive in time: say so to a ranking; whoever sends headers slowly is not worth a word."""
        if self.transport.is_closing():
            return
        if self._ranking is not None and self._ranking is self.answering:
            self._ranking.exchange.body_too_slow()
        else:
            self.transport.close()

    def end(self) -> None:
        """Close, but not on what the caller is still sending: its system would throw the answer away."""
        self._deaf = True
        self.pipeline.clear()
        if not self._receiving:
            self.transport.close()
            return
        self.transport.write_eof()
        self._end_receipt()
        self._linger = self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def shutdown(self) -> None:
        """Stop serving this connection; a request that is on its way in is answered before."""
        if not (self._receiving or self._has_unread_bytes()):
            super().shutdown()

    def _has_unread_bytes(self) -> bool:
        socket = self.transport.get_extra_info("socket")
        return socket is not None and bool(select.select([socket.fileno()], [], [], 0)[0])


class RankCycle(RequestResponseCycle):
    """One ranking on its connection, with the parts of uvicorn's own cycle that its protocol looks at."""

    def __init__(
        self, protocol: HttpProtocol, door: Door, headers: Any, arrived_at: float, *, keep_alive: bool
    ) -> None:
        # Not the parent's: this one has neither messages nor an application.
        self._protocol = protocol
        self._door = door
        self._headers = headers
        self._arrived_at = arrived_at
        self._chunks: list[bytes] = []
        self._size = 0
        self.keep_alive = keep_alive
        self.more_body = True
        self._was_looked_at = False
        self.response_complete = False
        self.disconnected = False
        self.message_event = _NOBODY_WAITS
        self.waiting_for_100_continue = protocol.expect_100_continue
        self.exchange: Exchange

    def open(self) -> None:
        """It is this request's turn on its connection."""
        protocol = self._protocol
        self.exchange = self._door.exchange(self._headers, self._arrived_at, self.reply)
        self.exchange.open()
        if self.response_complete:
            return
        if self._size > protocol.route.max_body_bytes:
            self.exchange.body_too_large()
        elif not self.more_body:
            self._rank()
        elif self.waiting_for_100_continue:
            self.await_rest()
            if not self.response_complete:
                protocol.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def await_rest(self) -> None:
        """The body is still on its way: if it would be refused anyhow, it need not come."""
        if self._protocol.answering is self and not self._was_looked_at:
            self._was_looked_at = True
            self.exchange.turn_away()

    def take(self, chunk: bytes) -> None:
        if self.response_complete:
            return
        self._size += len(chunk)
        self._chunks.append(chunk)
        if self._size > self._protocol.route.max_body_bytes and self._protocol.answering is self:
            self.exchange.body_too_large()

    def complete(self) -> None:
        self.more_body = False
        if self._protocol.answering is self:
            self._rank()

    def _rank(self) -> None:
        if self._size > CHEAP_BODY_BYTES:
            self.exchange.turn_away()
            if self.response_complete:
                return
        chunks = self._chunks
        self.exchange.rank(chunks[0] if len(chunks) == 1 else b"".join(chunks))

    def reply(self, status: int, head: bytes, body: bytes, close: bool) -> None:
        """Write the answer; the connection goes on to its next request."""
        protocol = self._protocol
        self.response_complete = True
        self._chunks = []
        protocol.answering = None
        if protocol.cycle is self:  # what is over goes now, and leaves its memory, which is near, to the next request
            protocol.cycle = None  # type: ignore[assignment] # as uvicorn begins
        if close:
            self.keep_alive = False
        whole = b"%b%b%bcontent-length: %d\r\n%b%b" % (
            STATUS_LINE[status],
            protocol.usual_lines(),
            head,
            len(body),
            b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n",
            body,
        )
        protocol.transport.write(whole)
        if not self.keep_alive:
            protocol.end()
        protocol.on_response_complete()
        if protocol.flow.write_paused:  # a caller that does not read its answers gets no more of them
            protocol.flow.pause_reading()


class LastWord(RequestResponseCycle):
    """What a connection is told, once it is the turn of what was no request."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.more_body = False


class _NobodyWaits:
    """In place of the event that a cycle's application would wait for."""

    def set(self) -> None:
        pass


_NOBODY_WAITS: Any = _NobodyWaits()
