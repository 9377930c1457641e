"""What counts as borne, of what a load showed; and the slow callers themselves."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks.conformance.finding import Finding, Subject
from benchmarks.conformance.slow_callers import Lives, TooFewFiles, allow_connections, slow_callers
from benchmarks.conformance.under_load import (
    DEADLINE_SECONDS,
    RECEIPT_SECONDS,
    Scale,
    judge_beside,
    judge_deadline,
    judge_stall,
    load_checks,
)
from benchmarks.generator import Run
from benchmarks.peers.errors import NotMeasured
from benchmarks.record import GAVE_UP, Record
from benchmarks.schedule import Phase, Schedule
from benchmarks.target import Target

RATE, SECONDS = 100, 8.0
PATIENCE_SECONDS = 30
STALL_BEGAN, STALL_ENDED = 2.0, 3.0


def record(endings: list[tuple[float, int, float]]) -> Record:
    """Requests as (due, status, latency)."""
    made = Record()
    for due, status, seconds in endings:
        made.end(made.begin(due, due), status, due, due + seconds)
    return made


def deadline(*endings: tuple[int, float]) -> Finding:
    return judge_deadline(record([(float(n), *each) for n, each in enumerate(endings)]))


def test_callers_with_a_deadline_may_be_refused_but_not_answered_late() -> None:
    in_time, refused, late = (200, DEADLINE_SECONDS / 2), (503, 0.01), (200, 3 * DEADLINE_SECONDS)
    assert deadline(in_time, refused, refused).verdict == "passed"
    assert deadline(in_time, late).verdict == "failed"
    assert deadline(*[in_time] * 200, late).verdict == "passed"  # one of a hundred is a machine's hiccup
    assert deadline(refused, refused).verdict == "failed"  # nobody was answered at all


def test_a_server_without_deadlines_gets_neither_praise_nor_blame() -> None:
    subject = cast("Subject", SimpleNamespace(peer=SimpleNamespace(deadline=None)))
    check = next(each for each in load_checks(Scale()) if "callers who wait" in each.name)
    assert check.run(subject).verdict == "not offered"


def stalled(*, back_after: float, status: int = 200) -> Finding:
    """Every request is answered at once but those that came in the stall, and until `back_after` its end."""
    back_at = STALL_ENDED + back_after
    times = [number / RATE for number in range(int(RATE * SECONDS))]
    made = [(due, status, back_at - due + 0.2) if STALL_BEGAN <= due < back_at else (due, 200, 0.005) for due in times]
    schedule = Schedule((Phase(SECONDS, RATE),))
    return judge_stall(Run(record(made), 0.1, SECONDS, 16), schedule, STALL_BEGAN, STALL_ENDED)


def test_a_stall_may_cost_a_second_of_its_callers_and_no_more() -> None:
    assert stalled(back_after=0.5).verdict == "passed"
    assert stalled(back_after=1.5).verdict == "failed"
    assert stalled(back_after=99).seen.startswith("not answered")


def test_refusals_after_a_stall_are_right_and_broken_connections_are_not() -> None:
    assert stalled(back_after=0.5, status=503).verdict == "passed"
    assert stalled(back_after=0.5, status=GAVE_UP).verdict == "failed"


def test_a_server_that_fails_before_the_stall_is_not_measured() -> None:
    with pytest.raises(NotMeasured, match="before the stall"):
        judge_stall(
            Run(record([(0.1, 500, 0.1), (4.0, 200, 0.1)]), 0.1, SECONDS, 1), Schedule((Phase(SECONDS, 1),)), 2.0, 3.0
        )


QUIET = [0.005, 0.006, 0.005]


def test_slow_connections_may_raise_the_p99_by_a_tenth_or_to_what_the_machine_does_by_itself() -> None:
    cut = Lives(500, 400, 0, RECEIPT_SECONDS / 2)
    assert judge_beside(QUIET, [0.0054] * 3, cut).verdict == "passed"
    assert judge_beside(QUIET, [0.0061] * 3, cut).verdict == "failed"
    assert judge_beside([*QUIET, 0.02], [0.015] * 3, cut).verdict == "passed"
    assert judge_beside(QUIET, [float("inf")] * 3, cut).verdict == "failed"


def test_nothing_is_said_of_slow_connections_where_requests_go_unanswered_without_them() -> None:
    with pytest.raises(NotMeasured, match="without slow connections"):
        judge_beside([*QUIET, float("inf")], QUIET, Lives(500, 400, 0, 1.0))


def test_a_slow_connection_that_outlives_its_time_fails_the_check() -> None:
    assert judge_beside(QUIET, QUIET, Lives(500, 0, 0, 2 * RECEIPT_SECONDS)).verdict == "failed"


def test_more_connections_than_a_process_may_have_are_refused_in_words() -> None:
    with pytest.raises(TooFewFiles, match="ulimit"):
        allow_connections(10**9)


@contextmanager
def cutting(connections: int) -> Iterator[tuple[Target, list[bytes], threading.Thread]]:
    """A server that reads a first piece of each of so many connections and closes them; its thread ends then."""
    listener, said = socket.create_server(("127.0.0.1", 0)), []
    listener.settimeout(PATIENCE_SECONDS)

    def serve() -> None:
        for _ in range(connections):
            connection, _address = listener.accept()
            with connection:
                said.append(connection.recv(65_536))

    thread = threading.Thread(target=serve)
    thread.start()
    with listener:
        yield Target("127.0.0.1", listener.getsockname()[1], "/", tls=False), said, thread
        thread.join()


def test_slow_callers_never_finish_and_come_again_when_they_are_cut() -> None:
    request = b"POST / HTTP/1.1\r\nHost: one\r\nContent-Length: 100\r\n\r\n" + b"b" * 100
    with cutting(6) as (target, said, server), slow_callers(target, request, 2) as callers:
        server.join(PATIENCE_SECONDS)
        lives: Any = callers.end()
    assert lives.opened >= 6
    assert lives.cut >= 4
    assert all(b"b" * 100 not in each for each in said)
    assert {b"X-Slow" in each for each in said} == {True, False}
