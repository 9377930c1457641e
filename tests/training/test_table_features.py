from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest

from registry import Feature
from training.errors import TableError
from training.features import encode, infer_features, model_frame, readable
from training.tables import RankingTable, read_table


def test_types_and_roles_are_found_by_looking(table: RankingTable) -> None:
    assert infer_features(table) == (
        Feature("device", "context", "category", ("desktop", "mobile")),
        Feature("days", "context", "integer", None),
        Feature("kind", "activity", "category", ("boat", "food", "museum")),
        Feature("price", "activity", "number", None),
        Feature("reviews", "activity", "integer", None),
        Feature("refund", "activity", "boolean", None),
    )


def test_a_column_that_is_missing_for_whole_queries_can_still_be_context(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("query,label,days,price\n1,1,,1\n1,0,,2\n2,1,3,1\n2,0,3,2\n")
    roles = {feature.name: feature.role for feature in infer_features(read_table(path))}
    assert roles == {"days": "context", "price": "activity"}


def test_named_context_wins_over_looking(table: RankingTable) -> None:
    roles = {feature.name: feature.role for feature in infer_features(table, ["device"])}
    assert roles["device"] == "context"
    assert roles["days"] == "activity"


def test_what_the_catalog_knows_belongs_to_activities(table: RankingTable) -> None:
    roles = {feature.name: feature.role for feature in infer_features(table, catalog=["days", "price"])}
    assert roles["device"] == "context"
    assert roles["days"] == "activity"


def test_context_that_varies_within_a_query_is_refused(table: RankingTable) -> None:
    with pytest.raises(
        TableError, match="'price' varies within 40 of 40 queries, first in the one that starts in row 1"
    ):
        infer_features(table, ["device", "price"])


def test_context_that_is_no_column_is_refused(table: RankingTable) -> None:
    with pytest.raises(TableError, match="context column 'weather' is missing"):
        infer_features(table, ["weather"])


def test_a_category_is_its_index_and_an_unseen_one_is_missing(table: RankingTable) -> None:
    known = [Feature("kind", "activity", "category", ("food", "boat"))]
    kinds = table.columns["kind"].to_pylist()
    expected = [{"food": 0.0, "boat": 1.0}.get(kind, np.nan) for kind in kinds]
    assert np.array_equal(encode(table, known)[:, 0], expected, equal_nan=True)


def test_rows_score_as_lightgbm_scores_its_own_encoding(table: RankingTable) -> None:
    features = infer_features(table)
    matrix = encode(table, features)
    frame = model_frame(matrix, features)
    booster = lgb.train(
        {"objective": "lambdarank", "verbosity": -1, "min_data_in_leaf": 3, "min_data_per_group": 1},
        lgb.Dataset(frame, table.labels, group=table.sizes),
        20,
    )
    assert booster.pandas_categorical == [["desktop", "mobile"], ["boat", "food", "museum"]]
    assert booster.feature_name() == [feature.name for feature in features]
    assert np.array_equal(booster.predict(matrix), booster.predict(frame))


def test_a_table_without_one_of_the_features_is_refused(table: RankingTable) -> None:
    with pytest.raises(TableError, match=r"sessions\.parquet: feature 'weather' is missing"):
        encode(table, [Feature("weather", "context", "number", None)])


def test_texts_are_not_taken_for_numbers(table: RankingTable) -> None:
    with pytest.raises(TableError, match="feature 'kind' holds texts and the model wants a number"):
        encode(table, [Feature("kind", "activity", "number", None)])


def test_rows_are_written_as_a_caller_writes_them(table: RankingTable) -> None:
    features = infer_features(table)
    row = np.array([[1.0, 12.0, np.nan, 39.5, 7.0, 1.0]])
    assert readable(row, features) == [{"device": "mobile", "days": 12, "price": 39.5, "reviews": 7, "refund": True}]
