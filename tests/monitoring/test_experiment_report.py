from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from logged_worlds import NOON

from monitoring import experiment_report as report
from monitoring.errors import ExperimentError
from monitoring.experiment import Question, analyze, ndcg_of_clicks
from monitoring.exposures import DAY_MS, Exposure, Feedback
from monitoring.guardrails import quantile, read_guardrails
from monitoring.intervals import mean, mean_difference, share, share_difference
from monitoring.ranking_log import LoggedRanking

QUESTION = Question("ranker", 0.5)
IDS = [f"A{number}" for number in range(10)]
RUNS, UNITS = 500, 1_200
CONVERSION = (0.05, 0.08)
CLICKED_PLACE = (np.full(10, 0.1), np.linspace(0.19, 0.01, 10))  # control's clicks know no order, treatment's do
DISCOUNTS = 1 / np.log2(np.arange(2, 12))


def exposure(unit: str, variant: str, at: int = NOON, reason: str = "hash", experiment: str = "ranker") -> Exposure:
    return Exposure(at, experiment, unit, variant, reason, "m/1")


def shown(unit: str, variant: str, at: int = NOON, ranking: list[str] = IDS) -> LoggedRanking:
    return LoggedRanking(
        request_id=f"{unit}-{at}",
        moment=at,
        experiment="ranker",
        variant=variant,
        reason="hash",
        model="m/1",
        sha256="0" * 64,
        candidates=list(ranking),
        scores=[0.0] * len(ranking),
        ranking=ranking,
        unit=unit,
    )


def pair() -> list[Exposure]:
    return [exposure("ada", "control"), exposure("bob", "treatment")]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_intervals_hold_the_true_effects_as_often_as_they_say() -> None:
    random = np.random.default_rng(5)
    true_conversion = CONVERSION[1] - CONVERSION[0]
    true_ndcg = float(DISCOUNTS @ (CLICKED_PLACE[1] - CLICKED_PLACE[0]))
    held = {"conversion": 0, "ndcg": 0}
    for _ in range(RUNS):
        exposures, feedback, rankings = _simulated(random)
        found = analyze(QUESTION, exposures, feedback, rankings)
        assert found.ndcg is not None
        held["conversion"] += found.conversion.difference.low <= true_conversion <= found.conversion.difference.high
        held["ndcg"] += found.ndcg.difference.low <= true_ndcg <= found.ndcg.difference.high
    print({name: count / RUNS for name, count in held.items()})
    assert min(held.values()) / RUNS >= 0.93


def _simulated(random: np.random.Generator) -> tuple[list[Exposure], list[Feedback], list[LoggedRanking]]:
    sides = random.integers(0, 2, UNITS)
    exposures, feedback, rankings = [], [], []
    for number, side in enumerate(sides.tolist()):
        unit, variant = f"{number}", ("control", "treatment")[side]
        exposures.append(exposure(unit, variant))
        if random.random() < CONVERSION[side]:
            feedback.append(Feedback(NOON + DAY_MS, unit, "A3", "booking"))
        if random.random() < 0.3:
            rankings.append(shown(unit, variant, NOON + 1))
            place = random.choice(10, p=CLICKED_PLACE[side])
            feedback.append(Feedback(NOON + 60_000, unit, IDS[place], "click"))
    return exposures, feedback, rankings


def test_a_visitor_counts_once_however_often_it_came_and_converted() -> None:
    exposures = [*pair(), exposure("ada", "control", NOON + DAY_MS), exposure("ada", "control")]
    done = [Feedback(NOON + hour, "ada", "A1", "booking") for hour in (1, 2, 3)]
    found = analyze(QUESTION, exposures, done)
    assert found.split[:2] == (1, 1)
    assert found.conversion.control.value == 1.0
    assert found.conversion.treatment.value == 0.0


def test_only_what_follows_the_first_exposure_in_time_counts() -> None:
    exposures = [exposure(unit, "control") for unit in ("early", "late", "last")] + [exposure("bob", "treatment")]
    week = QUESTION.attribution_days * DAY_MS
    done = [
        Feedback(NOON - 1, "early", "A1", "booking"),
        Feedback(NOON + int(week) + 1, "late", "A1", "booking"),
        Feedback(NOON + int(week), "last", "A1", "booking"),
    ]
    assert analyze(QUESTION, exposures, done).conversion.control.value == pytest.approx(1 / 3)


def test_who_was_not_given_a_variant_by_chance_is_left_out() -> None:
    others = [
        exposure("forced", "treatment", reason="forced"),
        exposure("elsewhere", "treatment", experiment="colors"),
        exposure("both", "control"),
        exposure("both", "treatment"),
    ]
    found = analyze(QUESTION, [*pair(), *others], [])
    assert found.split[:2] == (1, 1)
    assert found.crossed == 1


def test_a_click_is_one_on_the_latest_ranking_before_it_that_had_the_activity() -> None:
    minute = 60_000
    rankings = [
        shown("ada", "control", NOON + minute, ["A1", "A2"]),
        shown("ada", "control", NOON + 2 * minute, ["A2", "A1"]),
        shown("ada", "control", NOON + 3 * minute, ["A9"]),
        shown("bob", "treatment", NOON + minute, ["A1"]),
    ]
    clicks = [
        Feedback(NOON + 4 * minute, "ada", "A1", "click"),
        Feedback(NOON + 120 * minute, "bob", "A1", "click"),  # too late to be one on the ranking
    ]
    found = analyze(QUESTION, pair(), clicks, rankings)
    assert found.ndcg is not None
    assert found.ndcg.units == (1, 0)
    two = analyze(QUESTION, [*pair(), exposure("eve", "control")], [
        *clicks, Feedback(NOON + 5 * minute, "eve", "A1", "click")
    ], [*rankings, shown("eve", "control", NOON, ["A1"])])  # fmt: skip
    assert two.ndcg is not None
    assert two.ndcg.control.value == pytest.approx((1 / np.log2(3) + 1) / 2)


def test_the_ndcg_of_clicks_is_one_when_the_clicked_stand_first() -> None:
    assert ndcg_of_clicks(IDS, {"A0", "A1"}) == pytest.approx(1.0)
    assert ndcg_of_clicks(IDS, {"A9"}) == pytest.approx(1 / np.log2(11))


def test_an_experiment_that_nobody_is_in_is_refused() -> None:
    with pytest.raises(ExperimentError, match="1 in control and 0 in treatment"):
        analyze(QUESTION, [exposure("ada", "control")], [])


def test_the_intervals_are_those_of_scipy() -> None:
    random = np.random.default_rng(8)
    wilson = scipy.stats.binomtest(17, 240).proportion_ci(0.95, method="wilson")
    assert share(17, 240)[1:] == pytest.approx((wilson.low, wilson.high), abs=1e-9)
    one, other = random.normal(1, 2, 60), random.normal(0, 1, 90)
    student = scipy.stats.ttest_1samp(one, 0).confidence_interval()
    assert mean(one)[1:] == pytest.approx((student.low, student.high), abs=1e-9)
    welch = scipy.stats.ttest_ind(one, other, equal_var=False).confidence_interval()
    assert mean_difference(one, other)[1:] == pytest.approx((welch.low, welch.high), abs=1e-9)


def test_the_difference_of_shares_is_newcombes_own_example() -> None:
    found = share_difference(share(56, 70), share(48, 80))  # his table II, case (a), method 10
    assert found[1:] == pytest.approx((0.0524, 0.3339), abs=5e-5)


def findings(control: int, treatment: int, of: int = 4_000, **extra: object) -> str:
    exposures = [exposure(f"c{n}", "control") for n in range(of)] + [exposure(f"t{n}", "treatment") for n in range(of)]
    done = [Feedback(NOON + 1, f"c{n}", "A1", "booking") for n in range(control)]
    done += [Feedback(NOON + 1, f"t{n}", "A1", "booking") for n in range(treatment)]
    return report.says(analyze(QUESTION, exposures, done, **extra))  # type: ignore[arg-type]


def test_the_sentence_says_what_to_make_of_it() -> None:
    assert "treatment is better by +2.50 percentage points" in findings(200, 300)
    assert "treatment is worse by" in findings(300, 200)
    assert "a difference that chance can explain" in findings(200, 203)


def test_a_mismatch_silences_the_result() -> None:
    exposures = [exposure(f"c{n}", "control") for n in range(3_000)]
    exposures += [exposure(f"t{n}", "treatment") for n in range(2_000)]
    assert report.says(analyze(QUESTION, exposures, [])).startswith("Do not use these numbers")


def test_a_guardrail_that_breaks_is_said_in_the_same_breath() -> None:
    rails = read_guardrails(exposition(treatment_errors=300, treatment_slow=500))
    assert rails is not None
    assert len(rails.broken) == 2
    assert "But it has a price: 3.00% of treatment's rankings fail" in findings(200, 300, guardrails=rails)
    usual = read_guardrails(exposition(treatment_errors=10, treatment_slow=0))
    assert usual is not None
    assert usual.broken == ()


def test_guardrails_need_enough_rankings_of_both() -> None:
    assert read_guardrails("") is None
    assert read_guardrails(exposition(treatment_errors=0, treatment_slow=0, of=999)) is None


def test_a_quantile_is_linear_within_its_bucket() -> None:
    assert quantile({0.01: 50, 0.02: 100, float("inf"): 100}, 0.75) == pytest.approx(0.015)
    assert quantile({0.01: 50, 0.02: 50, float("inf"): 100}, 0.99) == pytest.approx(0.02)


def test_the_page_shows_the_sentence_the_numbers_and_the_intervals(tmp_path: Path) -> None:
    rankings = [shown(unit, variant) for unit, variant in (("ada", "control"), ("bob", "treatment"))]
    clicks = [Feedback(NOON + 1, unit, "A3", "click") for unit in ("ada", "bob")]
    found = analyze(QUESTION, pair(), clicks, rankings)
    page = report.html(found)
    assert "Of the visitors of treatment" in page
    assert "NDCG of clicks" in page
    assert page.count("<svg") == 1  # one visitor a side has a share with an interval, but no mean with one
    assert "<script" not in page
    assert "http" not in page


def exposition(*, treatment_errors: int, treatment_slow: int, of: int = 10_000) -> str:
    lines = ["# TYPE frontrow_requests counter", "# TYPE frontrow_request_duration_seconds histogram"]
    for variant, errors, slow in (("control", 10, 0), ("treatment", treatment_errors, treatment_slow)):
        lines.append(f'frontrow_requests_total{{variant="{variant}",outcome="ok"}} {of - errors}')
        lines.append(f'frontrow_requests_total{{variant="{variant}",outcome="error"}} {errors}')
        for edge, count in (("0.01", of - slow), ("0.1", of), ("+Inf", of)):
            lines.append(f'frontrow_request_duration_seconds_bucket{{variant="{variant}",le="{edge}"}} {count}')
    return "\n".join(lines) + "\n"
