"""How alike models rank, of many requests at once."""

import numpy as np
import pytest

from monitoring.order import COMPARED, TOP, agreements, kendall_tau, top_overlap


def test_requests_that_are_compared_together_are_compared_as_if_alone() -> None:
    random = np.random.default_rng(5)
    served = [random.integers(0, 6, size).astype(float) for size in (1, 2, 7, 30, COMPARED, 300)]
    shadow = [random.integers(0, 6, len(one)).astype(float) for one in served]
    found = agreements(served, shadow)
    expected = [kendall_tau(one[:COMPARED], other[:COMPARED]) for one, other in zip(served, shadow, strict=True)]
    assert [one.tau for one in found] == pytest.approx(expected, abs=1e-12, nan_ok=True)
    overlaps = [top_overlap(one, other, TOP) for one, other in zip(served, shadow, strict=True)]
    assert [one.overlap for one in found] == overlaps


def test_the_same_order_agrees_in_all_and_the_opposite_one_in_nothing() -> None:
    scores = np.arange(20.0)
    same, opposite = agreements([scores, scores], [2 * scores, -scores])
    assert (same.tau, same.overlap) == (1, 1)
    assert (opposite.tau, opposite.overlap) == (-1, 0)


def test_a_model_that_knows_no_order_has_no_tau_and_says_nothing_of_the_others() -> None:
    scores = np.arange(12.0)
    nothing, other = agreements([scores, scores], [np.zeros(12), scores])
    assert np.isnan(nothing.tau)
    assert other.tau == 1


def test_of_no_requests_nothing_is_said() -> None:
    assert agreements([], []) == []
