from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from ranking_tables import write

from features import DERIVED, Catalog, EventLog
from registry import Feature
from training.errors import TableError
from training.features import encode, infer_features
from training.files import Columns
from training.history import read_events, with_history
from training.tables import RankingTable, read_table

HOUR_MS = 3_600_000
NOON = 1_790_000_000_000
COLUMNS = Columns(time="shown_at", visitor="visitor", activity="activity")
CATALOG = Catalog(
    pa.table(
        {"id": ["A1", "A2", "A3"], "category": ["boat", "food", "boat"], "city": ["Rome"] * 3, "price": [10, 20, 30]}
    )
)


def impressions(**changes: object) -> pa.Table:
    """Anna at noon, Bob an hour later."""
    columns: dict[str, object] = {
        "query": [1, 1, 2, 2],
        "label": [1, 0, 0, 1],
        "visitor": ["anna", "anna", "bob", "bob"],
        "activity": ["A1", "A2", "A2", "A9"],
        "shown_at": pa.array([NOON, NOON, NOON + HOUR_MS, NOON + HOUR_MS]).cast(pa.timestamp("ms")),
        "rating": [4.0, 3.0, 5.0, 4.5],
    }
    return pa.table(columns | changes)


def events(*several: tuple[str, str, str, int]) -> pa.Table:
    return pa.table(
        dict(zip(("visitor", "activity", "kind", "at"), map(list, zip(*several, strict=True)), strict=True))
    )


def read(folder: Path, table: pa.Table, columns: Columns = COLUMNS) -> RankingTable:
    return read_table(write(folder, "table.parquet", table), columns=columns)


def derived(table: RankingTable, name: str) -> list[float]:
    """One feature, of every row."""
    return encode(table, [one for one in infer_features(table) if one.name == name])[:, 0].tolist()


PAST = EventLog(
    events(
        ("anna", "A1", "view", NOON - 2 * HOUR_MS),
        ("anna", "A3", "booking", NOON - HOUR_MS),
        ("anna", "A2", "view", NOON),
        ("bob", "A2", "click", NOON + 1),
    )
)


def test_a_row_knows_what_its_visitor_did_before_it_and_nothing_later(tmp_path: Path) -> None:
    table = with_history(read(tmp_path, impressions()), CATALOG, PAST)
    assert derived(table, "times_viewed") == [1, 0, 1, 0]
    assert derived(table, "visitor_views_7d") == [2, 2, 1, 1]
    assert derived(table, "hours_since_viewed")[0] == 2
    assert derived(table, "same_category_share")[:2] == [1, 0]


def test_history_features_have_a_role_of_their_own_and_stand_last(tmp_path: Path) -> None:
    table = with_history(read(tmp_path, impressions()), CATALOG, PAST)
    features = infer_features(table)
    assert features[0] == Feature("rating", "activity", "number")
    assert [feature.name for feature in features[1:]] == [one.name for one in DERIVED]
    assert {feature.role for feature in features[1:]} == {"derived"}
    favourite = next(feature for feature in features if feature.name == "visitor_favourite_category")
    assert favourite == Feature("visitor_favourite_category", "derived", "category", ("boat", "food"))
    assert derived(table, "visitor_favourite_category") == [0, 0, 1, 1]


def test_what_the_catalog_cannot_tell_is_left_out(tmp_path: Path) -> None:
    bare = Catalog(pa.table({"id": ["A1", "A2", "A3"]}))
    features = infer_features(with_history(read(tmp_path, impressions()), bare, PAST))
    names = {feature.name for feature in features}
    assert "times_viewed" in names
    assert not names & {"same_city_share", "visitor_favourite_category", "visitor_mean_price", "price_to_viewed"}


def test_rows_that_stand_apart_get_their_own_visitors(tmp_path: Path) -> None:
    apart = impressions().take([2, 0, 3, 1])
    table = with_history(read(tmp_path, apart), CATALOG, PAST)
    assert table.impressions is not None
    assert table.impressions.visitors == ["bob", "anna"]
    assert derived(table, "times_viewed") == [1, 0, 1, 0]


def test_a_visitor_without_an_id_has_no_history(tmp_path: Path) -> None:
    log = EventLog(events(("", "A1", "view", NOON - 1), ("bob", "A2", "view", NOON)))
    table = with_history(read(tmp_path, impressions(visitor=["", "", "bob", "bob"])), CATALOG, log)
    assert derived(table, "visitor_views_7d") == [0, 0, 1, 1]


def test_the_earliest_row_is_the_moment_of_a_query(tmp_path: Path) -> None:
    later = pa.array([NOON, NOON + 9 * HOUR_MS, NOON, NOON]).cast(pa.timestamp("ms"))
    table = with_history(read(tmp_path, impressions(shown_at=later)), CATALOG, PAST)
    assert derived(table, "visitor_views_7d")[:2] == [2, 2]


def test_times_may_be_milliseconds_but_not_texts(tmp_path: Path) -> None:
    plain = read(tmp_path, impressions(shown_at=[NOON, NOON, NOON + HOUR_MS, NOON + HOUR_MS]))
    assert plain.impressions is not None
    assert plain.impressions.moments.tolist() == [NOON, NOON + HOUR_MS]
    with pytest.raises(TableError, match="column 'shown_at' holds double; histories need times, or milliseconds"):
        read(tmp_path, impressions(shown_at=[1.5, 1.5, 2.5, 2.5]))


def test_a_column_with_the_name_of_a_history_feature_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="column 'times_viewed' has the name of a derived feature"):
        with_history(read(tmp_path, impressions(times_viewed=[0, 1, 2, 3])), CATALOG, PAST)


def test_a_table_without_histories_may_call_its_columns_as_it_likes(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        impressions(times_viewed=[0, 1, 2, 3]),
        replace(COLUMNS, visitor=None, activity=None, ignore=("visitor", "activity")),
    )
    assert Feature("times_viewed", "activity", "integer") in infer_features(table)


def test_events_are_read_from_parquet_and_csv(tmp_path: Path) -> None:
    table = events(("anna", "A1", "view", NOON), ("anna", "A2", "booking", NOON + 1))
    for name in ("events.parquet", "events.csv"):
        assert len(read_events(write(tmp_path, name, table)).history("anna").at) == 2


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (pa.table({"visitor": ["anna"]}), "the table of events has no column activity, at, kind"),
        (events(("anna", "A1", "stare", NOON)), "1 events are none of view, click, booking"),
        (events(("anna", "A1", "view", -1)), "times from -1 to -1 ms are not all within"),
    ],
)
def test_events_that_are_none_are_refused(tmp_path: Path, table: pa.Table, expected: str) -> None:
    with pytest.raises(TableError, match=expected):
        read_events(write(tmp_path, "events.parquet", table))


def test_rows_are_those_of_the_declared_definition(tmp_path: Path) -> None:
    features = infer_features(with_history(read(tmp_path, impressions()), CATALOG, PAST))
    nobody = infer_features(
        with_history(read(tmp_path, impressions()), CATALOG, EventLog(events(("x", "A1", "view", 1))))
    )
    assert {feature.name for feature in nobody} < {feature.name for feature in features}
    assert np.isfinite(encode(read_history(tmp_path), nobody)[:, 1:]).all()


def read_history(folder: Path) -> RankingTable:
    return with_history(read(folder, impressions()), CATALOG, PAST)
