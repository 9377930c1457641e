"""The generator against a real server that does as it is told."""

import numpy as np
import pytest
from scripted_server import Reply, ScriptedServer, serve

from benchmarks.errors import Unreachable
from benchmarks.figures import Figures, figures
from benchmarks.generator import Patience, Run, run_closed_loop, run_open_loop
from benchmarks.record import GAVE_UP, Record
from benchmarks.schedule import Phase, Schedule
from benchmarks.target import parse_target

DEADLINE = 0.1
PATIENCE = Patience()


def payload_of(body: bytes) -> bytes:
    return b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def offer(server: ScriptedServer, plan: Schedule, patience: Patience = PATIENCE, max_connections: int = 200) -> Run:
    return run_open_loop(
        parse_target(f"{server.url}/predict"),
        [payload_of(b'{"number": %d}' % number) for number in range(3)],
        plan,
        patience=patience,
        max_connections=max_connections,
        watch=lambda _elapsed, _record: None,
    )


def offered(server: ScriptedServer, plan: Schedule, patience: Patience = PATIENCE) -> Figures:
    return figures(offer(server, plan, patience), plan, DEADLINE)


def test_every_request_of_the_schedule_is_sent_once_and_its_answer_counted() -> None:
    statuses = {0: 503, 1: 504}
    with serve(lambda number: Reply(statuses.get(number % 5, 200))) as server:
        found = offered(server, Schedule((Phase(0.5, 400),)))
    assert len(server.requests) == 200
    assert found.sends == {"200": 120, "503": 40, "504": 40}
    assert found.dropped == 0


def test_the_bodies_are_sent_in_turn() -> None:
    with serve() as server:
        offer(server, Schedule((Phase(0.1, 60),)))
    assert sorted(body["number"] for body in server.bodies()) == [0, 0, 1, 1, 2, 2]


def test_a_stall_of_the_server_shows_in_the_latency_of_all_whom_it_kept_waiting() -> None:
    """A generator that waits for answers would see one slow request here; 300 ms at 200/s keep 60 waiting."""
    plan = Schedule((Phase(1, 200),))
    with serve(lambda number: Reply(stall_seconds=0.3 if number == 50 else 0)) as server:
        run = offer(server, plan)
    latencies = np.array(run.record.finished) - np.array(run.record.due)
    assert (latencies > 0.1).sum() >= 39
    found = figures(run, plan, DEADLINE)
    assert found.whole.accepted is not None
    assert found.whole.accepted.p90 > 0.1
    assert found.whole.late >= 39


def test_with_too_few_connections_requests_are_dropped_and_the_run_is_invalid() -> None:
    plan = Schedule((Phase(0.2, 50),))
    with serve(lambda number: Reply(stall_seconds=0.3 if number == 0 else 0)) as server:
        found = figures(offer(server, plan, max_connections=1), plan, DEADLINE)
    assert found.dropped == 9
    assert found.whole.statuses == {"200": 1, "dropped": 9}
    assert found.faults


def test_callers_hang_up_on_an_answer_that_never_comes() -> None:
    with serve(lambda number: Reply(never=number == 3)) as server:
        run = offer(server, Schedule((Phase(0.1, 100),)), Patience(give_up_seconds=0.3))
    assert run.record.endings == {200: 9, GAVE_UP: 1}
    assert np.isnan(run.record.finished[run.record.status.index(GAVE_UP)])


def test_a_server_that_closes_after_each_answer_is_served_by_new_connections() -> None:
    with serve(lambda _number: Reply(close=True)) as server:
        run = offer(server, Schedule((Phase(0.2, 200),)))
    assert run.record.endings == {200: 40}


def test_a_refused_request_is_sent_again_as_often_as_callers_retry() -> None:
    with serve(lambda _number: Reply(503)) as server:
        found = offered(server, Schedule((Phase(0.1, 100),)), Patience(retries=3))
    assert found.sends == {"503": 40}
    assert found.whole.statuses == {"503": 10}
    assert len(server.requests) == 40


def test_a_retry_that_succeeds_makes_the_request_a_success() -> None:
    with serve(lambda number: Reply(503 if number < 2 else 200)) as server:
        found = offered(server, Schedule((Phase(0.1, 100),)), Patience(retries=3))
    assert found.sends == {"200": 10, "503": 2}
    assert found.whole.statuses == {"200": 10}


def test_a_refusal_is_timed_from_when_it_was_due_though_it_was_sent_late() -> None:
    """All ten are due in the first 100 ms of a stall of 300 ms."""
    with serve(lambda number: Reply(503, stall_seconds=0.3 if number == 0 else 0)) as server:
        run = offer(server, Schedule((Phase(0.1, 100),)))
    refusals = np.array(run.record.refusals)
    assert len(refusals) == 10
    assert refusals.min() > 0.15


def test_a_closed_loop_has_one_request_under_way_on_each_connection() -> None:
    with serve() as server:
        run = run_closed_loop(
            parse_target(f"{server.url}/predict"),
            [payload_of(b"{}")],
            connections=4,
            seconds=0.3,
            patience=Patience(),
            watch=lambda _elapsed, _record: None,
        )
    assert run.most_connections == 4
    assert run.record.endings == {200: len(server.requests)}
    assert len(server.requests) > 4


def test_nobody_there_is_said_before_the_run() -> None:
    with serve() as server:
        pass
    with pytest.raises(Unreachable, match=str(server.port)):
        offer(server, Schedule((Phase(0.1, 10),)))


def test_a_watcher_sees_the_run_go_on() -> None:
    seen: list[tuple[float, int]] = []

    def watch(elapsed: float, record: Record) -> None:
        seen.append((elapsed, sum(record.endings.values())))

    with serve() as server:
        run_open_loop(
            parse_target(f"{server.url}/predict"),
            [payload_of(b"{}")],
            Schedule((Phase(0.5, 100),)),
            patience=Patience(),
            max_connections=50,
            watch=watch,
        )
    assert seen
    assert seen == sorted(seen)
