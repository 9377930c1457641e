"""Every answer that is not a ranking: one table of HTTP statuses, and the form of RFC 9457 for all of them."""

import math
from collections.abc import Sequence
from http import HTTPStatus
from typing import Literal

import msgspec

from batching import Expired, Shed

PROBLEM_JSON = b"application/problem+json"

Outcome = Literal["ok", "shed", "expired", "cancelled", "invalid", "error"]


class Fault(msgspec.Struct, frozen=True):
    """One thing wrong with a request, and where it stands."""

    place: str
    message: str


class ProblemDocument(msgspec.Struct, omit_defaults=True):
    """The body of every error answer (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    faults: Sequence[Fault] = ()


class Problem(Exception):
    """An answer that is not a ranking. `outcome` is how it is counted; one that `closes` is the connection's last."""

    def __init__(
        self,
        status: HTTPStatus,
        kind: str,
        detail: str,
        *,
        outcome: Outcome = "invalid",
        faults: Sequence[Fault] = (),
        headers: Sequence[tuple[bytes, bytes]] = (),
        closes: bool = False,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.outcome: Outcome = outcome
        self.faults = faults
        self.headers = headers
        self.closes = closes

    def document(self, request_id: str) -> bytes:
        title = self.kind.replace("-", " ").capitalize()
        body = ProblemDocument(f"urn:frontrow:{self.kind}", title, self.status, self.detail, request_id, self.faults)
        return msgspec.json.encode(body)


def malformed_json(detail: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "malformed-json", detail)


def malformed_arrow(detail: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "malformed-arrow", detail)


def malformed_http() -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, "malformed-http", "the request is not HTTP/1.1", closes=True)


def body_too_slow(seconds: float) -> Problem:
    detail = f"the body did not arrive within {seconds:g} s"
    return Problem(HTTPStatus.REQUEST_TIMEOUT, "body-too-slow", detail, closes=True)


def body_too_large(limit: int) -> Problem:
    detail = f"the body is larger than the {limit} bytes that are allowed"
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large", detail, closes=True)


def too_many_candidates(count: int, limit: int) -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "too-many-candidates",
        f"{count} candidates were sent and {limit} are allowed",
    )


def too_many_rows(count: int, limit: int) -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-many-rows", f"{count} rows were sent and {limit} are allowed"
    )


def bad_rows(detail: str) -> Problem:
    """Rows of a caller's own that are none of the model's, or that cannot be read."""
    return Problem(HTTPStatus.BAD_REQUEST, "bad-rows", detail)


def too_many_events(count: int, limit: int) -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-many-events", f"{count} events were sent and {limit} are allowed"
    )


def store_unavailable() -> Problem:
    """A history cannot be written; rankings go on without."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "store-unavailable",
        "the store of histories has not taken this; to send it again is safe",
        headers=[(b"retry-after", b"1")],
    )


def read_only_store(detail: str) -> Problem:
    return Problem(HTTPStatus.NOT_IMPLEMENTED, "read-only-store", detail)


def unsupported_media(detail: str) -> Problem:
    return Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail)


def invalid_request(faults: Sequence[Fault]) -> Problem:
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    detail = f"{count}; the first at {faults[0].place}: {faults[0].message}"
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-request", detail, faults=faults)


def headers_too_large(detail: str) -> Problem:
    return Problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "headers-too-large", detail)


def defect() -> Problem:
    """A fault of ours. The answer says nothing about it; the log does, under the same request id."""
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "internal-error", "the service failed to rank this request", outcome="error"
    )


def shed(refusal: Shed) -> Problem:
    retry_after = str(max(1, math.ceil(refusal.retry_after_seconds))).encode()
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "overloaded",
        str(refusal),
        outcome="shed",
        headers=[(b"retry-after", retry_after)],
    )


def expired(expiry: Expired) -> Problem:
    return Problem(HTTPStatus.GATEWAY_TIMEOUT, "deadline-passed", str(expiry), outcome="expired")
