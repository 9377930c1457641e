"""What a request's headers say of its caller."""

import re
from functools import lru_cache

import msgspec

from app.errors import Fault, headers_too_large, invalid_request
from app.experiment import Variant
from batching import Priority

MAX_HEADERS = 64
MAX_HEADER_BYTES = 16_384
MAX_TIMEOUT_MS = 600_000

VISITOR_ID = r"[A-Za-z0-9._:@=+-]{1,128}"

_ID = re.compile(VISITOR_ID.encode())
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_TIMEOUT = re.compile(rb"[1-9][0-9]{0,5}")
_VARIANTS: dict[bytes, Variant] = {b"control": "control", b"treatment": "treatment"}
_PRIORITIES = {b"critical": Priority.CRITICAL, b"normal": Priority.NORMAL, b"sheddable": Priority.SHEDDABLE}

# Places of the headers that the service reads; all others are passed over without a look at their value.
_PLACES = {
    b"x-visitor-id": 0,
    b"x-variant": 1,
    b"x-request-id": 2,
    b"x-request-timeout-ms": 3,
    b"x-priority": 4,
    b"content-type": 5,
    b"content-length": 6,
    b"content-encoding": 7,
    b"accept": 8,
}
_NONE_OF_THEM: list[bytes | None] = [None] * len(_PLACES)
_REPEATED = b"\x00"  # no header value can hold it, so it matches nothing that is allowed


class Caller(msgspec.Struct, frozen=True, gc=False):
    """`ignored` names the headers whose garbled or repeated value was passed over (they can never be an error)."""

    visitor: str | None
    asked_variant: Variant | None
    request_id: str | None
    timeout_seconds: float | None
    priority: Priority
    content_type: bytes
    content_length: int | None
    content_encoding: bytes
    accept: bytes
    ignored: tuple[str, ...]
    faults: tuple[Fault, ...]
    headers: int
    header_bytes: int

    def check(self) -> None:
        """Raise the 431 of too many or too large headers, or the 422 of one that is not allowed."""
        if self.headers > MAX_HEADERS:
            raise headers_too_large(f"{self.headers} headers were sent and {MAX_HEADERS} are allowed")
        if self.header_bytes > MAX_HEADER_BYTES:
            raise headers_too_large(f"the headers have {self.header_bytes} bytes and {MAX_HEADER_BYTES} are allowed")
        if self.faults:
            raise invalid_request(self.faults)


def is_visitor_id(text: str) -> bool:
    return _ID.fullmatch(text.encode()) is not None


@lru_cache(maxsize=64)  # callers have their own few
def _seconds(timeout: bytes) -> float | None:
    """None for what is not allowed."""
    allowed = _TIMEOUT.fullmatch(timeout) and int(timeout) <= MAX_TIMEOUT_MS
    return int(timeout) / 1e3 if allowed else None


def read_caller(headers: list[tuple[bytes, bytes]]) -> Caller:
    """Read the headers once. Never raises: the split and the request id must be known to answer a fault, too."""
    values = _NONE_OF_THEM[:]
    size = 0
    for name, value in headers:
        size += len(name) + len(value)
        if name in _PLACES:
            place = _PLACES[name]
            values[place] = value if values[place] is None else _REPEATED
    visitor, variant, request_id, timeout, priority, content_type, length, content_encoding, accept = values
    ignored: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()

    if visitor is not None and not _ID.fullmatch(visitor):
        visitor = None
        ignored += ("X-Visitor-Id",)

    asked_variant = None
    if variant is not None:
        asked_variant = _VARIANTS.get(variant)
        if asked_variant is None:
            ignored += ("X-Variant",)

    if request_id is not None and not _REQUEST_ID.fullmatch(request_id):
        request_id = None
        ignored += ("X-Request-Id",)

    timeout_seconds = None if timeout is None else _seconds(timeout)
    if timeout_seconds is None and timeout is not None:
        faults += (Fault("header X-Request-Timeout-Ms", f"a whole number from 1 to {MAX_TIMEOUT_MS} is allowed"),)

    asked_priority = Priority.NORMAL if priority is None else _PRIORITIES.get(priority)
    if asked_priority is None:
        asked_priority = Priority.NORMAL
        faults += (Fault("header X-Priority", "critical, normal or sheddable is allowed"),)

    return Caller(  # by position, which takes half the time
        None if visitor is None else visitor.decode("ascii"),
        asked_variant,
        None if request_id is None else request_id.decode("ascii"),
        timeout_seconds,
        asked_priority,
        content_type or b"",
        int(length) if length is not None and length.isdigit() else None,
        content_encoding or b"",
        accept or b"",
        ignored,
        faults,
        len(headers),
        size,
    )
