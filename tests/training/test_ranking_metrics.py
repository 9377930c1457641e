import math

import lightgbm as lgb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.metrics import average_precision, ndcg, reciprocal_rank, summary

Query = list[tuple[int, float]]  # label and score of each row
queries = st.lists(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from([-1.0, 0.0, 0.5, 2.0])), min_size=1, max_size=7),
    min_size=1,
    max_size=5,
)


def arrays(several: list[Query]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels = np.array([label for query in several for label, _ in query])
    scores = np.array([score for query in several for _, score in query])
    return labels, scores, np.array([len(query) for query in several])


def ranked(query: Query) -> list[int]:
    return [label for label, _ in sorted(query, key=lambda row: -row[1])]


def gain(labels: list[int], k: int) -> float:
    return sum((2**label - 1) / math.log2(place + 1) for place, label in enumerate(labels[:k], start=1))


@given(queries, st.integers(1, 8))
def test_ndcg_is_its_definition(several: list[Query], k: int) -> None:
    best = [gain(sorted((label for label, _ in query), reverse=True), k) for query in several]
    expected = [gain(ranked(query), k) / top if top else 1.0 for query, top in zip(several, best, strict=True)]
    assert ndcg(*arrays(several), k) == pytest.approx(expected)


@given(queries)
def test_average_precision_is_its_definition(several: list[Query]) -> None:
    expected = []
    for query in several:
        places = [place for place, label in enumerate(ranked(query), start=1) if label > 0]
        expected.append(np.mean([found / place for found, place in enumerate(places, start=1)]) if places else 1.0)
    assert average_precision(*arrays(several)) == pytest.approx(expected)


@given(queries)
def test_reciprocal_rank_is_its_definition(several: list[Query]) -> None:
    firsts = [next((p for p, label in enumerate(ranked(query), start=1) if label > 0), 1) for query in several]
    assert reciprocal_rank(*arrays(several)) == pytest.approx([1 / first for first in firsts])


def test_equal_scores_rank_by_position() -> None:
    sizes, scores = np.array([2]), np.zeros(2)
    assert reciprocal_rank(np.array([1, 0]), scores, sizes).tolist() == [1.0]
    assert reciprocal_rank(np.array([0, 1]), scores, sizes).tolist() == [0.5]


def test_a_summary_has_the_means_over_queries() -> None:
    means = summary(np.array([0, 1, 1, 0]), np.array([2.0, 1.0, 2.0, 1.0]), np.array([2, 2]))
    assert list(means) == ["ndcg@1", "ndcg@3", "ndcg@5", "ndcg@10", "map", "mrr"]
    assert means["ndcg@1"] == 0.5
    assert means["mrr"] == 0.75


def test_ndcg_and_map_are_what_lightgbm_reports() -> None:
    rng = np.random.default_rng(11)
    sizes = rng.integers(1, 15, 60)
    rows = rng.integers(0, 4, (sizes.sum(), 4)).astype(float)  # few different rows, so that scores tie
    labels = np.clip(rows[:, 0] + rng.integers(-2, 2, len(rows)), 0, 4).astype(int)
    labels[: sizes[0]] = 0  # a query in which nothing is relevant
    seen: dict[str, dict[str, list[float]]] = {}
    data = lgb.Dataset(rows, labels, group=sizes)
    booster = lgb.train(
        {"objective": "lambdarank", "metric": ["ndcg", "map"], "eval_at": [1, 5, 100], "verbosity": -1},
        data,
        6,
        valid_sets=[data],
        valid_names=["train"],
        callbacks=[lgb.record_evaluation(seen)],
    )
    scores = booster.predict(rows)
    assert len(np.unique(scores)) < len(scores)
    for k in (1, 5, 100):
        assert ndcg(labels, scores, sizes, k).mean() == pytest.approx(seen["train"][f"ndcg@{k}"][-1], abs=1e-12)
    assert average_precision(labels, scores, sizes).mean() == pytest.approx(seen["train"]["map@100"][-1], abs=1e-12)
