"""Overload, on a virtual clock with the batcher itself: what `docs/batching.md` promises, as pinned regressions.

The scorer of the design: 1 ms a batch and 10 us a row, 512 rows at most, 10 % noise; a caller waits for 100 ms.
`pytest -s` prints the table.
"""

from functools import cache

import pytest

from batching import Cost, Priority
from batching.simulation import Run, Scenario, simulate

MIXES = {
    "equal": {},
    "mixed sizes": {"sizes": (5, 20, 50, 100, 300)},
    "mixed sizes and deadlines": {"sizes": (5, 20, 50, 100, 300), "timeouts": (0.02, 0.05, 0.1)},
}


def constant(load):
    return lambda _: load


def show(what: str, run: Run) -> None:
    print(
        f"\n| {what} | {run.offered():.2f} | {run.goodput():.3f} | {run.latency(0.5) * 1e3:.0f} "
        f"| {run.latency(0.99) * 1e3:.0f} | {run.vain():.2%} |",
        end="",
    )


@cache
def run_at(load: float, mix: str) -> Run:
    run = simulate(Scenario(load=constant(load), seconds=1.5, **MIXES[mix]))
    show(f"{mix}, {load}x", run)
    return run


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("load", [1.2, 2.0, 5.0, 10.0])
def test_goodput_stays_at_capacity_however_much_is_offered(mix, load):
    run = run_at(load, mix)
    assert run.goodput() >= 0.95
    assert run.latency(0.99) <= max(2 * run_at(0.8, mix).latency(0.99), 0.050)
    assert run.vain() <= 0.01


@pytest.mark.parametrize(("mix", "share"), [("equal", 0.999), ("mixed sizes", 0.96)])
def test_below_capacity_next_to_nothing_is_refused(mix, share):
    assert run_at(0.8, mix).goodput() >= share * run_at(0.8, mix).offered()


def test_at_twice_the_capacity_it_is_the_lower_classes_that_are_refused():
    run = simulate(Scenario(load=constant(2.0), priorities=tuple(Priority)))
    show("three classes, 2x", run)
    assert run.admitted(Priority.CRITICAL) >= 0.97
    assert 0.40 <= run.admitted(Priority.NORMAL) <= 0.55
    assert run.admitted(Priority.SHEDDABLE) <= 0.05
    assert run.goodput() >= 0.97


@pytest.mark.parametrize("wrong", [0.2, 5.0])
@pytest.mark.parametrize("load", [1.2, 2.0])
def test_a_measurement_that_is_wrong_by_five_does_no_harm(load, wrong):
    run = simulate(Scenario(load=constant(load), seconds=1.5, prior=Cost(0.001 * wrong, 10e-6 * wrong)))
    show(f"cost told {wrong} times, {load}x", run)
    assert run.goodput() >= 0.97
    assert run.goodput(0.0, 0.5) >= 0.95
    assert run.latency(0.99) <= 0.050


def test_a_stall_of_300_ms_costs_its_own_time_and_no_more():
    run = simulate(Scenario(load=constant(0.8), slowness=lambda now: 50.0 if 1.0 <= now < 1.006 else 1.0))
    show("stall of 300 ms, 0.8x", run)
    late = run.outcomes()["expired"] + sum(call.outcome == "ok" and not call.good for call in run.calls)
    assert late <= 50  # of some 400 that came meanwhile: the others learned it at the door
    for start in (1.35, 1.5, 1.75, 2.0, 2.5):
        assert run.goodput(start, start + 0.25) >= 0.99 * run.offered(start, start + 0.25)


def test_a_scorer_five_times_slower_for_a_second_is_back_at_once():
    run = simulate(Scenario(load=constant(0.5), slowness=lambda now: 5.0 if 1.0 <= now < 2.0 else 1.0))
    show("five times slower for 1 s, 0.5x", run)
    assert run.goodput(1.25, 2.0) >= 0.85 / 5
    assert run.goodput(2.25, 3.0) >= 0.99 * run.offered(2.25, 3.0)


def test_a_surge_of_retrying_clients_leaves_nothing_behind():
    """No metastable failure: when the trigger is gone, so is its effect."""
    run = simulate(Scenario(load=lambda now: 3.0 if 1.0 <= now < 11.0 else 0.8, seconds=12.5, retries=3))
    show("10 s of 3x, each retried 3 times", run)
    assert run.goodput(1.25, 11.0) >= 0.95
    assert run.goodput(11.0, 11.25) >= 0.95 * run.offered(11.0, 11.25)
    for start in (11.25, 11.5, 11.75, 12.0):
        assert run.goodput(start, start + 0.25) >= 0.999 * run.offered(start, start + 0.25)


def test_the_same_scenario_gives_the_same_run():
    scenario = Scenario(load=constant(2.0), seconds=0.3, **MIXES["mixed sizes and deadlines"])
    assert simulate(scenario).calls == simulate(scenario).calls
