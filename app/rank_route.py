"""`POST /v1/rank`, from a request's headers to its answer: where every microsecond is paid by every visitor.

There is no task and no `await` on this way: a connection calls an `Exchange` when its headers and its body are there,
the batcher calls it when its rows are scored, and it calls back with an answer.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from msgspec import UNSET, Raw, UnsetType

from app import arrow_body
from app.caller import Caller, read_caller
from app.columns import ids_of
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
from app.explanation import EXPLAINED
from app.json_body import JsonBody
from app.ranking import Ranking, Scorer, Work
from app.rows import Rows
from app.schemas import Explanation, RankRequest, RankResponse
from app.service import Passport, Service
from app.standings import Standings, Weaver
from app.tracing import Ended
from batching import Expired, Shed, Ticket

log = structlog.get_logger("frontrow.rank")

Header = tuple[bytes, bytes]

# Sends a status, header lines that end with CRLF each, and a body; closes the connection afterwards when told to.
Reply = Callable[[int, bytes, bytes, bool], None]

CHEAP_BODY_BYTES = 2_048  # to read so few costs no more than to ask first whether they would be refused

# How many bytes of a body a candidate takes is learned from larger bodies.
FIRST_ROW_BYTES = 500.0
ROW_BYTES_LEARNING = 0.05
ROWS_GUESSED_SHARE = 0.5

# The part of the time that a caller gives by which its scores have to be there. The rest is for what the clock does not
# see: a busy loop reads a request late, and comes late to its scores.
DUE_SHARE = 0.6

REFUSAL_LOG_SECONDS = 0.1

JSON = b"application/json"
ARROW = arrow_body.MEDIA_TYPE
_JSON_LINE, _ARROW_LINE = (b"content-type: %b\r\n" % media for media in (JSON, ARROW))

_OK = int(HTTPStatus.OK)  # an attribute of an enumeration costs a call

_encode = msgspec.json.Encoder().encode


class RankRoute:
    """What all exchanges share."""

    path = "/v1/rank"
    event = "rank"  # the access line in the log

    def __init__(self, service: Service) -> None:
        self.service = service
        self.settings = service.settings
        self.metrics = service.metrics
        self.traces = service.traces
        self.timeout_seconds = service.settings.request_timeout_ms / 1e3
        self.max_body_bytes = service.settings.max_body_bytes
        self.clock = time.perf_counter  # the batcher's clock, too: deadlines are points of it
        self._decoders = self._make_decoders()
        self._row_bytes = dict.fromkeys(self._decoders, FIRST_ROW_BYTES)
        self._refusal_logged_at = 0.0
        self._weaver = Weaver()

    def _make_decoders(self) -> dict[bytes, Callable[[bytes], RankRequest]]:
        shape, one_by_one = self.service.shape, self.service.rules_see_candidates
        return {
            JSON: JsonBody(shape, one_by_one=one_by_one).decode,
            ARROW: arrow_body.ArrowBody(shape, one_by_one=one_by_one).decode,
        }

    def exchange(self, headers: list[Header], arrived_at: float, reply: Reply) -> "Exchange":
        """A request whose headers are there. `reply` is called once, unless its caller leaves before that."""
        return Exchange(self, headers, arrived_at, reply)

    def decode(self, body: bytes, media: bytes) -> RankRequest:
        """The request in a body of that media type; raises `Problem`."""
        request = self._decoders[media](body)
        if len(body) > CHEAP_BODY_BYTES and (rows := len(request.candidates)):
            self._row_bytes[media] += ROW_BYTES_LEARNING * (len(body) / rows - self._row_bytes[media])
        return request

    def json(self, answer: RankResponse) -> bytes:
        """The body of an answer, which is used up."""
        if isinstance(answer.ranking, Standings):
            answer.ranking = Raw(self._weaver.json(answer.ranking))  # type: ignore[assignment] # which is its JSON
        return _encode(answer)

    def rows_at_least(self, caller: Caller, media: bytes) -> int:
        """A low guess of how many rows a body will make, from its length: the door itself decides the others."""
        return max(1, int(ROWS_GUESSED_SHARE * (caller.content_length or 0) / self._row_bytes[media]))

    def is_logged(self, outcome: Outcome, status: int, now: float) -> bool:
        """Of answers, a share; of refusals, and of bodies that did not come, ten a second; of all else each one."""
        if outcome == "ok":
            share = self.settings.access_log_share
            return share == 1 or random.random() < share  # noqa: S311 a sample, not a secret
        if outcome != "shed" and status != HTTPStatus.REQUEST_TIMEOUT:
            return True
        if now - self._refusal_logged_at < REFUSAL_LOG_SECONDS:
            return False
        self._refusal_logged_at = now
        return True


class Exchange:
    """One request on its way. Call `open` first, then `rank` with the whole body, or `refuse`; or `leave` at any time.

    While the body is on its way, `turn_away` refuses what would be refused anyhow.
    `answered` says that it is over: the reply was sent.
    """

    __slots__ = (
        "_candidates",
        "_decoded_at",
        "_degraded",
        "_due_at",
        "_media",
        "_outcome",
        "_ranking",
        "_reply",
        "_request",
        "_route",
        "_rows_seconds",
        "_scored_at",
        "_status",
        "_ticket",
        "_work",
        "answered",
        "arrived_at",
        "assignment",
        "caller",
        "headers",
        "request_id",
        "trace_id",
    )

    def __init__(self, route: RankRoute, headers: list[Header], arrived_at: float, reply: Reply) -> None:
        self._route = route
        self._reply = reply
        self.headers = headers
        self.arrived_at = arrived_at
        self.caller = caller = read_caller(headers)
        self.assignment = self._assign()
        self.request_id = caller.request_id or new_request_id()
        self.answered = False
        timeout_seconds = caller.timeout_seconds
        if timeout_seconds is None or timeout_seconds > route.timeout_seconds:
            timeout_seconds = route.timeout_seconds
        self._due_at = arrived_at + DUE_SHARE * timeout_seconds
        self._decoded_at = arrived_at
        self._outcome: Outcome = "error"
        self._status = 0
        self._ticket: Ticket | None = None
        self._request: RankRequest
        self._candidates: Sequence[Any]
        self._media = JSON
        self._work: Work | None = None
        self._rows_seconds = 0.0
        self._scored_at = 0.0
        self._degraded = False
        self._ranking: Ranking | None = None
        route.metrics.arrived(self.assignment, caller.ignored)

    def open(self) -> None:
        """Look at the headers, and whether the event loop is in time for this."""
        try:
            self._check_headers()
            due_seconds = self._due_at - self.arrived_at
            self._route.service.check_lag(self.assignment.variant, self.caller.priority, due_seconds)
        except Exception as error:  # noqa: BLE001 whatever happens has an answer
            self.refuse(error)

    def turn_away(self) -> None:
        """Refuse now what would be refused later."""
        try:
            self._refuse_early()
        except Exception as error:  # noqa: BLE001 whatever happens has an answer
            self.refuse(error)

    def rank(self, body: bytes) -> None:
        """Decode the body and stand in line to be scored."""
        route = self._route
        try:
            request = route.decode(body, self._media)
            self._decoded_at = route.clock()
            self._enter(request)
        except Exception as error:  # noqa: BLE001 whatever happens has an answer
            self.refuse(error)

    def refuse(self, error: Exception) -> None:
        """Answer with what `error` is to a caller; whatever it has no answer for is a defect of ours."""
        if isinstance(error, Shed):
            self._route.metrics.refused(self.assignment.variant, error.reason)
            problem = shed(error)
        elif isinstance(error, Expired):
            problem = expired(error)
        elif isinstance(error, Problem):
            problem = error
        else:
            log.error("ranking failed", request_id=self.request_id, variant=self.assignment.variant, exc_info=error)
            problem = defect()
        self._outcome = problem.outcome
        self._status = problem.status
        media, body = self._document(problem)
        headers = [(b"content-type", media), *problem.headers, *self._route.service.code_headers]
        self._send(lines(headers), body, close=problem.closes)
        error.__traceback__ = None  # its frames may hold a future that holds it: no such circle either

    def body_too_large(self) -> None:
        self.refuse(body_too_large(self._route.max_body_bytes))

    def body_too_slow(self) -> None:
        self.refuse(body_too_slow(self._route.settings.body_timeout_seconds))

    def leave(self) -> None:
        """The caller closed its connection: what was not scored yet will not be."""
        if self.answered:
            return
        self.answered = True
        self._reply = _nobody
        if self._ticket is not None:
            self._route.service.batcher.leave(self._ticket)
        self._outcome = "cancelled"
        self._finish()

    def _assign(self) -> Assignment:
        return self._route.service.experiment.assign(self.caller.visitor, self.caller.asked_variant)

    def _media_of_body(self) -> bytes:
        return media_of(self.caller)

    def _document(self, problem: Problem) -> tuple[bytes, bytes]:
        """The media type and the body that tell of a problem."""
        return PROBLEM_JSON, problem.document(self.request_id)

    def _check_headers(self) -> None:
        self.caller.check()
        self._media = self._media_of_body()
        length, limit = self.caller.content_length, self._route.max_body_bytes
        if length is not None and length > limit:
            raise body_too_large(limit)

    def _refuse_early(self) -> None:
        service, variant, priority = self._route.service, self.assignment.variant, self.caller.priority
        rows = self._route.rows_at_least(self.caller, self._media)
        service.batcher.turn_away(variant, rows=rows, due_at=self._due_at, priority=priority)

    def _enter(self, request: RankRequest) -> None:
        service, variant = self._route.service, self.assignment.variant
        ranker = service.rankers[variant]
        self._request = request
        self._candidates = ranker.select(request)
        if not self._candidates:
            self._answer(ranker.empty(service.served[variant].model, request))
            return
        self._work = work = ranker.work(request, self._candidates, self.caller.visitor)
        self._rows_seconds = self._route.clock() - self._decoded_at
        self._ticket = ticket = ranker.enter(work, due_at=self._due_at, priority=self.caller.priority)
        ticket.future.add_done_callback(self._scored)

    def _scored(self, future: "asyncio.Future[Any]") -> None:
        if self.answered:
            return
        service = self._route.service
        assert self._ticket is not None  # it is what is done
        assert self._work is not None  # it is what was scored
        try:
            scored = service.batcher.learn(self._ticket)
            self._scored_at = self._route.clock()
            self._work = scored.result.scorer.own(self._work)  # a model may have been replaced meanwhile
            ranking = service.rankers[self.assignment.variant].ranking(self._request, self._candidates, scored)
            if not (self._request.explain and self._explain(ranking, scored.result.scorer)):
                self._answer(ranking)
        except Exception as error:  # noqa: BLE001 whatever happens has an answer
            self.refuse(error)
            return
        service.onlooker.answered(self.request_id, self.assignment, self._work, ranking, scored.result.values)

    def _explain(self, ranking: Ranking, scorer: Scorer) -> bool:
        """Have the first candidates explained and answer then; False when that is not to be had."""
        if not self._route.settings.explanations:
            return False
        assert self._work is not None  # it is what was scored
        ids = [one.id for one in ranking.activities[:EXPLAINED]]
        places = {one: place for place, one in enumerate(ids_of(self._candidates))}
        rows = scorer.whole(self._work, [places[one] for one in ids])
        explaining = self._route.service.explainer.explain(ranking.model, ids, rows)
        if explaining is None:
            return False
        self._ticket = None  # what became of it is known: there is nothing left to give up
        explaining.add_done_callback(partial(self._explained, ranking))
        return True

    def _explained(self, ranking: Ranking, future: "asyncio.Future[list[Explanation]]") -> None:
        if self.answered:
            return
        try:
            self._answer(ranking, future.result())
        except Exception as error:  # noqa: BLE001 whatever happens has an answer
            self.refuse(error)

    def _answer(self, ranking: Ranking, explanations: list[Explanation] | UnsetType = UNSET) -> None:
        rows = None if self._work is None else self._work.rows
        unknown = [] if rows is None else rows.unknown
        self._degraded = self._work is not None and self._work.lookup.degraded
        passport = self._passport(ranking)
        answer = RankResponse(
            self.request_id,
            self.assignment.variant,
            self.assignment.reason,
            passport.model,
            ranking.activities,
            unknown,
            self._degraded,
            explanations,
        )
        if wants_arrow(self.caller):
            self._deliver(ranking, rows, _ARROW_LINE + passport.lines, arrow_body.encode(answer))
        else:
            self._deliver(ranking, rows, _JSON_LINE + passport.lines, self._route.json(answer))

    def _deliver(self, ranking: Ranking, rows: Rows | None, head: bytes, body: bytes) -> None:
        """Send an answer, and account for it; `rows` are what was scored for it, if anything was."""
        route = self._route
        self._ranking = ranking
        self._outcome = "ok"
        self._status = _OK
        decoding = self._decoded_at - self.arrived_at
        queue, features = self._waiting_and_features(ranking)
        score = ranking.score_seconds
        encoding = route.clock() - self._decoded_at - queue - features - score
        seconds = (decoding, queue, features, score, encoding)
        route.metrics.answered(self.assignment.variant, seconds, rows, degraded=self._degraded, usable=ranking.usable)
        head += b"server-timing: decode;dur=%.3f, queue;dur=%.3f, features;dur=%.3f, score;dur=%.3f\r\n" % (
            1e3 * decoding,
            1e3 * queue,
            1e3 * features,
            1e3 * score,
        )
        self._send(head, body)

    def _passport(self, ranking: Ranking) -> Passport:
        return self._route.service.passport(ranking.model)

    def _waiting_and_features(self, ranking: Ranking) -> tuple[float, float]:
        """Seconds in line, before the visitor was looked up and after; and seconds of making rows, that included."""
        lookup = None if self._work is None else self._work.lookup
        if lookup is None or not lookup.ready_at:
            return ranking.queue_seconds, self._rows_seconds
        again = max(0.0, self._scored_at - ranking.score_seconds - lookup.ready_at)
        return ranking.queue_seconds + again, self._rows_seconds + lookup.seconds

    def _send(self, head: bytes, body: bytes, *, close: bool = False) -> None:
        self.answered = True
        head += b"x-request-id: %b\r\nx-variant: %b\r\n" % (
            self.request_id.encode(),
            self.assignment.variant.encode(),
        )
        reply, self._reply = self._reply, _nobody  # no circle of references is left to the garbage collector
        reply(self._status, head, body, close or self._route.service.draining)
        self._finish()

    def _finish(self) -> None:
        now = self._route.clock()
        seconds = now - self.arrived_at
        self._route.metrics.finished(self.assignment.variant, self._outcome, seconds)
        if self._route.traces is not None:
            self.trace_id = self._route.traces.ended(self._ended(now))
        if self._route.is_logged(self._outcome, self._status, now):
            self._log(seconds)

    def _ended(self, now: float) -> Ended:
        """What a trace tells of it."""
        stages = [("decode", self._decoded_at - self.arrived_at)]
        attributes: dict[str, str | int] = {
            "http.request.method": "POST",
            "http.route": self._route.path,
            "frontrow.request_id": self.request_id,
            "frontrow.variant": self.assignment.variant,
            "frontrow.outcome": self._outcome,
        }
        if self._status:
            attributes["http.response.status_code"] = int(self._status)
        if self._ranking is not None:
            queue, features = self._waiting_and_features(self._ranking)
            stages += [("queue", queue), ("features", features), ("score", self._ranking.score_seconds)]
            attributes["frontrow.rows"] = self._ranking.rows
        return Ended(self.headers, self.arrived_at, now, stages, attributes)

    def _log(self, seconds: float) -> None:
        ranking = self._ranking
        visitor = None if self._work is None else self._work.lookup.found
        facts = (
            {}
            if ranking is None
            else {
                "model": "/".join(msgspec.structs.astuple(self._passport(ranking).model)),
                "rows": ranking.rows,
                "queue_ms": round(1e3 * ranking.queue_seconds, 3),
                "score_ms": round(1e3 * ranking.score_seconds, 3),
            }
        )
        log.info(
            self._route.event,
            request_id=self.request_id,
            variant=self.assignment.variant,
            assignment=self.assignment.reason,
            outcome=self._outcome,
            status=int(self._status),
            ms=round(1e3 * seconds, 3),
            **facts,
            **({} if self._route.traces is None else {"trace_id": self.trace_id}),
            **({} if visitor is None else {"moment": visitor.moment, "degraded": visitor.degraded}),
        )


def _nobody(status: int, head: bytes, body: bytes, close: bool) -> None:
    """The reply of an exchange that is over."""


def new_request_id() -> str:
    return random.getrandbits(128).to_bytes(16).hex()  # a name in logs; nobody is kept out by not knowing it


def lines(headers: Iterable[Header]) -> bytes:
    """Headers as they stand on the wire."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def media_of(caller: Caller) -> bytes:
    """What the body is: `JSON` or `ARROW`. Raises the 415 of one that says it is neither, or is compressed."""
    if caller.content_encoding not in (b"", b"identity"):
        raise unsupported_media("the body must not be compressed; Content-Encoding is not supported")
    if caller.content_type == JSON:
        return JSON
    media, _, parameters = caller.content_type.lower().partition(b";")
    if media.strip() == ARROW:
        return ARROW
    if media.strip() != JSON or parameters.strip() not in (b"", b"charset=utf-8", b'charset="utf-8"'):
        allowed = f"application/json in UTF-8 or {ARROW.decode()}"
        raise unsupported_media(f"the body must be {allowed}; say so in Content-Type")
    return JSON


def wants_arrow(caller: Caller) -> bool:
    """Whether the answer is to be a record batch: whoever does not name that media type gets JSON."""
    return caller.accept.find(ARROW) >= 0 and any(  # `in` would first take the text for a number, and fail
        part.partition(b";")[0].strip() == ARROW for part in caller.accept.split(b",")
    )
