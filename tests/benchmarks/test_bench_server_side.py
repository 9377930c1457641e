"""The server's own counts beside those of its callers."""

import os

import pytest
from scripted_server import serve

from benchmarks.server_side import NoSuchProcess, Snapshot, answer_costs, compare, cpu_seconds_of, snapshot
from benchmarks.target import parse_target

NOTHING = Snapshot({"ok": 5, "shed": 1, "invalid": 0}, 1.0)


def test_equal_counts_agree() -> None:
    after = Snapshot({"ok": 15, "shed": 3, "expired": 1, "invalid": 0}, 1.5)
    server = compare(NOTHING, after, {"200": 10, "503": 2, "504": 1})
    assert server.agree is True
    assert server.cpu_seconds == 0.5


def test_one_answer_too_many_disagrees() -> None:
    assert compare(NOTHING, Snapshot({"ok": 16, "shed": 1}, None), {"200": 10}).agree is False


def test_a_dropped_request_was_never_sent_so_the_server_cannot_know_it() -> None:
    assert compare(NOTHING, Snapshot({"ok": 15, "shed": 1}, None), {"200": 10, "dropped": 7}).agree is True


@pytest.mark.parametrize("ending", ["gave up", "broken connection"])
def test_when_callers_do_not_know_how_it_ended_nothing_is_claimed(ending: str) -> None:
    assert compare(NOTHING, Snapshot({"ok": 15, "shed": 1}, None), {"200": 10, ending: 1}).agree is None


def test_a_server_that_counts_nothing_is_no_fault() -> None:
    server = compare(Snapshot(None, None), Snapshot(None, None), {"200": 10})
    assert (server.agree, server.outcomes, server.cpu_seconds) == (None, None, None)


def test_a_scrape_sums_over_variants_and_reads_the_cpu_seconds() -> None:
    with serve() as server:
        found = snapshot(parse_target(server.url), None)
    assert found == Snapshot({"ok": 0, "shed": 0, "expired": 0, "invalid": 0, "error": 0}, 0.0)


def test_a_server_that_is_not_there_tells_nothing() -> None:
    with serve() as server:
        pass
    assert snapshot(parse_target(server.url), None) == Snapshot(None, None)


def test_cpu_seconds_of_a_process_are_read() -> None:
    assert cpu_seconds_of(os.getpid()) > 0


def test_no_such_process_is_said_with_its_number() -> None:
    with pytest.raises(NoSuchProcess, match="process 999999999"):
        cpu_seconds_of(999_999_999)


def test_the_cost_of_a_refusal_is_told_apart_from_that_of_a_success() -> None:
    costs = answer_costs([(1000, 0, 1.0), (900, 4000, 1.3), (950, 9000, 1.85)])
    assert costs is not None
    assert costs.success == pytest.approx(0.001)
    assert costs.refusal == pytest.approx(0.0001)


@pytest.mark.parametrize(
    "runs",
    [
        [],
        [(1000, 0, 1.0)],
        [(1000, 0, 1.0), (500, 0, 0.5)],
        [(10, 10, 1.0), (20, 20, 2.0)],
        [(10, 1, 1.0), (10, 9, 0.1)],
    ],
)
def test_runs_that_cannot_tell_costs_apart_give_none(runs: list[tuple[int, int, float]]) -> None:
    assert answer_costs(runs) is None
