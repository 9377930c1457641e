"""Requests as they are sent, and answers as they are read."""

import contextlib
import json
from typing import Any

import pytest
from frontrow_client import (
    Candidate,
    DeadlinePassed,
    Event,
    FrontrowError,
    Overloaded,
    Rejected,
    ServiceFailed,
    UnreadableAnswer,
    wire,
)
from hypothesis import given
from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
WALL_SECONDS = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110's examples


def answer(status: int, body: bytes = b"", **headers: str) -> wire.Answer:
    return wire.Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body, attempts=1)


def failure_of(given: wire.Answer) -> FrontrowError:
    with pytest.raises(FrontrowError) as raised:
        wire.check(given, wall_seconds=WALL_SECONDS)
    return raised.value


def test_a_ranking_is_asked_for_with_what_was_given_and_nothing_else() -> None:
    request = wire.rank_request(["A1", Candidate("A2", {"price": 3.5})], {})
    assert json.loads(request.body) == {"candidates": ["A1", {"id": "A2", "features": {"price": 3.5}}]}
    assert request.headers.keys() == {"Content-Type", "X-Request-Id"}
    full = wire.rank_request([], {"context": {"device": None}, "top_k": 3, "explain": True, "visitor_id": "ada"})
    assert json.loads(full.body) == {"candidates": [], "context": {"device": None}, "top_k": 3, "explain": True}
    assert full.headers["X-Visitor-Id"] == "ada"


@pytest.mark.parametrize("garbled", ["", "a b", "ä", "a\r\nX-Priority: critical", "x" * 129])
def test_a_visitor_whom_the_service_could_not_read_is_not_sent(garbled: str) -> None:
    assert "X-Visitor-Id" not in wire.rank_request([], {"visitor_id": garbled}).headers


def test_a_request_id_that_the_service_would_replace_is_replaced() -> None:
    assert wire.rank_request([], {"request_id": "mine-1"}).headers["X-Request-Id"] == "mine-1"
    assert wire.rank_request([], {"request_id": "ä\n"}).headers["X-Request-Id"].isalnum()


@pytest.mark.parametrize(("seconds", "milliseconds"), [(0.0001, "1"), (0.3006, "300"), (10_000, "600000")])
def test_the_time_that_is_left_is_said_as_the_service_reads_it(seconds: float, milliseconds: str) -> None:
    assert wire.rank_request([], {}).headers_for(seconds)["X-Request-Timeout-Ms"] == milliseconds


def test_each_event_is_sent_with_a_time_so_that_it_may_be_sent_again() -> None:
    events = [Event("ada", "A1", "view"), Event("ada", "A2", "click", at=7)]
    assert [one["at"] for one in json.loads(wire.events_request(events, now_ms=99, request_id=None).body)] == [99, 7]


def test_a_visitor_stands_in_a_path_as_one_part_of_it() -> None:
    assert wire.forget_request("a/../b?c", request_id=None).path == "/v1/visitors/a%2F..%2Fb%3Fc"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("120", 120.0),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10.0),
        ("Sun, 06 Nov 1994 08:49:27 GMT", 0.0),
        ("-1", None),
        ("soon", None),
        ("", None),
        ("1.5", None),
        ("٣", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, seconds: float | None) -> None:
    assert wire.retry_after_seconds(text, WALL_SECONDS) == seconds


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Rejected),
        (404, Rejected),
        (413, Rejected),
        (422, Rejected),
        (431, Rejected),
        (500, ServiceFailed),
        (501, Rejected),
        (502, ServiceFailed),
        (503, Overloaded),
        (504, DeadlinePassed),
        (302, UnreadableAnswer),
    ],
)
def test_an_error_is_what_its_status_means_with_or_without_a_document(status: int, kind: type[FrontrowError]) -> None:
    assert type(failure_of(answer(status, b"<html>bad gateway"))) is kind
    document = {"type": "urn:x", "title": "X", "status": status, "detail": "d", "request_id": "r"}
    told = failure_of(answer(status, json.dumps(document).encode()))
    assert type(told) is kind
    assert told.problem is None if status == 302 else told.problem is not None and told.problem.type == "urn:x"


def test_only_a_refusal_that_says_when_may_be_tried_again() -> None:
    said = failure_of(answer(503, retry_after="2"))
    unsaid = failure_of(answer(503))
    assert isinstance(said, Overloaded)
    assert isinstance(unsaid, Overloaded)
    assert (said.repeatable, said.retry_after_seconds) == (True, 2.0)
    assert (unsaid.repeatable, unsaid.retry_after_seconds) == (False, 0.0)


def test_faults_name_their_places() -> None:
    document = {"type": "t", "title": "T", "detail": "d", "faults": [{"place": "$.top_k", "message": "no"}]}
    failure = failure_of(answer(422, json.dumps(document).encode()))
    assert failure.problem is not None
    assert [(fault.place, fault.message) for fault in failure.problem.faults] == [("$.top_k", "no")]
    assert "d" in str(failure)


@given(st.binary(max_size=50) | JSON.map(lambda document: json.dumps(document).encode()))
def test_whatever_else_is_answered_is_unreadable_and_nothing_worse(body: bytes) -> None:
    for read in (wire.read_ranking, wire.read_receipt):
        with pytest.raises(UnreadableAnswer):
            read(answer(200, body))
    assert isinstance(failure_of(answer(422, body)), Rejected)


RANKING = {
    "request_id": "r",
    "variant": "control",
    "assignment": "hash",
    "model": {"name": "m", "version": "1"},
    "ranking": [{"id": "A", "score": 0.5, "position": 1}],
    "unknown_candidates": ["A"],
    "degraded": True,
}


@given(st.sampled_from([*RANKING, "explanations"]), JSON.filter(lambda value: not isinstance(value, dict)))
def test_a_ranking_with_one_part_of_it_wrong_is_read_or_unreadable(part: str, value: Any) -> None:
    body = json.dumps({**RANKING, part: value}).encode()
    with contextlib.suppress(UnreadableAnswer):
        assert wire.read_ranking(answer(200, body)).attempts == 1


def test_what_is_new_in_an_answer_harms_nobody() -> None:
    ranking = wire.read_ranking(answer(200, json.dumps({**RANKING, "new": 1}).encode(), x_code_version="abc"))
    assert (ranking.ids, ranking.degraded, ranking.code_version, ranking.attempts) == (["A"], True, "abc", 1)
