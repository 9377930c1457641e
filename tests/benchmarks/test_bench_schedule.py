"""Which request is due when."""

import numpy as np
import pytest

from benchmarks.errors import BadSchedule
from benchmarks.schedule import Load, Phase, Schedule, falls, parse_loads, parse_profile, schedule


def test_a_phase_sends_its_requests_evenly() -> None:
    assert Schedule((Phase(0.5, 10),)).due().tolist() == [0, 0.1, 0.2, 0.3, 0.4]


def test_phases_follow_one_another_without_a_gap() -> None:
    plan = Schedule((Phase(1, 2), Phase(0.5, 4), Phase(1, 1)))
    assert plan.due().tolist() == [0, 0.5, 1.0, 1.25, 1.5]
    assert plan.starts() == [0, 1, 1.5, 2.5]
    assert (plan.seconds, plan.requests, plan.peak) == (2.5, 5, 4)


def test_due_times_never_go_back() -> None:
    due = Schedule((Phase(0.3, 333), Phase(0.7, 77), Phase(0.1, 1_000))).due()
    assert (np.diff(due) > 0).all()


def test_random_arrivals_are_as_many_but_never_in_step() -> None:
    phases = (Phase(2, 5_000), Phase(1, 1_000))
    due, other = (Schedule(phases, random=True).due() for _ in range(2))
    assert len(due) == 11_000
    assert np.searchsorted(due, 2) == 10_000
    assert (np.diff(due) >= 0).all()
    assert not np.isin(due, other).any()
    gaps = np.diff(due[:10_000])  # exponential: as spread out as they are long
    assert 0.9 < gaps.std() / gaps.mean() < 1.1


def test_a_profile_is_read_in_multiples_of_the_capacity_and_in_requests_a_second() -> None:
    loads = parse_profile("10s@0.8C, 2.5s@3C,5s@400")
    assert loads == [Load(10, 0.8, in_capacities=True), Load(2.5, 3, in_capacities=True), Load(5, 400)]
    assert [phase.rate for phase in schedule(loads, 100).phases] == [80, 300, 400]


def test_loads_are_multiples_of_the_capacity() -> None:
    assert [load.phase(200).rate for load in parse_loads("0.5,2", 30)] == [100, 400]


@pytest.mark.parametrize("text", ["", "10s", "10s@", "s@3C", "10s@3c", "10s@-1", "0s@3C", "10s@0C", "10s@3C,"])
def test_a_profile_that_cannot_be_read_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(BadSchedule, match=r"is not of the form|must be over 0"):
        parse_profile(text)


@pytest.mark.parametrize("text", ["", "a", "1,,2", "0", "-1", "nan", "inf"])
def test_loads_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(BadSchedule):
        parse_loads(text, 30)


@pytest.mark.parametrize("rate", [0.001, 1e9])
def test_a_schedule_of_no_request_or_of_too_many_is_refused_with_the_number(rate: float) -> None:
    with pytest.raises(BadSchedule, match=r"^(0|30,000,000,000) requests are due"):
        schedule([Load(30, rate)], 1)


def test_recovery_is_looked_for_where_the_load_falls() -> None:
    assert falls([Phase(1, rate) for rate in (1, 3, 3, 2, 5, 1)]) == [3, 5]
