from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from features import Catalog, CatalogError
from features.events import activity_key

NAN = np.nan


def keys(*activities: str) -> np.ndarray:
    return np.array([activity_key(activity) for activity in activities], dtype=np.uint64)


@pytest.fixture
def catalog() -> Catalog:
    return Catalog(
        pa.table(
            {
                "id": ["A1", "A2", "A3"],
                "price": pa.array([10, None, 30], pa.int32()),
                "city": pa.array(["Rome", "Oslo", None]).dictionary_encode(),
            }
        )
    )


def test_the_last_row_is_that_of_an_unknown_activity(catalog: Catalog) -> None:
    assert len(catalog) == 3
    matrix = catalog.matrix([("price", None), ("city", ["Oslo", "Paris"]), ("altitude", None)])
    np.testing.assert_equal(matrix, [[10, NAN, NAN], [NAN, 0, NAN], [30, NAN, NAN], [NAN, NAN, NAN]])


def test_activities_are_found_by_their_keys(catalog: Catalog) -> None:
    greatest = np.array([0, 2**64 - 1], dtype=np.uint64)
    assert catalog.find(keys("A3", "A1", "A9", "A2", "A1")).tolist() == [2, 0, -1, 1, 0]
    assert catalog.find(greatest).tolist() == [-1, -1]
    assert catalog.find(keys()).tolist() == []
    assert Catalog.empty().find(keys("A1")).tolist() == [-1]


def test_two_activities_with_one_key_are_refused_by_name(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "features.catalog.activity_digest", lambda activity: (int(activity[1:]) // 2).to_bytes(8, "big")
    )
    with pytest.raises(CatalogError, match="'A2' and 'A3' have one 64-bit digest"):
        catalog.find(keys("A1"))


def test_the_categories_of_a_column_are_its_texts_in_order(catalog: Catalog) -> None:
    assert catalog.categories("city") == ("Oslo", "Rome")
    assert catalog.categories("category") == ()


def test_a_value_is_given_as_it_stands_in_the_snapshot(catalog: Catalog) -> None:
    assert [catalog.value(*at) for at in (("A1", "city"), ("A3", "city"), ("A1", "altitude"), ("A9", "city"))] == [
        "Rome",
        None,
        None,
        None,
    ]


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        (pa.table({"price": [1.0]}), "there is no column `id`"),
        (pa.table({"id": ["A1", "A1"]}), r"must name each activity once \(2 rows, 1 ids\)"),
        (pa.table({"id": pa.array(["A1", None])}), "must name each activity once"),
    ],
)
def test_a_snapshot_without_an_id_for_each_activity_is_refused(table: pa.Table, fault: str) -> None:
    with pytest.raises(CatalogError, match=f"snapshot: .*{fault}"):
        Catalog(table, "snapshot")


def test_texts_where_numbers_are_wanted_are_refused_by_column(catalog: Catalog) -> None:
    with pytest.raises(CatalogError, match="column `city` must hold numbers, not"):
        catalog.matrix([("city", None)])


def test_a_snapshot_is_read_from_parquet_and_anything_else_is_refused_by_name(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"id": ["A1"]}), tmp_path / "catalog.parquet")
    assert Catalog.read(tmp_path / "catalog.parquet").rows == {"A1": 0}
    (tmp_path / "notes.parquet").write_text("no parquet")
    with pytest.raises(CatalogError, match=r"notes\.parquet: not a readable parquet file"):
        Catalog.read(tmp_path / "notes.parquet")


def test_a_hundred_thousand_activities_are_all_found() -> None:
    ids = [f"activity {number}" for number in range(100_000)]
    catalog = Catalog(pa.table({"id": ids}))
    np.testing.assert_array_equal(catalog.find(keys(*ids)), np.arange(len(ids)))
