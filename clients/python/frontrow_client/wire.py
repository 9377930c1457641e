"""Requests as they are sent, and answers as they are read. Nothing here waits or connects."""

import json
import re
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from frontrow_client.errors import (
    DeadlinePassed,
    Fault,
    FrontrowError,
    Overloaded,
    Problem,
    Rejected,
    ServiceFailed,
    UnreadableAnswer,
)
from frontrow_client.types import (
    Candidate,
    Contribution,
    Event,
    Explanation,
    ModelVersion,
    RankedActivity,
    Ranking,
    RankOptions,
    Receipt,
)

MOST_TIMEOUT_MS = 600_000
MOST_SHOWN = 200
_VISITOR_ID = re.compile(r"[A-Za-z0-9._:@=+-]{1,128}", re.ASCII)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Request:
    """The same for each attempt, but for the time that is left."""

    method: str
    path: str
    body: bytes
    headers: Mapping[str, str]

    def headers_for(self, remaining_seconds: float) -> dict[str, str]:
        milliseconds = min(MOST_TIMEOUT_MS, max(1, int(1e3 * remaining_seconds)))
        return {**self.headers, "X-Request-Timeout-Ms": str(milliseconds)}


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    attempts: int


def rank_request(candidates: Iterable[str | Candidate], options: RankOptions) -> Request:
    document: dict[str, Any] = {"candidates": [one if isinstance(one, str) else _candidate(one) for one in candidates]}
    if (context := options.get("context")) is not None:
        document["context"] = dict(context)
    if (top_k := options.get("top_k")) is not None:
        document["top_k"] = top_k
    if options.get("explain"):
        document["explain"] = True
    return Request("POST", "/v1/rank", _json(document), _rank_headers(options))


def events_request(events: Sequence[Event], *, now_ms: int, request_id: str | None) -> Request:
    """Each event has a time of its own: the service knows by it what it has already, so it may be sent again."""
    sent = [{**asdict(event), "at": now_ms if event.at is None else event.at} for event in events]
    return Request("POST", "/v1/events", _json(sent), _headers(request_id))


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def forget_request(visitor_id: str, *, request_id: str | None) -> Request:
    return Request("DELETE", f"/v1/visitors/{quote(visitor_id, safe='')}", b"", _headers(request_id))


def read_ranking(answer: Answer) -> Ranking:
    """Raises `UnreadableAnswer`."""
    body = _document(answer)
    try:
        explanations = body.get("explanations")
        return Ranking(
            request_id=body["request_id"],
            variant=body["variant"],
            assignment=body["assignment"],
            model=ModelVersion(body["model"]["name"], body["model"]["version"]),
            ranking=tuple([RankedActivity(one["id"], one["score"], one["position"]) for one in body["ranking"]]),
            unknown_candidates=tuple(body["unknown_candidates"]),
            degraded=body["degraded"],
            explanations=None if explanations is None else tuple(_explanation(one) for one in explanations),
            code_version=answer.headers.get("x-code-version", ""),
            attempts=answer.attempts,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _unreadable(answer) from error


def read_receipt(answer: Answer) -> Receipt:
    """Raises `UnreadableAnswer`."""
    body = _document(answer)
    try:
        return Receipt(body["kept"], tuple(body["unknown_activities"]), body["too_old"])
    except (KeyError, TypeError) as error:
        raise _unreadable(answer) from error


def check(answer: Answer, *, wall_seconds: float | None = None) -> Answer:
    """The answer, if it is a success; else raises what it is. `wall_seconds`: now, for a `Retry-After` with a date."""
    if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return answer
    raise _failure(answer, time.time() if wall_seconds is None else wall_seconds)


def retry_after_seconds(text: str | None, wall_seconds: float) -> float | None:
    """What `Retry-After` asks for (RFC 9110, 10.2.3): seconds or a date. None where there is none that can be read."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:9])  # thirty years are as good as more
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - wall_seconds)
    except ValueError:
        return None


def _failure(answer: Answer, wall_seconds: float) -> FrontrowError:
    problem = _problem(answer)
    if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
        return Overloaded(problem, retry_after_seconds(answer.headers.get("retry-after"), wall_seconds))
    if answer.status == HTTPStatus.GATEWAY_TIMEOUT:
        return DeadlinePassed(problem.detail or problem.title, problem)
    if answer.status == HTTPStatus.NOT_IMPLEMENTED or 400 <= answer.status < 500:
        return Rejected(problem)
    return ServiceFailed(problem) if answer.status >= 500 else _unreadable(answer)


def _problem(answer: Answer) -> Problem:
    try:
        body = _document(answer)
        faults = tuple([Fault(one["place"], one["message"]) for one in body.get("faults", ())])
        return Problem(body["type"], body["title"], answer.status, body["detail"], body.get("request_id"), faults)
    except (UnreadableAnswer, KeyError, TypeError, AttributeError):
        return Problem("about:blank", _title(answer.status), answer.status, "", answer.headers.get("x-request-id"), ())


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown status"


def _document(answer: Answer) -> dict[str, Any]:
    try:
        document = json.loads(answer.body)
    except ValueError as error:  # also what is no UTF-8
        raise _unreadable(answer) from error
    if not isinstance(document, dict):
        raise _unreadable(answer)
    return document


def _unreadable(answer: Answer) -> UnreadableAnswer:
    return UnreadableAnswer(f"{answer.status} with {len(answer.body)} bytes: {answer.body[:MOST_SHOWN]!r}")


def _explanation(one: Mapping[str, Any]) -> Explanation:
    features = tuple([Contribution(each["feature"], each["value"], each["contribution"]) for each in one["features"]])
    return Explanation(one["id"], one["base"], features, one["others"])


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {"id": candidate.id, "features": dict(candidate.features)}


def _rank_headers(options: RankOptions) -> dict[str, str]:
    headers = _headers(options.get("request_id"))
    visitor, priority, variant = options.get("visitor_id"), options.get("priority"), options.get("variant")
    # Who cannot be read is nobody in particular to the service, and might not even be fit for a header.
    if visitor is not None and _VISITOR_ID.fullmatch(visitor):
        headers["X-Visitor-Id"] = visitor
    if priority is not None:
        headers["X-Priority"] = priority
    if variant is not None:
        headers["X-Variant"] = variant
    return headers


def _headers(request_id: str | None) -> dict[str, str]:
    if request_id is None or not _REQUEST_ID.fullmatch(request_id):  # such a one the service would replace, too
        request_id = uuid.uuid4().hex
    return {"Content-Type": "application/json", "X-Request-Id": request_id}


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
