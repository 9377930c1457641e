"""What headers say, and what they can never do."""

import pytest
from msgspec.structs import astuple

from app.caller import MAX_HEADERS, read_caller
from app.errors import Problem
from batching import Priority


def test_a_request_without_headers_is_an_ordinary_one() -> None:
    caller = read_caller([])
    assert (caller.visitor, caller.asked_variant, caller.request_id, caller.timeout_seconds) == (None, None, None, None)
    assert caller.priority is Priority.NORMAL
    assert caller.ignored == ()


def test_every_header_is_read() -> None:
    caller = read_caller(
        [
            (b"x-visitor-id", b"ada"),
            (b"x-variant", b"treatment"),
            (b"x-request-id", b"r-1"),
            (b"x-request-timeout-ms", b"40"),
            (b"x-priority", b"critical"),
            (b"content-length", b"12"),
        ]
    )
    assert astuple(caller)[:5] == ("ada", "treatment", "r-1", 0.04, Priority.CRITICAL)
    assert caller.content_length == 12


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x-visitor-id", b""),
        (b"x-visitor-id", b"a b"),
        (b"x-visitor-id", "ädä".encode()),
        (b"x-visitor-id", b"a" * 129),
        (b"x-visitor-id", b"a\tb"),
        (b"x-variant", b"Treatment"),
        (b"x-variant", b"blue"),
        (b"x-request-id", b"a b"),
        (b"x-request-id", b"a" * 65),
        (b"x-request-id", b'"}'),
    ],
)
def test_a_garbled_header_is_ignored_and_counted(name: bytes, value: bytes) -> None:
    caller = read_caller([(name, value)])
    assert astuple(caller)[:3] == (None, None, None)
    assert [ignored.lower().encode() for ignored in caller.ignored] == [name]
    caller.check()


@pytest.mark.parametrize("name", [b"x-visitor-id", b"x-variant", b"x-request-id"])
def test_a_repeated_header_is_ignored_and_counted_once(name: bytes) -> None:
    caller = read_caller([(name, b"control"), (name, b"control"), (name, b"control")])
    assert astuple(caller)[:3] == (None, None, None)
    assert len(caller.ignored) == 1


@pytest.mark.parametrize(
    "header",
    [
        (b"x-request-timeout-ms", b"0"),
        (b"x-request-timeout-ms", b"-5"),
        (b"x-request-timeout-ms", b"1.5"),
        (b"x-request-timeout-ms", b"soon"),
        (b"x-request-timeout-ms", b"600001"),
        (b"x-priority", b"urgent"),
        (b"x-priority", b""),
    ],
)
def test_a_wrong_deadline_or_priority_is_refused_with_what_is_allowed(header: tuple[bytes, bytes]) -> None:
    with pytest.raises(Problem) as caught:
        read_caller([header]).check()
    assert caught.value.status == 422
    assert "allowed" in caught.value.detail


def test_too_many_or_too_large_headers_are_named_with_the_limit() -> None:
    read_caller([(b"x", b"1")] * MAX_HEADERS).check()
    with pytest.raises(Problem, match=f"{MAX_HEADERS + 1} headers were sent and 64 are allowed") as many:
        read_caller([(b"x", b"1")] * (MAX_HEADERS + 1)).check()
    with pytest.raises(Problem, match="the headers have 20001 bytes and 16384 are allowed") as large:
        read_caller([(b"x", b"1" * 20_000)]).check()
    assert (many.value.status, large.value.status) == (431, 431)
