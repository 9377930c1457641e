import pytest

from registry.promotion import NotBetter, check_better, comparison_tags


def tags(gain: float, low: float, high: float) -> dict[str, str]:
    return comparison_tags("4", "later.parquet, 500 queries", gain, low, high)


def test_a_version_that_gains_for_sure_is_better_and_the_figures_are_told() -> None:
    expected = "NDCG@10 +0.0120 (+0.0010 to +0.0230) against version 4 on later.parquet, 500 queries"
    assert check_better(tags(0.012, 0.001, 0.023), "4") == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (tags(0.012, 0.0, 0.02), "no better, as far as these queries can tell"),
        (tags(0.012, -0.001, 0.02), "no better, as far as these queries can tell"),
        (tags(-0.012, -0.02, -0.001), ": worse"),
        (tags(float("nan"), float("nan"), float("nan")), "no better"),
        ({}, "it was never compared with version 4, which is live"),
        (comparison_tags("3", "t", 1, 1, 1), "it was compared with version 3, and version 4 is live now"),
        (tags(1, 1, 1) | {"ndcg_at_10_gain_low": "much"}, "do not compare it with version 4"),
        ({"compared_with": "4"}, "do not compare it with version 4"),
    ],
)
def test_everything_else_is_not(found: dict[str, str], expected: str) -> None:
    with pytest.raises(NotBetter, match=expected):
        check_better(found, "4")
