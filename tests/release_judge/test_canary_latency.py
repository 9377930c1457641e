"""p99 from buckets, and the windows in which arms are compared."""

import numpy as np
import pytest

from release.latency import WINDOW_REQUESTS, compare_windows, p99, p99_bucket
from release.promotion import median_ratio

EDGES = np.linspace(0.001, 1.0, 1000)


def histogram(seconds: np.ndarray) -> np.ndarray:
    return np.histogram(seconds, bins=[0.0, *EDGES, np.inf])[0].astype(float)


@pytest.mark.parametrize(("requests", "off"), [(WINDOW_REQUESTS, 0.1), (1_000, 0.06), (5_000, 0.05)])
def test_the_p99_is_about_as_often_over_the_true_quantile_as_under_it(requests: int, off: float) -> None:
    rng = np.random.default_rng(requests)
    found = p99(np.array([histogram(rng.uniform(0, 0.9, requests)) for _ in range(1_000)]), EDGES)
    assert float((found > 0.9 * 0.99).mean()) == pytest.approx(0.5, abs=off)


def test_the_p99_of_no_requests_is_unknown_and_one_beyond_the_last_edge_is_infinite() -> None:
    edges = np.array([0.1, 0.2])
    assert np.isnan(p99(np.zeros(3), edges))
    assert np.isinf(p99(np.array([90.0, 0.0, 10.0]), edges))
    assert p99(np.array([0.0, 100.0, 0.0]), edges) == pytest.approx(0.1 + 0.1 * 0.9916, abs=1e-4)
    assert p99_bucket(np.array([0.0, 100.0, 0.0]), edges) == (0.1, 0.2)
    assert np.isnan(p99_bucket(np.zeros(3), edges)).all()


def test_a_window_with_too_little_traffic_is_joined_to_the_next() -> None:
    edges = np.array([0.01, 0.1])
    thin = np.array([WINDOW_REQUESTS / 4, 1.0, 0.0])  # of each look: two of them are too few, four are enough
    arm = np.tile(thin, (8, 1))
    windows = compare_windows(arm, arm, edges)
    assert np.isnan(windows.ratio).tolist() == [True, False, True, False]
    assert windows.ratio[[1, 3]] == pytest.approx(1)


def test_a_canary_alone_beyond_the_last_edge_is_infinitely_slower_and_both_there_cannot_be_compared() -> None:
    edges = np.array([0.01, 0.1])
    slow, fast = np.tile([0.0, 0.0, 200.0], (2, 1)), np.tile([200.0, 0.0, 0.0], (2, 1))
    assert compare_windows(slow, fast, edges).ratio.tolist() == [np.inf]
    assert compare_windows(fast, slow, edges).ratio.tolist() == [0.0]
    both = compare_windows(slow, slow, edges)
    assert np.isnan(both.ratio).all()
    assert both.beyond.all()


def test_the_median_ratio_needs_enough_windows() -> None:
    assert np.isnan(median_ratio(np.array([1.0, 1.1, np.nan, 1.2, 1.3])))
    assert median_ratio(np.array([1.0, 1.1, 1.2, 1.3, np.inf])) == pytest.approx(1.2)
    assert np.isnan(median_ratio(np.zeros(0)))
