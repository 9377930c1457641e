"""What the judge says of canaries that differ from their baseline in one thing."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from recorded import START, Arm, evidence

from release.evidence import Evidence, Scrape, Target
from release.judge import judge
from release.rules import FAMILIES, Rules
from release.simulation import FINE_EDGES
from release.verdict import Verdict

RULES = Rules()
OLD = Arm(code="old", offset=9.0)


def changed(arm: Target, change: Callable[[int, Scrape], dict[str, Any]]) -> Target:
    scrapes = [msgspec.structs.replace(scrape, **change(number, scrape)) for number, scrape in enumerate(arm.scrapes)]
    return Target(arm.name, tuple(scrapes))


def with_canary(found: Evidence, change: Callable[[int, Scrape], dict[str, Any]]) -> Evidence:
    return msgspec.structs.replace(found, canary=tuple(changed(arm, change) for arm in found.canary))


def with_baseline(found: Evidence, change: Callable[[int, Scrape], dict[str, Any]]) -> Evidence:
    return msgspec.structs.replace(found, baseline=tuple(changed(arm, change) for arm in found.baseline))


def gates(verdict: Verdict) -> set[tuple[str, str]]:
    return {(reason.gate, reason.subject) for reason in verdict.reasons}


def test_a_canary_like_its_baseline_passes_at_the_end_of_the_first_period() -> None:
    verdict = judge(evidence(RULES))
    assert (verdict.verdict, verdict.final, verdict.judged_seconds, verdict.extensions) == ("PASS", True, 600, 0)
    assert verdict.numbers["requests"] == pytest.approx({"canary": 60_000, "baseline": 60_000})


@pytest.mark.parametrize("outcome", ["error", "shed", "expired", "cancelled", "invalid", "unusable"])
def test_a_canary_with_two_percent_of_a_bad_outcome_fails_for_it_within_five_minutes(outcome: str) -> None:
    verdict = judge(evidence(RULES, canary=[Arm(bad={outcome: 30})]))
    assert verdict.verdict == "FAIL"
    assert gates(verdict) == {("G1", outcome)}
    assert verdict.judged_seconds <= 300


@pytest.mark.parametrize("outcome", ["error", "shed", "expired", "cancelled", "invalid"])
def test_a_canary_that_fails_nearly_everybody_fails_after_three_looks(outcome: str) -> None:
    verdict = judge(evidence(RULES, canary=[Arm(bad={outcome: 1400})]))
    assert (verdict.verdict, verdict.looks, gates(verdict)) == ("FAIL", 3, {("G0", outcome)})


def test_bad_events_that_both_arms_have_are_no_reason() -> None:
    bad = {family.name: 20.0 for family in FAMILIES}
    assert judge(evidence(RULES, canary=[Arm(bad=bad)], baseline=[Arm(bad=bad, offset=9)])).verdict == "PASS"


def test_one_burst_is_one_observation_however_many_it_hits() -> None:
    found = evidence(RULES, looks=40)

    def burst(number: int, scrape: Scrape) -> dict[str, Any]:
        return {
            "counts": {
                **scrape.counts,
                "error": 700.0 * (number >= 5),
                "ok": scrape.counts["ok"] - 700.0 * (number >= 5),
            }
        }

    verdict = judge(with_canary(found, burst))
    assert ("G1", "error") not in gates(verdict)
    assert verdict.verdict == "INCONCLUSIVE", "but it is not shown either that the rate is low"


def test_a_slower_p99_fails_and_says_how_much_slower() -> None:
    verdict = judge(evidence(RULES, canary=[Arm(slower=1.3)]))
    assert gates(verdict) == {("G2", "p99")}
    assert "12 of 12 windows (median 1.2" in verdict.reasons[0].says


@pytest.mark.parametrize("slower", [1.0, 1.05])
def test_five_percent_slower_fails_only_where_less_is_tolerated_and_the_buckets_can_tell(slower: float) -> None:
    rules = Rules(p99_ratio=1.02)
    fine = evidence(rules, canary=[Arm(slower=slower, edges=FINE_EDGES)], baseline=[Arm(edges=FINE_EDGES, offset=9)])
    assert judge(fine).verdict == ("PASS" if slower == 1 else "FAIL")
    assert judge(evidence(RULES, canary=[Arm(slower=slower)])).verdict == "PASS", "1.10 is tolerated"
    coarse = judge(evidence(rules, canary=[Arm(slower=slower, spread=0.15)], baseline=[Arm(spread=0.15, offset=9)]))
    assert coarse.verdict != "PASS", "its buckets are half as wide again, which hides 5 %"


def test_a_hotfix_is_judged_for_five_minutes_and_not_for_its_latency() -> None:
    hotfix = Rules(hotfix=True, period_seconds=300)
    slow = judge(evidence(hotfix, canary=[Arm(slower=1.4)], baseline=[OLD]))
    assert (slow.verdict, slow.judged_seconds) == ("PASS", 300)
    assert judge(evidence(hotfix, canary=[Arm(bad={"error": 30})])).verdict == "FAIL"
    few, fewer = ([Arm(requests=requests, offset=9)] for requests in (24, 22))
    assert judge(evidence(hotfix, canary=[Arm(requests=24)], baseline=few)).verdict == "PASS"
    assert "440 requests" in judge(evidence(hotfix, canary=[Arm(requests=22)], baseline=fewer)).reasons[1].says


def test_what_is_not_shown_extends_three_times_and_then_fails() -> None:
    few = [Arm(requests=20)]
    for looks, verdict, extensions in ((40, "INCONCLUSIVE", 0), (159, "INCONCLUSIVE", 3), (160, "FAIL", 3)):
        found = judge(evidence(RULES, canary=few, baseline=[Arm(requests=20, offset=9)], looks=looks))
        assert (found.verdict, found.extensions) == (verdict, extensions)
    assert ("G3", "requests") in gates(found)
    assert "3,200 requests of the canary, and 4,605 are needed" in found.reasons[0].says


def test_enough_requests_after_an_extension_pass() -> None:
    some = judge(evidence(RULES, canary=[Arm(requests=60)], baseline=[Arm(requests=60, offset=9)], looks=160))
    assert (some.verdict, some.judged_seconds, some.extensions) == ("PASS", 1200, 1)


def test_a_few_errors_that_prove_nothing_keep_it_from_passing_too() -> None:
    found = evidence(RULES, canary=[Arm(requests=120)], baseline=[Arm(requests=120, offset=9)])

    def one_in_ten(number: int, scrape: Scrape) -> dict[str, Any]:
        return {
            "counts": {**scrape.counts, "error": number // 10 * 2.0, "ok": 120.0 * (number + 1) - number // 10 * 2.0}
        }

    verdict = judge(with_canary(found, one_in_ten))
    assert (verdict.verdict, gates(verdict)) == ("INCONCLUSIVE", {("G3", "time"), ("G3", "error")})


def test_a_restart_fails_at_once_by_the_process_and_by_its_counters() -> None:
    restarted = with_canary(evidence(RULES), lambda n, scrape: {"started_at": START + 80} if n >= 8 else {})
    verdict = judge(restarted)
    assert (verdict.verdict, gates(verdict)) == ("FAIL", {("G0", "canary")})
    assert "canary-0 was restarted: its process is 180 s younger" in verdict.reasons[0].says
    assert verdict.looks < 10
    fallen = with_canary(evidence(RULES), lambda n, scrape: {"counts": {**scrape.counts, "ok": 5.0}} if n == 8 else {})
    assert "ok fell from 12000 to 5" in judge(fallen).reasons[0].says


def test_lost_readiness_and_wrong_code_fail_at_once() -> None:
    unready = with_canary(evidence(RULES), lambda n, scrape: {"ready": float(n != 8)})
    assert "was ready and is not any more" in judge(unready).reasons[0].says
    expecting = Rules(canary_code="new", baseline_code="old")
    assert judge(evidence(expecting)).verdict == "PASS"
    wrong = judge(evidence(Rules(canary_code="newer")))
    assert (wrong.verdict, wrong.looks) == ("FAIL", 0)
    assert "runs code new, and newer was expected" in wrong.reasons[0].says


@pytest.mark.parametrize("field", ["models", "golden"])
def test_a_release_of_code_alone_must_keep_models_and_golden_scores(field: str) -> None:
    rules = Rules(code_only=True)
    assert judge(evidence(rules)).verdict == "PASS"
    other = judge(with_canary(evidence(rules), lambda n, scrape: {field: {"control": "cc" * 32}}))
    assert (other.verdict, gates(other)) == ("FAIL", {("G0", "canary")})
    more = with_canary(evidence(rules), lambda n, scrape: {field: {**getattr(scrape, field), "treatment": "dd" * 32}})
    assert (judge(more).verdict, ("G3", field) in gates(judge(more))) == ("INCONCLUSIVE", True)


def test_a_canary_that_is_never_scraped_fails_within_two_minutes() -> None:
    missing = judge(evidence(RULES, canary=[], looks=6))
    assert (missing.verdict, missing.final, gates(missing)) == ("FAIL", True, {("G0", "canary")})
    down = judge(with_canary(evidence(RULES, looks=6), lambda n, scrape: {"up": False, "counts": {}, "durations": {}}))
    assert "canary-0 missed more than 3 scrapes" in down.reasons[0].says
    assert down.verdict == "FAIL"


def test_a_canary_that_falls_silent_fails_after_more_than_three_missed_scrapes() -> None:
    found = evidence(RULES)

    def first(count: int) -> Evidence:
        return msgspec.structs.replace(
            found, canary=tuple(Target(arm.name, arm.scrapes[:count]) for arm in found.canary)
        )

    assert "missed more than 3" in judge(first(20)).reasons[0].says
    assert judge(first(39)).verdict == "INCONCLUSIVE", "three are missed, and the period cannot pass"


def test_without_a_baseline_there_is_no_verdict_and_no_use_in_waiting() -> None:
    gone = judge(evidence(RULES, baseline=[]))
    assert (gone.verdict, gone.final) == ("INCONCLUSIVE", True)
    restarted = judge(with_baseline(evidence(RULES), lambda n, scrape: {"started_at": START + 80} if n >= 8 else {}))
    assert (restarted.verdict, restarted.final, gates(restarted)) == ("INCONCLUSIVE", True, {("G0", "baseline")})


def test_a_metric_that_the_service_does_not_export_never_passes_and_is_named() -> None:
    found = evidence(RULES, looks=160)

    def without(number: int, scrape: Scrape) -> dict[str, Any]:
        return {"counts": {name: value for name, value in scrape.counts.items() if name != "unusable"}}

    verdict = judge(with_baseline(with_canary(found, without), without))
    assert verdict.verdict == "FAIL"
    assert gates(verdict) == {("G3", "unusable"), ("G3", "time")}
    assert "no evidence of unusable" in verdict.reasons[0].says


def test_a_gap_costs_its_period_and_not_the_release() -> None:
    found = evidence(RULES, looks=80)
    gap = msgspec.structs.replace(
        found,
        canary=tuple(Target(arm.name, arm.scrapes[:10] + arm.scrapes[11:]) for arm in found.canary),
    )
    verdict = judge(gap)
    assert (verdict.verdict, verdict.extensions) == ("PASS", 1)


def test_arms_of_different_size_are_compared_by_their_rates_and_their_share_is_that_of_their_targets() -> None:
    two, six = [Arm(bad={"error": 3})] * 2, [Arm(bad={"error": 3}, offset=9)] * 6
    fair = judge(evidence(RULES, canary=two, baseline=six))
    assert (fair.verdict, fair.numbers["share"]["expected"]) == ("PASS", 0.25)
    worse = judge(evidence(RULES, canary=[Arm(bad={"error": 9})] * 2, baseline=six))
    assert gates(worse) == {("G1", "error")}


def test_a_canary_that_does_not_get_its_share_of_the_requests_does_not_pass() -> None:
    starved = judge(evidence(RULES, canary=[Arm(requests=700)]))
    assert ("G3", "share") in gates(starved)
    assert "31.82% of the requests of both arms instead of 50.00%" in starved.reasons[1].says
    nearly = judge(evidence(RULES, canary=[Arm(requests=1450)]))
    assert nearly.verdict == "PASS", "as uneven as a balancer of connections is"


def test_a_release_that_changes_the_buckets_is_compared_by_those_that_both_have() -> None:
    verdict = judge(evidence(RULES, canary=[Arm(edges=(*FINE_EDGES, 0.15, 0.25))]))
    assert verdict.verdict == "PASS"
    assert verdict.numbers["p99"]["slow_over_seconds"] == (0.1, 0.25)


def test_a_pass_names_the_next_stage() -> None:
    assert judge(evidence(Rules(stage=5))).next_stage == 25
    assert judge(evidence(Rules(stage=100))).next_stage is None
    assert judge(evidence(Rules(stage=5), canary=[Arm(bad={"error": 30})])).next_stage is None


def test_what_is_judged_no_further_does_not_depend_on_what_comes_later() -> None:
    early, late = judge(evidence(RULES, looks=40)), judge(evidence(RULES, looks=120))
    assert (early.verdict, early.looks, early.numbers) == (late.verdict, late.looks, late.numbers)


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"period_seconds": 100}, "a period is a multiple of 30 s, which 100 s is not"),
        ({"scrape_seconds": 0}, "0.1 to 300 s apart"),
        ({"p99_ratio": 0.9}, "at least 0 s and 1"),
        ({"share": 1.5}, "between 0 and 1, not 1.5"),
        ({"stage": 7}, "stages are 1, 5, 25, 50, 100 %, not 7 %"),
        ({"extensions": -1}, "0 to 100 extensions, not -1"),
        ({"false_fail": 2.0}, "shares are below 1"),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(rules: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Rules(**rules)
