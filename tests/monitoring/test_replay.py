from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from logged_worlds import ranking, read_again, write_log, write_model

from monitoring.errors import ProfileError, ReplayError
from monitoring.journal import Reader
from monitoring.logged_drift import logged_drift
from monitoring.order import kendall_tau, top_overlap
from monitoring.ranking_log import KIND, LoggedCandidate, LoggedRanking, pack, unpack
from monitoring.replay import replay, summary
from registry import Model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return write_model(tmp_path_factory.mktemp("models") / "seven")


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return write_model(tmp_path_factory.mktemp("models") / "eight", seed=1, trees=3)


@pytest.fixture(scope="module")
def log(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log")
    write_log(folder, model, 60)
    return folder


def rankings(log: Path) -> Reader[LoggedRanking]:
    return Reader(log, KIND, LoggedRanking)


def test_the_model_that_answered_gives_every_score_again_to_the_last_bit(model: Model, log: Path) -> None:
    found = summary(replay(rankings(log), model))
    assert found.rankings == 60
    assert found.rows == 480
    assert found.differ == found.broken == found.order_changed == 0
    assert found.largest_score_difference == 0.0
    assert found.tau == pytest.approx(1.0)


def test_another_model_gives_other_scores_and_orders(other_model: Model, log: Path) -> None:
    found = summary(replay(rankings(log), other_model))
    assert found.models == {"activity-ranker/7": 60}
    assert found.differ == 60
    assert found.broken == 0  # it is not the model that answered
    assert 0 < found.order_changed <= 60
    assert found.tau < 1.0


def test_a_score_that_the_same_model_does_not_give_again_is_called_broken(model: Model) -> None:
    entry = ranking(model, 1)
    entry.scores = [float(np.nextafter(entry.scores[0], 9.0)), *entry.scores[1:]]
    assert summary(replay([read_again(entry)], model)).broken == 1


def test_a_history_of_another_moment_shows(model: Model) -> None:
    entry = ranking(model, 1)
    entry.moment += 7 * 86_400_000
    assert summary(replay([read_again(entry)], model)).broken == 1


def test_a_value_that_the_model_cannot_take_is_refused_by_request_and_feature(model: Model) -> None:
    entry = ranking(model, 1)
    entry.candidates = [*entry.candidates[:7], LoggedCandidate("A1", {"price": "cheap"})]
    with pytest.raises(ReplayError, match=r"request-1: feature 'price' is a number and 'cheap' is not"):
        list(replay([read_again(entry)], model))


def test_a_history_is_unpacked_as_it_was_packed(model: Model) -> None:
    history = unpack(ranking(model, 1).history)
    assert len(history.at) == 20
    assert pack(unpack(pack(history))) == pack(history)


def test_kendalls_tau_is_scipys_with_ties_and_without() -> None:
    random = np.random.default_rng(2)
    for size in (2, 3, 50, 700):
        for one, other in (
            (random.normal(size=size), random.normal(size=size)),
            (random.integers(0, 5, size).astype(float), random.integers(0, 9, size).astype(float)),
        ):
            expected = scipy.stats.kendalltau(one, other).statistic
            assert kendall_tau(one, other) == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_scores_without_an_order_have_no_tau() -> None:
    assert np.isnan(kendall_tau(np.zeros(4), np.arange(4.0)))
    assert np.isnan(kendall_tau(np.zeros(0), np.zeros(0)))


def test_the_overlap_counts_who_is_among_the_first_of_both() -> None:
    one, other = np.array([5.0, 4, 3, 2, 1]), np.array([4.0, 5, 1, 2, 3])
    assert top_overlap(one, other, 2) == 1.0
    assert top_overlap(one, other, 3) == pytest.approx(2 / 3)
    assert top_overlap(one, other, 99) == 1.0


def test_the_drift_of_a_log_is_that_of_its_rows(model: Model, other_model: Model, tmp_path: Path) -> None:
    write_log(tmp_path, model, 1_700, every_ms=1_000)
    found = logged_drift(rankings(tmp_path), model.bundle, window_seconds=500)
    assert found.windows == 3
    assert found.window_rows >= 500
    states = {one.name: one.level for one in found.distributions}
    assert states["days_to_trip"] == states["device"] == "none"
    assert states["price"] != "none"  # a price in eight is one that the caller gave: 12.50
    with pytest.raises(ProfileError, match="no ranking by activity-ranker/8"):
        logged_drift(rankings(tmp_path), other_model.bundle, window_seconds=500)


def test_a_log_is_replayed_over_the_catalog_that_was_served(model: Model, log: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", activities_seed=6).bundle.catalog
    assert summary(replay(rankings(log), model, model.bundle.catalog)).broken == 0
    assert summary(replay(rankings(log), model, other)).broken > 0
