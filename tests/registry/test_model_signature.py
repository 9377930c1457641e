"""Features of models that somebody else logged, told from the booster's text and its MLflow signature."""

from collections.abc import Mapping, Sequence
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
from registry_models import FEATURES, frame, train

from registry import BundleError, Feature
from registry.example import encoded_rows, read_example, readable_rows
from registry.golden import sample_rows
from registry.signature import check_features, foreign_features
from scoring import ModelText, parse_model_text

SIGNATURE = [
    {"name": "days_to_trip", "type": "long"},
    {"name": "device", "type": "string"},
    {"name": "price", "type": "double"},
    {"name": "kind", "type": "string"},
    {"name": "instant", "type": "boolean"},
]


def parsed(table: pd.DataFrame) -> ModelText:
    return parse_model_text(train(table).model_to_string().encode())


@pytest.fixture(scope="module")
def model(text: bytes) -> ModelText:
    return parse_model_text(text)


def types(features: Sequence[Feature]) -> list[str]:
    return [feature.type for feature in features]


def test_names_come_from_the_booster_types_from_the_signature_categories_from_pandas(model: ModelText) -> None:
    found = foreign_features(model, SIGNATURE)
    assert [(one.name, one.type, one.categories) for one in found] == [
        (one.name, one.type, one.categories) for one in FEATURES
    ]
    assert {one.role for one in found} == {"activity"}


def test_the_order_of_columns_is_the_boosters_whatever_the_signature_has(model: ModelText) -> None:
    assert foreign_features(model, SIGNATURE[::-1]) == foreign_features(model, SIGNATURE)


def test_without_a_signature_every_column_that_is_no_category_is_a_number(model: ModelText) -> None:
    assert types(foreign_features(model, None)) == ["number", "category", "number", "category", "number"]


def test_a_signature_of_tensors_says_nothing_of_columns(model: ModelText) -> None:
    tensor = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 5]}}]
    assert foreign_features(model, tensor) == foreign_features(model, None)


def test_a_space_in_a_name_is_the_underscore_that_lightgbm_makes_of_it() -> None:
    renamed = [column | {"name": "days to trip"} if column["type"] == "long" else column for column in SIGNATURE]
    features = foreign_features(parsed(frame().rename(columns={"days_to_trip": "days to trip"})), renamed)
    assert (features[0].name, features[0].type) == ("days_to_trip", "integer")


def test_categories_that_are_numbers_are_sent_as_json_writes_them() -> None:
    table = frame().assign(kind=pd.Categorical(np.arange(300) % 3), device=pd.Categorical(np.arange(300) % 2 == 0))
    features = foreign_features(parsed(table), None)
    assert [one.categories for one in features if one.categories] == [("false", "true"), ("0", "1", "2")]


def test_a_category_column_that_no_split_could_use_keeps_its_categories() -> None:
    table = frame().assign(device=pd.Categorical(["mobile"] * 300))
    assert foreign_features(parsed(table), SIGNATURE)[1].categories == ("mobile",)


def test_an_ordered_category_is_split_like_a_number_but_sent_as_a_category() -> None:
    ordered = pd.Categorical(frame()["kind"], categories=["walk", "museum", "boat_tour"], ordered=True)
    found = foreign_features(parsed(frame().assign(kind=ordered)), SIGNATURE)
    assert [one.categories for one in found if one.categories] == [
        ("desktop", "mobile", "tablet"),
        ("walk", "museum", "boat_tour"),
    ]


def test_a_booster_without_names_takes_those_of_the_signature() -> None:
    table = frame()[["days_to_trip", "price"]].to_numpy()
    dataset = lightgbm.Dataset(table, np.arange(300) % 3, group=[10] * 30)
    booster = lightgbm.train({"objective": "lambdarank", "verbosity": -1, "num_threads": 1}, dataset, 2)
    text = parse_model_text(booster.model_to_string().encode())
    features = foreign_features(text, [{"name": "days", "type": "long"}, {"name": "price", "type": "double"}])
    assert [(one.name, one.type) for one in features] == [("days", "integer"), ("price", "number")]
    assert [one.name for one in foreign_features(text, None)] == ["Column_0", "Column_1"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"price": {"name": "price", "type": "datetime"}},
            "column 'price' of the MLflow signature is 'datetime'; allowed",
        ),
        ({"price": {"name": "prize", "type": "double"}}, r"lacks feature 'price' of the model \(1 are missing\)"),
        (
            {"price": {"name": "price", "type": "string"}},
            "has 2 lists of categories, and columns that could hold them are",
        ),
    ],
)
def test_a_signature_that_contradicts_the_booster_is_refused(
    model: ModelText, change: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        foreign_features(model, [change.get(column["name"], column) for column in SIGNATURE])


def test_a_category_beyond_the_feature_list_is_refused() -> None:
    codes = frame().assign(kind=np.arange(300) % 3, device=0)
    dataset = lightgbm.Dataset(codes, np.arange(300) % 2, group=[10] * 30, categorical_feature=["kind"])
    parameters = {"objective": "lambdarank", "verbosity": -1, "num_threads": 1, "min_data_per_group": 5}
    text = parse_model_text(lightgbm.train(parameters, dataset, 2).model_to_string().encode())
    named = [
        Feature(name, "activity", "category", ("a", "b")) if name == "kind" else Feature(name, "activity", "number")
        for name in text.feature_names
    ]
    with pytest.raises(BundleError, match="feature 'kind' has 2 categories and the model was trained with category 2"):
        check_features(named, text)


def test_sampled_rows_are_what_the_features_may_be_and_the_same_each_time(model: ModelText) -> None:
    features = foreign_features(model, SIGNATURE)
    rows = sample_rows(model, features)
    assert rows.tobytes() == sample_rows(model, features).tobytes()
    assert np.isnan(rows[-1]).all()
    assert np.array_equal(encoded_rows(readable_rows(rows, features), features), rows, equal_nan=True)
    assert (rows[:-1, 2].min() >= 5) & (rows[:-1, 2].max() <= 90)


@pytest.mark.parametrize(
    ("document", "rows"),
    [
        (b'{"columns": ["device", "price"], "data": [["mobile", 3], ["fridge", null]]}',
         [{"device": "mobile", "price": 3.0}, {}]),
        (b'{"columns": ["days to trip", "instant"], "data": [[2.0, 1]]}', [{"days_to_trip": 2, "instant": True}]),
        (b'{"inputs": [[12, "tablet", 3.5, "walk", false]]}',
         [{"days_to_trip": 12, "device": "tablet", "price": 3.5, "kind": "walk", "instant": False}]),
        (b'{"columns": ["price"], "data": [["cheap"]]}', [{}]),
        (b'{"columns": ["price"], "data": [[1, 2]]}', []),
        (b'{"inputs": "one text"}', []),
        (b'["a", "b"]', []),
        (b"\xff", []),
    ],
)  # fmt: skip
def test_an_input_example_is_read_as_far_as_it_fits(document: bytes, rows: list[dict[str, Any]]) -> None:
    assert read_example(document, FEATURES) == rows


def test_a_derived_feature_is_nothing_that_a_caller_writes() -> None:
    features = [Feature("price", "activity", "number"), Feature("times_viewed", "derived", "integer")]
    assert readable_rows(np.array([[39.0, 2.0]]), features) == [{"price": 39.0}]
    example = b'{"columns": ["price", "times_viewed"], "data": [[39.0, 2]]}'
    assert read_example(example, features) == [{"price": 39.0}]
