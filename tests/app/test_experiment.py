"""The split: sticky, fair, and the same in every release."""

import math

import pytest

from app.experiment import Assignment, Experiment, bucket

# Buckets of some ids under salt "frontrow" and experiment "ranker". A change here would move visitors between variants.
GOLDEN = {
    "ada": 7650,
    "grace": 587,
    "42": 6535,
    "0b8f0f6e-5a0f-4f0e-9d43-2f5a3e3a9d11": 9585,
    "a@b.example": 9482,
    "visitor-1": 456,
    "visitor-2": 9693,
    "visitor-3": 2089,
}


def experiment(share: float = 0.5, **changes: object) -> Experiment:
    facts = {
        "name": "ranker",
        "salt": "frontrow",
        "treatment_share": share,
        "fallback": "control",
        "forcing_allowed": False,
        "has_treatment": True,
    }
    return Experiment(**(facts | changes))  # type: ignore[arg-type]


def test_the_split_equals_its_golden_vector() -> None:
    assert {unit: bucket("frontrow", "ranker", unit) for unit in GOLDEN} == GOLDEN


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_a_hundred_thousand_visitors_split_within_four_sigma(share: float) -> None:
    split = experiment(share)
    in_treatment = sum(split.assign(f"visitor-{n}").variant == "treatment" for n in range(100_000))
    assert abs(in_treatment - 100_000 * share) < 4 * math.sqrt(100_000 * share * (1 - share))


def test_raising_the_share_moves_nobody_out_of_treatment() -> None:
    visitors = [f"visitor-{n}" for n in range(20_000)]
    before: set[str] = set()
    for share in (0.0, 0.0001, 0.05, 0.25, 0.5, 0.9999, 1.0):
        treated = {visitor for visitor in visitors if experiment(share).assign(visitor).variant == "treatment"}
        assert treated >= before
        before = treated
    assert before == set(visitors)


def test_two_experiments_split_the_same_visitors_independently() -> None:
    visitors = [f"visitor-{n}" for n in range(40_000)]
    one, other = experiment(), experiment(name="other")
    both = sum(one.assign(v).variant == other.assign(v).variant == "treatment" for v in visitors)
    assert abs(both - 10_000) < 4 * math.sqrt(40_000 * 0.25 * 0.75)


def test_a_request_without_a_visitor_gets_the_fallback_variant_and_says_so() -> None:
    assert experiment().assign(None) == Assignment("control", "fallback")
    assert experiment(fallback="treatment").assign(None) == Assignment("treatment", "fallback")


def test_a_variant_can_be_forced_only_where_settings_allow_it() -> None:
    hashed = experiment().assign("ada")
    other = "control" if hashed.variant == "treatment" else "treatment"
    assert experiment().assign("ada", other) == hashed
    assert experiment(forcing_allowed=True).assign("ada", other) == Assignment(other, "forced")


def test_without_a_treatment_model_everybody_gets_control_and_nobody_counts() -> None:
    assert experiment(1.0, has_treatment=False).assign("ada", "treatment") == Assignment("control", "fallback")
