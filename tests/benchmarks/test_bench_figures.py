"""From a record to figures, on records written by hand."""

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.figures import Figures, figures, percentiles
from benchmarks.generator import Run
from benchmarks.record import BROKEN, DROPPED, GAVE_UP, REFUSED, Record
from benchmarks.schedule import Phase, Schedule

DEADLINE = 0.1


def record_of(plan: Schedule, ending: Callable[[float], tuple[int, float]]) -> Record:
    """`ending` says status and latency of the request that is due at a time."""
    record = Record()
    for due in plan.due():
        request = record.begin(due, due)
        status, latency = ending(due)
        record.end(request, status, due, due + latency)
    return record


def figures_of(plan: Schedule, ending: Callable[[float], tuple[int, float]]) -> Figures:
    run = Run(record_of(plan, ending), cpu_seconds=0.5, wall_seconds=2, most_connections=9)
    return figures(run, plan, DEADLINE)


def test_percentiles_are_measured_values_by_nearest_rank() -> None:
    found = percentiles(np.arange(1, 1001) / 1000)
    assert found is not None
    assert (found.count, found.p50, found.p90, found.p99, found.p999, found.max) == (1000, 0.5, 0.9, 0.99, 0.999, 1)


def test_nothing_has_no_percentiles() -> None:
    assert percentiles(np.array([])) is None


def test_an_answer_past_the_deadline_is_no_goodput_but_stays_in_the_percentiles() -> None:
    whole = figures_of(Schedule((Phase(1, 10),)), lambda due: (200, 0.3 if due > 0.75 else 0.01)).whole
    assert (whole.ok, whole.late, whole.goodput) == (8, 2, 8)
    assert whole.accepted is not None
    assert whole.accepted.max == pytest.approx(0.3)


def test_refusals_have_percentiles_of_their_own() -> None:
    whole = figures_of(Schedule((Phase(1, 10),)), lambda due: (REFUSED, 0.002) if due < 0.35 else (200, 0.05)).whole
    assert whole.statuses == {"503": 4, "200": 6}
    assert whole.refusals is not None
    assert whole.accepted is not None
    assert (whole.refusals.count, whole.accepted.count) == (4, 6)
    assert whole.refusals.max == pytest.approx(0.002)


def test_each_phase_has_the_requests_that_were_due_in_it() -> None:
    found = figures_of(Schedule((Phase(1, 10), Phase(2, 20))), lambda due: (200 if due < 1 else REFUSED, 0.01))
    assert [(phase.rate, phase.requests, phase.ok) for phase in found.phases] == [(10, 10, 10), (20, 40, 0)]
    assert [phase.refusals and phase.refusals.count for phase in found.phases] == [None, 40]


def test_requests_without_an_answer_are_counted_by_why() -> None:
    endings = iter([(GAVE_UP, 0.0), (BROKEN, 0.0), (200, 0.0), (404, 0.0)])
    found = figures_of(Schedule((Phase(1, 4),)), lambda _due: next(endings))
    assert found.sends == {"gave up": 1, "broken connection": 1, "200": 1, "404": 1}
    assert found.whole.statuses == found.sends
    assert found.faults == []


def test_a_dropped_request_makes_the_run_invalid_and_says_how_many() -> None:
    found = figures_of(Schedule((Phase(1, 4),)), lambda due: (DROPPED if due else 200, 0.0))
    assert [fault.split(" were")[0] for fault in found.faults] == ["3 requests"]


def test_windows_count_by_when_requests_were_due() -> None:
    windows = figures_of(Schedule((Phase(0.5, 100),)), lambda due: (200, 0.2 if 0.095 < due < 0.195 else 0.0)).windows
    assert windows.due == [10] * 5
    assert windows.ok == [10, 0, 10, 10, 10]


def surge(recovers_after: float, relapses_at: float = np.inf) -> Figures:
    plan = Schedule((Phase(1, 100), Phase(1, 300), Phase(4, 100)))
    return figures_of(plan, lambda due: (200 if due < 1 or 2 + recovers_after <= due < relapses_at else REFUSED, 0.001))


@pytest.mark.parametrize("after", [0, 0.3, 1.7])
def test_recovery_is_timed_from_the_fall_of_the_load(after: float) -> None:
    (recovery,) = surge(after).recoveries
    assert (recovery.at, recovery.seconds) == (2, pytest.approx(after, abs=0.011))


def test_a_relapse_is_no_recovery() -> None:
    (recovery,) = surge(0.3, relapses_at=5).recoveries
    assert recovery.seconds is None


def test_the_generators_own_cost_and_lateness_are_told() -> None:
    plan = Schedule((Phase(1, 100),))
    record = Record()
    for due in plan.due():
        record.end(record.begin(due, due + 0.02), 200, due, due + 0.03)
    found = figures(Run(record, cpu_seconds=0.5, wall_seconds=2, most_connections=9), plan, DEADLINE)
    assert (found.generator.cpu_share, found.generator.most_connections) == (0.25, 9)
    assert found.generator.late.p50 == pytest.approx(0.02)
    assert "p99 20.0 ms" in found.warnings[0]


def test_a_retry_counts_as_a_send_of_its_own_and_once_as_a_request() -> None:
    record = Record()
    request = record.begin(0.0, 0.0)
    record.end(request, REFUSED, 0.001, 0.004)
    record.again(request)
    record.end(request, 200, 0.005, 0.009)
    found = figures(Run(record, 0.1, 1, 1), Schedule((Phase(1, 1),)), DEADLINE)
    assert found.sends == {"503": 1, "200": 1}
    assert (found.whole.requests, found.whole.ok) == (1, 1)
    assert found.whole.accepted is not None
    assert found.whole.accepted.max == pytest.approx(0.009)
