import sys
from collections.abc import Callable

import numpy as np
import pytest
from drift_worlds import CHANGES, COLUMNS, FEATURES, Rows, rows, trained_profile

from monitoring.drift import BLOCK, KEPT_WINDOWS, LEAST_ROWS, ROWS_PER_SECOND, WINDOWS, Drift, Sample, Watch
from monitoring.errors import ProfileError
from monitoring.profile import MAX_CATEGORIES, Binner, parse_profile
from registry import Feature
from training.profile import profile

HOUR = 3_600.0


def drift() -> Drift:
    return Drift(trained_profile(), "activity-ranker/7", window_seconds=HOUR, now=0)


def levels(watched: Drift) -> dict[str, str]:
    return {one.name: one.level for one in watched.reading().distributions}


def feed(watched: Drift, windows: int, size: int, change: Callable[[Rows], Rows] = lambda matrix: matrix) -> None:
    first = watched.reading().windows
    for window in range(first, first + windows):
        watched.count(change(rows(size, 500 + window)))
        assert watched.tick((window + 1) * HOUR)


@pytest.mark.parametrize("size", [500, 2_000, 10_000])
@pytest.mark.parametrize("what", CHANGES)
def test_a_change_alarms_with_the_third_window(what: str, size: int) -> None:
    feature, new_values = CHANGES[what]

    def change(matrix: Rows) -> Rows:
        matrix[:, COLUMNS[feature]] = new_values(matrix[:, COLUMNS[feature]])
        return matrix

    watched = drift()
    feed(watched, 2, size)
    feed(watched, WINDOWS - 1, size, change)
    assert set(levels(watched).values()) == {"none"}
    feed(watched, 1, size, change)
    assert levels(watched).pop(feature) in ("warn", "page")
    assert {level for name, level in levels(watched).items() if name != feature} == {"none"}


def test_a_changed_unit_and_a_missing_feature_page() -> None:
    for feature, new_values in (CHANGES["a changed unit"], CHANGES["a feature that turns missing"]):

        def change(matrix: Rows, feature: str = feature, new_values: Callable[[Rows], Rows] = new_values) -> Rows:
            matrix[:, COLUMNS[feature]] = new_values(matrix[:, COLUMNS[feature]])
            return matrix

        watched = drift()
        feed(watched, WINDOWS, 500, change)
        assert levels(watched)[feature] == "page"


def test_scores_alarm_like_features() -> None:
    def other_scores(matrix: Rows) -> Rows:
        matrix[:, -1] = matrix[:, -1] * 2 + 1
        return matrix

    watched = drift()
    feed(watched, WINDOWS, 1_000, other_scores)
    assert levels(watched)["score"] == "page"


def test_an_alarm_ends_with_the_first_usual_window() -> None:
    def in_cents(matrix: Rows) -> Rows:
        matrix[:, 0] *= 100
        return matrix

    watched = drift()
    feed(watched, WINDOWS, 500, in_cents)
    feed(watched, 1, 500)
    assert levels(watched)["price"] == "none"


def test_a_window_stays_open_until_it_has_enough_rows() -> None:
    watched = drift()
    watched.count(rows(LEAST_ROWS - 1, 1))
    assert not watched.tick(5 * HOUR)
    watched.count(rows(1, 2))
    assert watched.tick(5 * HOUR + 1)
    assert watched.reading().window_rows == LEAST_ROWS


def test_a_window_stays_open_until_its_time_is_over() -> None:
    watched = drift()
    watched.count(rows(5_000, 1))
    assert not watched.tick(HOUR - 1)
    assert watched.reading().counting == 5_000


def test_serving_and_training_count_the_same_rows_into_the_same_bins() -> None:
    sample = rows(5_000, 8)
    trained = parse_profile(profile(FEATURES, sample[:, :-1], sample[:, -1]), FEATURES)
    binner = Binner(trained)
    counts = np.zeros(binner.total, dtype=np.int64)
    binner.count(sample, counts)
    for one, counted in zip(trained.distributions, binner.split(counts), strict=True):
        assert counted.tolist() == one.counts.tolist(), one.name


def test_what_training_never_saw_is_out_of_range_or_missing() -> None:
    trained = trained_profile()
    binner = Binner(trained)
    counts = np.zeros(binner.total, dtype=np.int64)
    row = rows(4, 9)
    row[:, 0] = [-1.0, np.inf, -np.inf, np.nan]
    binner.count(row, counts)
    price = dict(zip(trained.distributions[0].labels, binner.split(counts)[0].tolist(), strict=True))
    assert price["out of range"] == 3
    assert price["missing"] == 1


def test_a_feature_never_takes_more_than_64_kib() -> None:
    names = tuple(f"activity-{number}" for number in range(100_000))
    features = (Feature("activity", "activity", "category", names),)
    codes = np.arange(100_000, dtype=float)[:, None]
    trained = parse_profile(profile(features, codes, codes[:, 0]), features)
    watched = Drift(trained, "activity-ranker/7", window_seconds=HOUR, now=0)
    watched.count(np.column_stack((codes, codes)))
    assert watched.tick(HOUR)
    one = trained.distributions[0]
    assert len(one.counts) == MAX_CATEGORIES + 1
    history = KEPT_WINDOWS * (8 + sys.getsizeof(1.0))
    assert 3 * one.counts.nbytes + sys.getsizeof(one.labels) + history <= 65_536  # training, open window, last window
    assert sum(watched.reading().distributions[0].serving or ()) == 100_000


def test_a_profile_of_another_model_is_refused_by_name() -> None:
    sample = rows(100, 1)
    document = profile(FEATURES, sample[:, :-1], sample[:, -1])
    with pytest.raises(ProfileError, match="lacks feature 'wind'"):
        parse_profile(document, (*FEATURES, Feature("wind", "context", "number")))
    with pytest.raises(ProfileError, match="not the model's 2"):
        parse_profile(document, (Feature("device", "context", "category", ("desktop", "mobile")),))
    with pytest.raises(ProfileError, match="format is 2"):
        parse_profile({**document, "format": 2}, FEATURES)


def test_every_row_of_the_traffic_is_as_likely_to_be_looked_at() -> None:
    sample = Sample(rows_per_second=10**9)
    picked = {10: 0, 90: 0}
    for _ in range(20_000):
        for size in picked:
            place = sample.pick(size)
            assert place is None or 0 <= place < size
            picked[size] += place is not None
    assert picked[10] / picked[90] == pytest.approx(10 / 90, rel=0.15)


def test_one_huge_request_does_not_end_the_sampling() -> None:
    sample = Sample(rows_per_second=10**9)
    sample.pick(5_000)
    assert sum(sample.pick(50) is not None for _ in range(20_000)) > 10_000


def test_no_more_rows_a_second_are_looked_at_than_allowed() -> None:
    made = 0

    def make_rows(picked: list[tuple[Rows, int]]) -> Rows:
        nonlocal made
        made += len(picked)
        return np.array([request[place, :-1] for request, place in picked])

    watch: Watch[Rows] = Watch(drift(), make_rows, lambda request, place: request[place : place + 1])
    request = rows(1, 4)
    for second in range(1, 3):
        for _ in range(ROWS_PER_SECOND + 500):
            watch.scored([request], [0, 1], request[:, -1])
        watch.each_second(float(second))
        assert made == second * ROWS_PER_SECOND // BLOCK * BLOCK
    assert watch.drift.reading().counting == made
