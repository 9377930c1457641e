"""The test that may be looked at after every scrape."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from release.collapse import LOOKS, collapsed
from release.sequential import ALTERNATIVES, log_factor, log_pays


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=8),
    share=st.floats(0.01, 0.99),
    margin=st.sampled_from([1.0, 1.25]),
    ratio=st.floats(0.0, 1.0),
)
def test_no_bet_pays_more_than_one_in_the_mean_on_a_canary_that_is_tolerable_whatever_the_bursts(
    sizes: list[int], share: float, margin: float, ratio: float
) -> None:
    times = ratio * margin  # the baseline's rate, at most the margin
    probability = times * share / (times * share + 1 - share)
    sides = np.array(np.meshgrid(*[[0, 1]] * len(sizes))).reshape(len(sizes), -1).T  # every way to share the bursts out
    chance = np.prod(np.where(sides == 1, probability, 1 - probability), axis=1)
    canary = (sides * sizes).sum(axis=1).astype(float)
    pays = np.exp(log_pays(canary, sum(sizes) - canary, share, margin))
    assert (chance @ pays <= 1 + 1e-9).all()


@settings(deadline=None)
@given(
    canary=st.lists(st.integers(0, 30), min_size=3, max_size=12),
    baseline=st.lists(st.integers(0, 30), min_size=12, max_size=12),
    where=st.integers(0, 2),
    share=st.floats(0.01, 0.99),
    margin=st.sampled_from([1.0, 1.25]),
)
def test_one_more_bad_event_of_the_canary_never_makes_the_factor_smaller(
    canary: list[int], baseline: list[int], where: int, share: float, margin: float
) -> None:
    ours, theirs = np.array(canary, dtype=float), np.array(baseline[: len(canary)], dtype=float)
    more = ours.copy()
    more[where] += 1
    before, after = (log_factor(log_pays(arm, theirs, share, margin).sum(axis=0)) for arm in (ours, more))
    assert after >= before - 1e-12


def test_with_a_single_event_a_bet_pays_the_likelihood_ratio() -> None:
    tolerated, bet = 1.25 / 2.25, ALTERNATIVES / (ALTERNATIVES + 1)
    one, none = np.array([1.0]), np.array([0.0])
    assert np.exp(log_pays(one, none, 0.5, 1.25))[0] == pytest.approx(bet / tolerated)
    assert np.exp(log_pays(none, one, 0.5, 1.25))[0] == pytest.approx((1 - bet) / (1 - tolerated))


def test_a_stretch_without_bad_events_says_nothing_even_where_an_arm_had_no_requests() -> None:
    nothing = np.zeros(2)
    assert not log_pays(nothing, nothing, np.array([0.0, 1.0]), 1.25).any()


def test_a_family_collapses_only_when_it_is_out_of_proportion_for_all_the_looks() -> None:
    finished = np.full((2, 6), 100.0)
    events = np.array([[0, 60, 60, 60, 60, 0], [5, 5, 5, 5, 50, 5]], dtype=float)
    assert np.flatnonzero(collapsed(events, finished)).tolist() == [LOOKS]
    assert not collapsed(events, finished / 10).any(), "too few requests to say so"
    assert not collapsed(events[:, :2], finished[:, :2]).any()
