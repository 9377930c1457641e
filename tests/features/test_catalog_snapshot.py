import json
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from click.testing import CliRunner

from features import Catalog
from features.cli import catalog
from features.snapshot import FOR_HISTORIES, SnapshotError, build_snapshot

COLUMNS: dict[str, Any] = {
    "id": ["A1", "A2", "A3"],
    "title": ["One", "Two", "Three"],
    "category": ["boat", "food", None],
    "city": ["Rome", "Rome", "Oslo"],
    "price": [10.5, None, 30.0],
    "reviews": [1, 2, 3],
    "refund": [True, False, True],
}
FEATURES = [
    {"name": "device", "role": "context", "type": "category", "categories": ["mobile"]},
    {"name": "category", "role": "activity", "type": "category", "categories": ["boat", "food"]},
    {"name": "price", "role": "activity", "type": "number", "categories": None},
    {"name": "reviews", "role": "activity", "type": "integer", "categories": None},
    {"name": "refund", "role": "activity", "type": "boolean", "categories": None},
    {"name": "times_viewed", "role": "derived", "type": "integer", "categories": None},
]


def write(folder: Path, name: str = "activities.parquet", **changes: Any) -> Path:
    table = pa.table({key: value for key, value in (COLUMNS | changes).items() if value is not ...})
    (pyarrow.csv.write_csv if name.endswith("csv") else pyarrow.parquet.write_table)(table, folder / name)
    return folder / name


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return bundle(tmp_path / "model", FEATURES)


def bundle(folder: Path, features: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "bundle.json").write_text(json.dumps({"features": features}))
    return folder


def refused(table: Path, **options: Any) -> tuple[str, ...]:
    with pytest.raises(SnapshotError) as caught:
        build_snapshot(table, table.parent / "out.parquet", **options)
    assert not (table.parent / "out.parquet").exists()
    return caught.value.faults


@pytest.mark.parametrize("name", ["activities.parquet", "activities.csv"])
def test_a_snapshot_is_a_catalog_of_what_the_table_holds(tmp_path: Path, model: Path, name: str) -> None:
    out = tmp_path / "deep" / "catalog.parquet"
    built = build_snapshot(write(tmp_path, name), out, model=model)
    assert (built.activities, built.columns, built.notes) == (3, 7, ())
    assert built.bytes == out.stat().st_size
    snapshot = Catalog.read(out)
    assert list(snapshot.rows) == ["A1", "A2", "A3"]
    assert snapshot.value("A1", "price") == 10.5
    assert snapshot.value("A2", "price") is None
    assert snapshot.value("A3", "category") is None
    assert [entry.name for entry in out.parent.iterdir()] == ["catalog.parquet"]


def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    table = write(tmp_path)
    contents = []
    for name in ("one.parquet", "two.parquet"):
        build_snapshot(table, tmp_path / name)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]


def test_ids_may_be_numbers_and_have_another_name(tmp_path: Path) -> None:
    table = write(tmp_path, id=..., sku=[7, 8, 9])
    build_snapshot(table, tmp_path / "out.parquet", id_column="sku", ignore=["title"])
    snapshot = Catalog.read(tmp_path / "out.parquet")
    assert list(snapshot.rows) == ["7", "8", "9"]
    assert "title" not in snapshot.columns


def test_dictionaries_decimals_and_not_a_number_become_plain(tmp_path: Path) -> None:
    changes = {
        "category": pa.array(["boat", "", "food"]).dictionary_encode(),
        "price": pa.array([1, 2, 3]).cast(pa.decimal128(21, 2)),
        "rating": [4.5, float("nan"), 3.0],
    }
    build_snapshot(write(tmp_path, **changes), tmp_path / "out.parquet")
    snapshot = Catalog.read(tmp_path / "out.parquet")
    assert snapshot.categories("category") == ("boat", "food")
    assert snapshot.value("A1", "price") == 1.0
    assert snapshot.value("A2", "rating") is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"id": ...}, "column 'id' is missing; there are: title, category"),
        ({"id": ["A1", None, "A3"]}, "column 'id' is missing in row 2"),
        ({"id": ["A1", "", "A3"]}, "column 'id' is missing in row 2"),
        ({"id": ["A1", "A1", "A1"]}, "column 'id' names an activity again in rows 2, 3, first 'A1'"),
        ({"id": ["A1", "A" * 129, "A3"]}, "column 'id' has more than 128 characters in row 2"),
        ({"price": [1.0, float("inf"), -float("inf")]}, "column 'price' is infinite in rows 2, 3"),
        ({"opened": [date(2026, 1, 1)] * 3}, "column 'opened' holds date32[day], which is no feature; leave it out"),
        ({"tags": [["a"], [], ["b"]]}, "column 'tags' holds list<element: string>, which is no feature"),
    ],
)
def test_a_bad_table_is_refused_with_the_column_and_the_rows(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    assert any(fault.startswith(expected) for fault in refused(write(tmp_path, **changes)))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"category": [1, 2, 3]}, "column 'category' holds int64 and the model wants a category"),
        ({"price": ["10", "x", "30"]}, "column 'price' holds string and the model wants a number"),
        ({"reviews": [1.0, 2.5, None]}, "column 'reviews' is not whole in row 2 and the model wants an integer"),
        ({"refund": [0, 1, 2]}, "column 'refund' is neither 0 nor 1 in row 3 and the model wants a boolean"),
        ({"city": ...}, "column 'city' is missing, which the model's history features are made of"),
        (
            {"category": ..., "price": ..., "reviews": ..., "refund": ...},
            "none of the model's activity features is a column: category, price, reviews, refund",
        ),
    ],
)
def test_a_table_that_does_not_fit_the_model_is_refused(
    tmp_path: Path, model: Path, changes: dict[str, Any], expected: str
) -> None:
    table = write(tmp_path, **changes)
    assert expected in refused(table, model=model)
    build_snapshot(table, tmp_path / "without.parquet")


def test_what_the_model_will_take_as_missing_is_told(tmp_path: Path, model: Path) -> None:
    table = write(tmp_path, category=["boat", "palace", "zoo"], reviews=...)
    assert build_snapshot(table, tmp_path / "out.parquet", model=model).notes == (
        "not in the table, so callers send it or it is missing: reviews",
        "column 'category' holds what the model never saw and takes as missing: 'palace', 'zoo' (2 activities)",
    )


def test_history_features_read_the_columns_that_a_snapshot_must_have() -> None:
    from features.derived import Activities

    asked: list[str] = []

    class Listening(Catalog):
        def matrix(self, columns: Any) -> Any:
            asked.extend(name for name, _ in columns)
            return super().matrix(columns)

    Activities(Listening(pa.table(COLUMNS)))
    assert sorted(asked) == sorted(FOR_HISTORIES)


def test_a_failed_build_leaves_the_snapshot_that_is_there(tmp_path: Path) -> None:
    out = tmp_path / "catalog.parquet"
    build_snapshot(write(tmp_path), out)
    before = out.read_bytes()
    with pytest.raises(SnapshotError):
        build_snapshot(write(tmp_path, "bad.parquet", id=["A1", "A1", "A2"]), out)
    assert out.read_bytes() == before


def test_the_command_says_what_it_wrote_and_what_to_know(tmp_path: Path, model: Path) -> None:
    arguments = [
        "build",
        str(write(tmp_path, reviews=...)),
        "--out",
        str(tmp_path / "out.parquet"),
        "--model",
        str(model),
    ]
    result = CliRunner().invoke(catalog, arguments)
    assert result.exit_code == 0, result.output
    first, note = result.stdout.splitlines()
    assert first.startswith(f"{tmp_path}/out.parquet: 3 activities, 6 columns, ")
    assert note == "note: not in the table, so callers send it or it is missing: reviews"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("bad.csv", b"id,price\nA1,1\nA1,2\n", "bad.csv: column 'id' names an activity again in row 2, first 'A1'"),
        ("bad.parquet", b"no parquet at all", "bad.parquet: not readable: "),
        ("empty.csv", b"id,price\n", "empty.csv: there are no rows"),
    ],
)
def test_the_command_refuses_in_a_line(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)
    result = CliRunner().invoke(catalog, ["build", str(tmp_path / name), "--out", str(tmp_path / "out.parquet")])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {expected}")
    assert "Traceback" not in result.output


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    (fault,) = refused(write(tmp_path), model=tmp_path)
    assert fault.startswith("no bundle: FileNotFoundError")
