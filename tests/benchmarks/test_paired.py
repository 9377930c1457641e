"""Differences of arms that took turns, and how sure they are."""

import numpy as np
import pytest

from benchmarks.paired import Floats, median_of, p99_ratio

STRETCHES, RANKINGS = 40, 500


def stretches(seed: int, *, slower: float = 1.0) -> list[Floats]:
    """Latencies of stretches of which some are five times slower: both arms of a pair are."""
    random = np.random.default_rng(seed)
    moods = np.random.default_rng(0).choice([1.0, 5.0], size=STRETCHES, p=[0.8, 0.2])
    return [slower * mood * random.gamma(4, 0.001, size=RANKINGS) for mood in moods]


def test_the_median_of_many_is_surer_than_that_of_few() -> None:
    values = np.random.default_rng(3).normal(7, 1, size=1_000)
    few, many = median_of(values[:20].tolist()), median_of(values.tolist())
    assert many.value == np.median(values)
    assert many.low < 7 < many.high
    assert many.high - many.low < 0.5 * (few.high - few.low)


def test_a_median_says_where_it_lies_in_19_of_20_samples() -> None:
    random = np.random.default_rng(4)
    found = [median_of(random.exponential(size=50).tolist()) for _ in range(200)]
    hits = sum(one.low <= np.log(2) <= one.high for one in found)
    assert hits >= 180


def test_the_p99_of_equal_arms_is_equal_and_of_a_slower_one_as_much_higher() -> None:
    same = p99_ratio(stretches(1), stretches(2))
    assert same.low < 1 < same.high
    slower = p99_ratio(stretches(1, slower=1.3), stretches(2))
    assert slower.value == pytest.approx(1.3 * same.value)
    assert slower.low > 1


def test_the_p99_is_that_of_all_stretches_together() -> None:
    ours, theirs = [np.arange(1.0, 101), np.arange(101.0, 201)], [np.ones(7), np.ones(5)]
    assert p99_ratio(ours, theirs).value == 198.0
