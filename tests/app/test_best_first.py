"""An order is that of a stable sort, however few or many scores there are."""

import math
import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.best_first import FEW, best_first

SCORES = st.one_of(st.floats(), st.sampled_from([0.0, -0.0, 1.0, math.inf, -math.inf, math.nan]))


def check(scores: list[float]) -> None:
    places = range(len(scores))
    numbers = sorted((at for at in places if not math.isnan(scores[at])), key=lambda at: -scores[at])
    nothing = [at for at in places if math.isnan(scores[at])]
    assert best_first(np.array(scores, np.float64)).tolist() == numbers + nothing


@given(st.lists(SCORES, max_size=60))
def test_few_scores(scores: list[float]) -> None:
    check(scores)


@given(st.lists(SCORES, min_size=1, max_size=20), st.integers(0, 2), st.randoms(use_true_random=False))
def test_about_as_many_as_are_sorted_in_another_way(some: list[float], more: int, draw: random.Random) -> None:
    check([draw.choice(some) for _ in range(FEW - 1 + more)])


def test_many_that_differ() -> None:
    check(np.random.default_rng(1).permutation(1_000).astype(float).tolist())


def test_none() -> None:
    check([])
