import numpy as np

from registry import Feature
from training.profile import profile


def number(column: list[float]) -> dict:
    return profile([Feature("x", "activity", "number", None)], np.array([column]).T, np.zeros(len(column)))["features"][
        "x"
    ]


def test_a_number_has_ten_equal_bins_between_its_deciles() -> None:
    seen = number(np.random.default_rng(2).permutation(np.arange(1000.0)).tolist())
    assert seen["edges"] == [0.0, *[100.0 * step - 1 for step in range(1, 11)]]
    assert seen["counts"] == [100] * 10


def test_each_of_a_few_values_has_a_bin_of_its_own() -> None:
    assert number([0, 0, 0, 1])["counts"] == [3, 1]
    assert number([0, 0, 0, 1])["edges"] == [0, 0, 1]
    assert number([4, 4])["edges"] == [4, 4]
    assert number([4, 4])["counts"] == [2]


def test_every_value_lies_in_the_bin_that_searchsorted_finds() -> None:
    column = np.random.default_rng(3).integers(0, 25, 500).astype(float)
    seen = number(column.tolist())
    bins = np.searchsorted(seen["edges"][1:], column)
    assert np.bincount(bins, minlength=len(seen["counts"])).tolist() == seen["counts"]


def test_missing_values_are_counted_beside_the_bins() -> None:
    seen = number([1, np.nan, 2, np.nan])
    assert (sum(seen["counts"]), seen["missing"], seen["out_of_range"]) == (2, 2, 0)


def test_a_category_has_a_count_for_each_of_its_values() -> None:
    device = Feature("device", "context", "category", ("desktop", "mobile", "tablet"))
    counted = profile([device], np.array([[1.0], [1.0], [np.nan], [0.0]]), np.arange(4.0))
    assert counted["features"]["device"] == {"categories": {"desktop": 1, "mobile": 2, "tablet": 0}, "missing": 1}
    assert counted["rows"] == 4
    assert counted["score"]["counts"] == [1, 1, 1, 1]
