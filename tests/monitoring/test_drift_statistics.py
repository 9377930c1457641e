import numpy as np
import pytest
import scipy.special
import scipy.stats
from drift_worlds import TRAINED, rows, trained_profile

from monitoring.drift import FALSE_ALARMS, LEAST_ROWS, WINDOWS, judge, steps
from monitoring.profile import Binner
from monitoring.psi import SMOOTHING, chi_squared_tail, psi, shift

WEEKS = 1_000
WINDOWS_A_WEEK = 7 * 24


def test_the_index_is_scipys_symmetric_divergence_of_the_smoothed_shares() -> None:
    random = np.random.default_rng(3)
    for bins in (2, 12, 500):
        counts, training = random.integers(0, 90, bins), random.integers(0, 9_000, bins)
        q, p = ((each + SMOOTHING) / (each + SMOOTHING).sum() for each in (counts, training))
        both_ways = scipy.stats.entropy(q, p) + scipy.stats.entropy(p, q)
        assert psi(counts, training) == pytest.approx(both_ways, rel=1e-9, abs=1e-12)


def test_the_tail_of_chi_squared_is_never_too_low_and_at_most_12_percent_too_high() -> None:
    for alpha in (1e-3, 1e-4, 1e-5):
        for degrees in (1, 2, 5, 11, 100, 2_000):
            exact = scipy.stats.chi2.isf(alpha, degrees)
            assert 1.0 <= chi_squared_tail(alpha, degrees) / exact < 1.12, (alpha, degrees)


def test_bins_with_too_few_rows_to_expect_are_judged_as_one() -> None:
    training = np.array([50_000, 49_900, 40, 30, 30])
    window = np.array([[500, 495, 5, 0, 0]])
    together = shift(np.array([[500, 495, 5]]), np.array([50_000, 49_900, 100]), alpha=0.001)
    found = shift(window, training, alpha=0.001)
    assert found.chance == together.chance
    assert found.psi == pytest.approx(together.psi, rel=1e-12)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("size", [500, 2_000, 10_000, 100_000])
def test_of_a_thousand_weeks_without_drift_at_most_one_in_a_hundred_alarms(size: int) -> None:
    random = np.random.default_rng(size)
    profile = trained_profile()
    truth = Binner(profile).split(_shares_of_the_world())
    of = len(profile.distributions)
    past, alarms = 0, np.zeros(WEEKS, dtype=bool)
    for one, shares in zip(profile.distributions, truth, strict=True):
        counts = random.multinomial(size, shares / shares.sum(), size=(WEEKS, WINDOWS_A_WEEK))
        found = judge(counts, one, of=of)
        past += int((found.psi > found.chance).sum())
        step = steps(found)
        three = np.minimum.reduce([step[:, at : WINDOWS_A_WEEK - WINDOWS + 1 + at] for at in range(WINDOWS)])
        alarms |= (three > 0).any(axis=1)
    print(f"{size} rows: {alarms.mean():.2%} of weeks alarm, {past / WEEKS / WINDOWS_A_WEEK:.3%} of windows past")
    assert alarms.mean() <= 0.01
    assert past / WEEKS / WINDOWS_A_WEEK <= 2 * FALSE_ALARMS


def test_a_profile_of_few_rows_alarms_no_more_often() -> None:
    random = np.random.default_rng(11)
    truth = Binner(trained_profile()).split(_shares_of_the_world())
    shares = truth[0] / truth[0].sum()
    past = 0
    for _ in range(2_000):
        training = random.multinomial(1_000, shares)
        found = shift(random.multinomial(LEAST_ROWS, shares), training, alpha=0.01)
        past += bool(found.psi > found.chance)
    assert past / 2_000 <= 0.02


def _shares_of_the_world() -> np.ndarray:
    """Counts of twenty times as many rows as training had, by the bins of training."""
    binner = Binner(trained_profile())
    counts = np.zeros(binner.total, dtype=np.int64)
    for seed in range(20):
        binner.count(rows(TRAINED, 100 + seed), counts)
    return counts
