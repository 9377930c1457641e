"""`POST /v1/rank` as a bare ASGI endpoint: the one route where every microsecond is paid by every visitor."""

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

import msgspec
import structlog

from app.caller import Caller, check_size, read_caller
from app.errors import (
    PROBLEM_JSON,
    Outcome,
    Problem,
    body_too_large,
    body_too_slow,
    defect,
    expired,
    shed,
    unsupported_media,
)
from app.experiment import Assignment
from app.metrics import STAGES
from app.ranking import Ranking
from app.schemas import ModelVersion, RankRequest, RankResponse
from app.service import Service
from batching import Expired, Shed

log = structlog.get_logger("frontrow.rank")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

TIMED_STAGES = STAGES[:4]  # the last, encoding, is still going on when the header is written

# How many bytes of a body a candidate takes is learned from the bodies that were read.
FIRST_ROW_BYTES = 500.0
ROW_BYTES_LEARNING = 0.05
ROWS_GUESSED_SHARE = 0.5

REFUSAL_LOG_SECONDS = 0.1

_encode = msgspec.json.Encoder().encode


class ClientLeft(Exception):
    """The caller closed its connection before it had an answer."""


class Exchange:
    """One request on its way: what is known of it so far, and how it ended."""

    __slots__ = ("arrived_at", "assignment", "caller", "decoded_at", "outcome", "ranking", "request_id", "status")

    def __init__(self, arrived_at: float, caller: Caller, assignment: Assignment) -> None:
        self.arrived_at = arrived_at
        self.caller = caller
        self.assignment = assignment
        self.request_id = caller.request_id or uuid.uuid4().hex
        self.decoded_at = arrived_at
        self.outcome: Outcome = "error"
        self.status = 0
        self.ranking: Ranking | None = None


class RankRoute:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._settings = service.settings
        self._metrics = service.metrics
        self._timeout_seconds = service.settings.request_timeout_ms / 1e3
        self._row_bytes = FIRST_ROW_BYTES
        self._refusal_logged_at = 0.0
        self._clock = time.perf_counter  # the batcher's clock, too: deadlines are points of it

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, and count it under exactly one outcome."""
        caller = read_caller(scope["headers"])
        assignment = self._service.experiment.assign(caller.visitor, caller.asked_variant)
        exchange = Exchange(self._clock(), caller, assignment)
        self._metrics.arrived(assignment, caller.ignored)
        try:
            answer = await self._answer(scope, receive, exchange)
            await self._send(send, exchange, answer)
        except Problem as problem:
            await self._send_problem(send, exchange, problem)
        except Shed as refusal:
            self._metrics.refused(assignment.variant, refusal.reason)
            await self._send_problem(send, exchange, shed(refusal))
        except Expired as expiry:
            await self._send_problem(send, exchange, expired(expiry))
        except ClientLeft:
            exchange.outcome = "cancelled"
        except asyncio.CancelledError:
            exchange.outcome = "cancelled"
            raise
        except Exception:
            log.exception("ranking failed", request_id=exchange.request_id, variant=assignment.variant)
            await self._send_problem(send, exchange, defect())
        finally:
            self._finish(exchange)

    async def _answer(self, scope: Message, receive: Receive, exchange: Exchange) -> bytes:
        if problem := check_size(scope["headers"]):
            raise problem
        caller = exchange.caller
        caller.check()
        check_media(caller)
        due_at = exchange.arrived_at + min(self._timeout_seconds, caller.timeout_seconds or self._timeout_seconds)
        self._refuse_early(exchange, due_at)
        body = await self._body(receive, caller)
        request = self._service.shape.decode(body)
        if request.candidates:
            self._row_bytes += ROW_BYTES_LEARNING * (len(body) / len(request.candidates) - self._row_bytes)
        exchange.decoded_at = self._clock()
        with _Attendance(receive):
            ranking = await self._rank(request, exchange, due_at)
        exchange.ranking = ranking
        return _encode(
            RankResponse(
                request_id=exchange.request_id,
                variant=exchange.assignment.variant,
                assignment=exchange.assignment.reason,
                model=ModelVersion(ranking.model.bundle.name, ranking.model.bundle.version),
                ranking=ranking.activities,
                unknown_candidates=ranking.unknown_candidates,
                degraded=False,
            )
        )

    def _refuse_early(self, exchange: Exchange, due_at: float) -> None:
        """Raise what would be refused anyhow, before its body is read: a refusal has to cost next to nothing.

        The rows are guessed from the length of the body, and guessed low: the door itself decides the others.
        """
        variant, priority = exchange.assignment.variant, exchange.caller.priority
        rows = max(1, int(ROWS_GUESSED_SHARE * (exchange.caller.content_length or 0) / self._row_bytes))
        self._service.check_lag(variant, priority)
        self._service.batcher.turn_away(variant, rows=rows, due_at=due_at, priority=priority)

    async def _rank(self, request: RankRequest, exchange: Exchange, due_at: float) -> Ranking:
        variant = exchange.assignment.variant
        return await self._service.rankers[variant].rank(
            request, model=self._service.served[variant].model, due_at=due_at, priority=exchange.caller.priority
        )

    async def _body(self, receive: Receive, caller: Caller) -> bytes:
        """The whole body. Raises `Problem` for one that is not JSON, too large or too slow, and `ClientLeft`."""
        limit = self._settings.max_body_bytes
        if caller.content_length is not None and caller.content_length > limit:
            raise body_too_large(limit)
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._settings.body_timeout_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientLeft
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    if size > limit:
                        raise body_too_large(limit)
                    if not message.get("more_body", False):
                        return chunk if not chunks else b"".join((*chunks, chunk))
                    chunks.append(chunk)
        except TimeoutError:
            raise body_too_slow(self._settings.body_timeout_seconds) from None

    async def _send(self, send: Send, exchange: Exchange, body: bytes) -> None:
        ranking = exchange.ranking
        assert ranking is not None  # only an answered request is sent here
        exchange.outcome = "ok"
        exchange.status = HTTPStatus.OK
        encoded_at = self._clock()
        seconds = (
            exchange.decoded_at - exchange.arrived_at,
            ranking.queue_seconds,
            ranking.features_seconds,
            ranking.score_seconds,
            encoded_at - exchange.decoded_at - ranking.queue_seconds - ranking.features_seconds - ranking.score_seconds,
        )
        self._metrics.answered(exchange.assignment.variant, seconds, ranking)
        timing = ", ".join(f"{stage};dur={1e3 * one:.3f}" for stage, one in zip(TIMED_STAGES, seconds, strict=False))
        headers = [(b"content-type", b"application/json"), (b"server-timing", timing.encode())]
        await self._respond(send, exchange, [*headers, *self._service.passport(ranking.model)], body)

    async def _send_problem(self, send: Send, exchange: Exchange, problem: Problem) -> None:
        exchange.outcome = problem.outcome
        exchange.status = problem.status
        headers = [(b"content-type", PROBLEM_JSON), *problem.headers, *self._service.code_headers]
        await self._respond(send, exchange, headers, problem.document(exchange.request_id))

    async def _respond(self, send: Send, exchange: Exchange, headers: list[Header], body: bytes) -> None:
        headers += (
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", exchange.request_id.encode()),
            (b"x-variant", exchange.assignment.variant.encode()),
        )
        if self._service.draining:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": int(exchange.status), "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _finish(self, exchange: Exchange) -> None:
        seconds = self._clock() - exchange.arrived_at
        variant, outcome, ranking = exchange.assignment.variant, exchange.outcome, exchange.ranking
        self._metrics.finished(variant, outcome, seconds)
        if not self._is_logged(outcome):
            return
        facts = (
            {}
            if ranking is None
            else {
                "model": f"{ranking.model.bundle.name}/{ranking.model.bundle.version}",
                "rows": ranking.rows,
                "queue_ms": round(1e3 * ranking.queue_seconds, 3),
                "score_ms": round(1e3 * ranking.score_seconds, 3),
            }
        )
        log.info(
            "rank",
            request_id=exchange.request_id,
            variant=variant,
            assignment=exchange.assignment.reason,
            outcome=outcome,
            status=int(exchange.status),
            ms=round(1e3 * seconds, 3),
            **facts,
        )

    def _is_logged(self, outcome: Outcome) -> bool:
        """Of answers, a share; of refusals, ten a second; of everything else each one."""
        if outcome == "ok":
            share = self._settings.access_log_share
            return share == 1 or random.random() < share  # noqa: S311 a sample, not a secret
        if outcome != "shed":
            return True
        now = self._clock()
        if now - self._refusal_logged_at < REFUSAL_LOG_SECONDS:
            return False
        self._refusal_logged_at = now
        return True


def check_media(caller: Caller) -> None:
    """Raise the 415 of a body that does not say it is plain JSON in UTF-8."""
    media, _, parameters = caller.content_type.lower().partition(b";")
    if media.strip() != b"application/json" or parameters.strip() not in (b"", b"charset=utf-8", b'charset="utf-8"'):
        raise unsupported_media("the body must be application/json in UTF-8; say so in Content-Type")
    if caller.content_encoding not in (b"", b"identity"):
        raise unsupported_media("the body must not be compressed; Content-Encoding is not supported")


class _Attendance:
    """While inside, a caller that closes its connection cancels the work: `ClientLeft` is raised."""

    __slots__ = ("_left", "_receive", "_task", "_watcher")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._left = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # ASGI applications run in tasks
        self._task = task
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._watcher.cancel()
        if self._left and kind is asyncio.CancelledError:
            self._task.uncancel()
            raise ClientLeft from None

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass  # a body that goes on after its end: not ours to read
        self._left = True
        self._task.cancel()
