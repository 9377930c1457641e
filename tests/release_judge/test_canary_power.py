"""How often the judge is wrong, and how soon it is right, over thousands of simulated canaries."""

import numpy as np
import pytest
from recorded import START, scrapes

from release.evidence import OUTCOMES, Evidence, Target
from release.judge import judge
from release.rules import FAMILIES, Rules
from release.simulation import BAD_SHARES, FINE_EDGES, Counts, Ends, World, draw, failures, promoted, run

RULES = Rules()


def failed(ends: Ends) -> float:
    return float((~ends.passed).mean())


def test_of_ten_thousand_good_canaries_looked_at_every_15_seconds_at_most_one_percent_fail() -> None:
    assert failed(run(World(), 10_000, RULES, seed=1)) <= 0.01


@pytest.mark.parametrize(
    "world",
    [
        World(rate=15),
        World(rate=1_000),
        World(share=0.1),
        World(burst=10),
        World(moving=True),
        World(bad=dict.fromkeys(BAD_SHARES, 0.02)),
    ],
    ids=["15/s", "1,000/s", "a tenth of the traffic", "bursts of ten", "load and share that move", "much that is bad"],
)
def test_at_most_one_percent_of_good_canaries_fail_in_other_worlds_too(world: World) -> None:
    assert failed(run(world, 1_000, RULES, seed=2)) <= 0.01


def test_the_sequential_tests_alone_hold_their_bound_at_the_edge_of_what_is_tolerated() -> None:
    """Every family at its margin, in bursts, for the longest time: the worst canary that may not be failed."""
    times = {family.name: family.margin for family in FAMILIES}
    worst = World(bad=dict.fromkeys(BAD_SHARES, 0.005), times=times, burst=3)
    counts = draw(worst, 500, slice(0, 160), RULES, np.random.default_rng(3))
    first, _ = failures(counts, worst, RULES)
    assert (first <= 160).mean() <= 0.01


@pytest.mark.parametrize(("times", "least", "within"), [(1.5, 0.4, 160), (2, 0.97, 100), (3, 0.99, 50), (10, 0.99, 30)])
def test_a_canary_with_so_many_times_the_errors_fails_as_often_and_as_soon_as_the_page_says(
    times: float, least: float, within: int
) -> None:
    ends = run(World(bad={**BAD_SHARES, "error": 0.005}, times={"error": times}), 500, RULES, seed=4)
    assert failed(ends) >= least
    assert np.median(ends.looks[~ends.passed]) <= within


def test_a_p99_that_is_five_percent_slower_fails_where_two_percent_are_tolerated() -> None:
    strict = Rules(p99_ratio=1.02)
    world = World(rate=200, spread=0.3, edges=FINE_EDGES)
    assert failed(run(world, 500, strict, seed=5)) <= 0.01
    slower = run(World(rate=200, spread=0.3, edges=FINE_EDGES, slower=1.05), 500, strict, seed=6)
    assert failed(slower) >= 0.99


@pytest.mark.parametrize("times", [1.0, 3.0])
def test_the_simulation_says_what_the_judge_says(times: float) -> None:
    world, rules = World(times={"error": times, "shed": times}), Rules(period_seconds=300, extensions=0)
    counts = draw(world, 10, slice(0, rules.looks), rules, np.random.default_rng(7))
    first, tests = failures(counts, world, rules)
    passes = promoted(counts, world, rules)
    for number in range(10):
        verdict = judge(_evidence(counts, number, world, rules))
        if first[number] <= rules.looks:
            assert (verdict.verdict, verdict.looks) == ("FAIL", first[number])
            assert {reason.subject for reason in verdict.reasons} == {
                name
                for name, hit in zip([*(family.name for family in FAMILIES), "p99"], tests[:, number], strict=True)
                if hit
            }
        else:
            assert verdict.verdict == ("PASS" if passes[number] else "FAIL")


def _evidence(counts: Counts, number: int, world: World, rules: Rules) -> Evidence:
    arms = {}
    names = [family.name for family in FAMILIES]
    for arm, name in enumerate(("canary", "baseline")):
        durations = np.pad(counts.durations[arm, number], ((1, 1), (0, 0)))
        bad = dict(zip(names, np.pad(counts.events[arm, :, number], ((0, 0), (1, 1))), strict=True))
        total = durations.sum(axis=1)
        its = {outcome: bad[outcome] for outcome in (*OUTCOMES[1:], "unusable")}
        its |= {"offered": total, "ok": total - sum(its[outcome] for outcome in OUTCOMES[1:])}
        edges = world.edges
        arms[name] = (
            Target(name, tuple(scrapes(rules, rules.looks, 4.0 + arm, its, durations, edges=edges, code="x"))),
        )
    return Evidence(rules=rules, start=START, end=START + (rules.looks + 2.5) * rules.scrape_seconds, **arms)
