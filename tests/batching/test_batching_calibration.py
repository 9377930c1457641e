"""Measuring what a batch costs."""

import asyncio

import pytest

from batching import Cost, Limits, ScoringThread, calibrate, measure_handover
from batching.calibration import fit


class Machine:
    """A scorer whose cost is known, with a clock of its own; a request is its number of rows."""

    def __init__(self, cost: Cost, hiccups: dict[int, float] | None = None) -> None:
        self.cost = cost
        self.hiccups = hiccups or {}
        self.now = 0.0
        self.sizes: list[int] = []

    def score(self, requests):
        (rows,) = requests
        self.now += self.cost.seconds(rows) * self.hiccups.get(len(self.sizes) % 10, 1.0)
        self.sizes.append(rows)

    def calibrate(self, **how) -> Cost:
        return calibrate(self.score, lambda rows: rows, clock=lambda: self.now, **how)


@pytest.mark.parametrize("cost", [Cost(35e-6, 22e-6), Cost(5e-6, 0.25e-6), Cost(0.001, 10e-6)])
def test_the_cost_that_is_there_is_found(cost):
    found = Machine(cost).calibrate()
    assert found.fixed_seconds == pytest.approx(cost.fixed_seconds)
    assert found.row_seconds == pytest.approx(cost.row_seconds)


def test_a_few_busy_moments_of_the_machine_change_nothing():
    found = Machine(Cost(35e-6, 22e-6), hiccups={3: 30.0, 7: 8.0}).calibrate()
    assert found.row_seconds == pytest.approx(22e-6)


def test_it_measures_one_row_a_quarter_and_a_batch_and_stops_where_batches_take_too_long():
    machine = Machine(Cost(35e-6, 22e-6))
    machine.calibrate(limits=Limits(max_batch_rows=4096, max_batch_seconds=0.005), repeats=3)
    assert set(machine.sizes[-9:]) == {1, 64, 256}
    small = Machine(Cost(35e-6, 22e-6))
    small.calibrate(limits=Limits(max_batch_rows=100), repeats=3)
    assert set(small.sizes[-9:]) == {1, 25, 100}


def test_parts_stay_positive_when_the_measurements_say_otherwise():
    assert fit([(1, 5.0), (10, 4.0)]).row_seconds > 0.0
    assert fit([(1, 0.1), (10, 5.0)]).fixed_seconds > 0.0
    assert fit([(1, 0.1)]).seconds(1) == pytest.approx(0.1)
    assert fit([(1, 0.0), (4, 0.0)]).seconds(4) > 0.0


def test_a_hand_over_to_the_thread_is_measured():
    async def measure() -> float:
        thread = ScoringThread()
        try:
            return await asyncio.wait_for(measure_handover(thread, repeats=20), 30)
        finally:
            thread.close()

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        assert runner.run(measure()) > 0.0
