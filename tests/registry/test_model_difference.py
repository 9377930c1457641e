from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from registry_models import EXAMPLE, FEATURES, frame, train, write

from registry import Feature, Model, load_model
from registry.cli import models
from registry.difference import (
    RowScores,
    describe_change,
    feature_changes,
    parameter_changes,
    score_example,
    score_rows,
    shape,
)

Load = Callable[..., Model]


@pytest.fixture
def load(tmp_path: Path, text: bytes) -> Load:
    """A model of a bundle with these changes."""

    def made(name: str, **changes: object) -> Model:
        return load_model(write(tmp_path / name, **{"text": text} | changes).folder, "reference")

    return made


@pytest.fixture(scope="module")
def longer() -> bytes:
    """The same table without the price, and more trees."""
    return train(frame().drop(columns="price"), trees=6).model_to_string().encode()


def without_price(load: Load, longer: bytes) -> Model:
    features = [feature for feature in FEATURES if feature.name != "price"]
    example = [{name: value for name, value in row.items() if name != "price"} for row in EXAMPLE]
    rows = np.delete(np.array([[12.0, 1.0, 39.0, 1.0, 1.0], [3.0, 0.0, 5.0, 2.0, 0.0]]), 2, axis=1)
    return load("other", text=longer, features=features, golden_rows=rows, example=example, version="8")


def test_a_model_is_not_different_from_itself(load: Load) -> None:
    model = load("one")
    assert list(feature_changes(model, model)) == []
    assert parameter_changes(model, model) == {}
    scores = score_rows(model, model)
    assert np.array_equal(scores.first, scores.second)
    assert scores.pairs_turned == 0


def test_features_that_only_one_has_are_named(load: Load, longer: bytes) -> None:
    first, second = load("one"), without_price(load, longer)
    (change,) = feature_changes(first, second)
    assert (change.name, describe_change(change)) == ("price", "only in the first: activity, number")
    (back,) = feature_changes(second, first)
    assert describe_change(back) == "only in the second: activity, number"


def test_a_feature_whose_role_type_or_categories_changed_is_described() -> None:
    from registry.difference import FeatureChange

    old = Feature("city", "activity", "category", ("Oslo", "Rome"))
    new = Feature("city", "context", "category", ("Rome", "Paris"))
    assert describe_change(FeatureChange("city", old, new)) == "activity -> context; lost 'Oslo'; gained 'Paris'"
    turned = Feature("city", "activity", "category", ("Rome", "Oslo"))
    assert describe_change(FeatureChange("city", old, turned)) == "categories in another order"
    number = Feature("city", "activity", "number")
    assert describe_change(FeatureChange("city", old, number)) == "category -> number; lost 'Oslo', 'Rome'"


def test_parameters_and_trees_are_compared(load: Load, longer: bytes) -> None:
    first, second = load("one"), without_price(load, longer)
    assert parameter_changes(first, second)["num_iterations"] == ("4", "6")
    assert (shape(first).trees, shape(second).trees) == (4, 6)
    assert sum(shape(first).used.values()) == shape(first).leaves - 4


def test_rows_of_both_are_scored_by_both(load: Load, longer: bytes) -> None:
    first, second = load("one"), without_price(load, longer)
    scores = score_rows(first, second)
    assert np.array_equal(scores.first[:5], first.bundle.golden().scores)
    assert np.array_equal(scores.second[5:], second.bundle.golden().scores)
    assert len(score_example(first, second).first) == len(EXAMPLE)


def test_pairs_that_are_turned_are_counted_without_ties() -> None:
    assert RowScores(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])).pairs_turned == 1
    assert RowScores(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])).pairs_turned == pytest.approx(1 / 3)
    assert RowScores(np.array([1.0, 2.0, 2.0]), np.array([1.0, 3.0, 4.0])).pairs_turned == 0
    assert np.isnan(RowScores(np.array([1.0, 1.0]), np.array([1.0, 2.0])).pairs_turned)


def test_diff_prints_what_is_different(load: Load, longer: bytes) -> None:
    first, second = load("one"), without_price(load, longer)
    folders = [str(model.bundle.folder) for model in (first, second)]
    result = CliRunner().invoke(models, ["diff", *folders, "--tracking-uri", "sqlite:///no/such/file.db"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["activity-ranker/7", "activity-ranker/8"]
    assert "  price  only in the first: activity, number" in lines
    assert any(line.split() == ["num_iterations", "4", "6"] for line in lines)
    assert "scores of 7 golden rows of both" in lines
    assert lines[-1].split()[0] == str(len(EXAMPLE))


def test_diff_of_what_is_no_model_ends_with_3_and_one_line(load: Load, tmp_path: Path) -> None:
    result = CliRunner().invoke(models, ["diff", str(load("one").bundle.folder), str(tmp_path / "nothing")])
    assert result.exit_code == 3
    assert result.stderr.count("\n") == 1
