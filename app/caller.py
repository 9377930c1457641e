"""What a request's headers say of its caller."""

import re
from typing import NamedTuple

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

# The headers that the service reads; all others are passed over without a look at their value.
_KNOWN = frozenset(
    (
        b"x-visitor-id",
        b"x-variant",
        b"x-request-id",
        b"x-request-timeout-ms",
        b"x-priority",
        b"content-type",
        b"content-length",
        b"content-encoding",
        b"accept",
    )
)
_REPEATED = b"\x00"  # no header value can hold it, so it matches nothing that is allowed


class Caller(NamedTuple):
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


def read_caller(headers: list[tuple[bytes, bytes]]) -> Caller:
    """Read the headers once. Never raises: the split and the request id must be known to answer a fault, too."""
    known: dict[bytes, bytes] = {}
    size = 0
    for name, value in headers:
        size += len(name) + len(value)
        if name in _KNOWN:
            known[name] = value if name not in known else _REPEATED
    ignored: list[str] = []
    faults: list[Fault] = []

    visitor = known.get(b"x-visitor-id")
    if visitor is not None and not _ID.fullmatch(visitor):
        visitor = None
        ignored.append("X-Visitor-Id")

    variant = known.get(b"x-variant")
    asked_variant = None if variant is None else _VARIANTS.get(variant)
    if variant is not None and asked_variant is None:
        ignored.append("X-Variant")

    request_id = known.get(b"x-request-id")
    if request_id is not None and not _REQUEST_ID.fullmatch(request_id):
        request_id = None
        ignored.append("X-Request-Id")

    timeout = known.get(b"x-request-timeout-ms")
    if timeout is not None and not (_TIMEOUT.fullmatch(timeout) and int(timeout) <= MAX_TIMEOUT_MS):
        timeout = None
        faults.append(Fault("header X-Request-Timeout-Ms", f"a whole number from 1 to {MAX_TIMEOUT_MS} is allowed"))

    priority = _PRIORITIES.get(known.get(b"x-priority", b"normal"))
    if priority is None:
        priority = Priority.NORMAL
        faults.append(Fault("header X-Priority", "critical, normal or sheddable is allowed"))

    length = known.get(b"content-length")
    return Caller(  # by position, which takes half the time
        None if visitor is None else visitor.decode("ascii"),
        asked_variant,
        None if request_id is None else request_id.decode("ascii"),
        None if timeout is None else int(timeout) / 1e3,
        priority,
        known.get(b"content-type", b""),
        int(length) if length is not None and length.isdigit() else None,
        known.get(b"content-encoding", b""),
        known.get(b"accept", b""),
        tuple(ignored),
        tuple(faults),
        len(headers),
        size,
    )
