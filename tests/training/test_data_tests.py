"""Each kind of bad training data stops the run, with a message that names the column and the rows."""

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from ranking_tables import ROWS, sessions, write

from training.errors import TableError
from training.expectations import check_expectations
from training.features import infer_features
from training.files import Columns
from training.leakage import check_test_table
from training.tables import RankingTable, read_table

DAY_MS = 24 * 3_600_000
START_MS = 1_770_000_000_000
COLUMNS = Columns(time="shown_at", visitor="visitor", activity="activity")


def good(seed: int = 5, start: int = START_MS) -> pa.Table:
    """40 searches of 8 rows, a day apart, each of another visitor."""
    table = sessions(seed=seed)
    query = np.asarray(table["query"])
    return (
        table.append_column("shown_at", pa.array(start + query * DAY_MS).cast(pa.timestamp("ms")))
        .append_column("visitor", pa.array([f"V{number}" for number in query]))
        .append_column("activity", pa.array([f"A{row % ROWS}" for row in range(len(query))]))
    )


def changed(name: str, value: object, *rows: int) -> pa.Table:
    """The good table with another value in some rows (counted from 1)."""
    table = good()
    values = table[name].to_pylist()
    for row in rows:
        values[row - 1] = value
    return replaced(name, values)


def replaced(name: str, values: object) -> pa.Table:
    table = good()
    array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values)
    return table.set_column(table.column_names.index(name), name, array)


def added(name: str, values: object) -> pa.Table:
    return good().append_column(name, pa.array(values))


def read(folder: Path, table: pa.Table, name: str = "table.parquet") -> RankingTable:
    return read_table(write(folder, name, table), columns=COLUMNS)


def labels() -> np.ndarray:
    return np.asarray(good()["label"])


def some_words(rows: int) -> list[str]:
    return [f"word{row}" for row in range(rows)]


def moments(*, at: int, row: int) -> pa.Array:
    values = np.asarray(good()["shown_at"]).astype("datetime64[ms]").astype(np.int64).copy()
    values[row - 1] = at
    return pa.array(values).cast(pa.timestamp("ms"))


NOW_MS = int(1e3 * time.time())

BAD = {
    "a label is missing": (changed("label", None, 3), "column 'label' is missing in row 3"),
    "a label is negative": (changed("label", -1, 3, 9), "column 'label' is negative in rows 3 and 9"),
    "a label is a fraction": (changed("label", 0.5, 4), "column 'label' is not a whole number in row 4"),
    "a label is too high": (changed("label", 31, 5), "column 'label' is above 30, LightGBM's highest label, in row 5"),
    "a label is a text": (changed("label", None, 1).set_column(1, "label", pa.array(["good"] * 320)),
                          "column 'label' holds string, not numbers"),
    "nothing is liked": (replaced("label", [0] * 320), "column 'label' is nowhere above 0"),
    "everything is liked alike": (replaced("label", [1] * 320), "in no query do labels differ between rows"),
    "a query is missing": (changed("query", None, 7), "column 'query' is missing in row 7"),
    "every row is a query": (replaced("query", list(range(320))), "all 320 queries have one row only"),
    "a time is missing": (changed("shown_at", None, 2), "column 'shown_at' is missing in row 2"),
    "a time is in the future": (replaced("shown_at", moments(at=NOW_MS + DAY_MS, row=6)),
                                "column 'shown_at' is in the future in row 6"),
    "a time is in seconds": (replaced("shown_at", moments(at=START_MS // 1000, row=6)),
                             "column 'shown_at' is before the year 2000 in row 6"),
    "two searches have one query id": (
        replaced("query", np.asarray(good()["query"]) % 20),
        "column 'shown_at' differs by up to 20 days within 20 queries, those that start in rows 1, 9, 17, 25"),
    "a query has two visitors": (
        changed("visitor", "V99", 2),
        "column 'visitor' names several visitors in 1 queries, those that start in row 1"),
    "an activity is offered twice": (
        changed("activity", "A0", 2), "column 'activity' names an activity again in its query in row 2"),
    "an activity is missing": (changed("activity", None, 4), "column 'activity' is missing in row 4"),
    "a number is infinite": (changed("price", float("inf"), 3), "column 'price' is infinite in row 3"),
    "a number is an identifier": (added("hash", [2**60 + row for row in range(320)]),
                                  "column 'hash' is 2^53 or more in rows 1, 2, 3, 4, 5 and 315 more"),
    "a number is a mark of what is missing": (changed("price", -999.0, 3, 4), "column 'price' is -999 in rows 3 and 4"),
    "a feature has no value": (added("empty", pa.nulls(320)), "column 'empty' has no value in any of its 320 rows"),
    "a feature has few values": (
        added("rare", [1.5, *[None] * 318, 2.5]),
        "column 'rare' is missing in 99.4% of the rows and 98% may be; there is a value only in rows 1 and 320"),
    "a feature is constant": (added("same", [4] * 320), "column 'same' is 4 in all 320 rows"),
    "a feature is an identifier": (
        pa.concat_tables([good()] * 4).append_column("word", pa.array(some_words(1_280))),
        "column 'word' holds 1,280 different texts, which is an identifier"),
    "a feature is a date": (added("day", pa.array([0] * 320).cast(pa.timestamp("ms"))),
                            "column 'day' holds timestamp[ms], which is no feature"),
    "a feature has a name that LightGBM refuses": (added("best price", list(range(320))),
                                                   "column 'best price' needs a name without spaces"),
    "numbers have texts among them": (added("weight", [*map(str, range(318)), "n/a", "n/a"]),
                                      "column 'weight' holds numbers, and texts ('n/a') in rows 319 and 320"),
    "a feature is the label": (added("stars", labels().astype(float)), "column 'stars' tells the label"),
    "a feature is the label upside down": (added("stars", 9 - labels()), "column 'stars' tells the label"),
    "a feature is there only for what was liked": (
        added("paid", [20.0 + row if label else None for row, label in enumerate(labels())]),
        "column 'paid' tells the label: in every query it sets those above 0 apart (rows "),
    "a text is there only for what was liked": (
        added("state", ["booked" if label > 1 else "clicked" if label else "none" for label in labels()]),
        "column 'state' tells the label"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD, ids=[kind.replace(" ", "_") for kind in BAD])
def test_bad_data_is_refused_with_the_column_and_the_rows(tmp_path: Path, kind: str) -> None:
    table, expected = BAD[kind]
    with pytest.raises(TableError) as caught:
        read(tmp_path, table)
    assert any(fault.startswith(expected) for fault in caught.value.faults), caught.value.faults
    assert str(caught.value).startswith("table.parquet: ")


def test_good_data_passes(tmp_path: Path) -> None:
    assert read(tmp_path, good()).queries == 40


def test_few_queries_with_something_to_learn_are_refused(tmp_path: Path) -> None:
    rows = "".join(
        f"{query},{int(query == 7 and row == 0)},{query * 3 + row}\n" for query in range(200) for row in range(3)
    )
    path = tmp_path / "table.csv"
    path.write_text("query,label,price\n" + rows)
    with pytest.raises(
        TableError, match="'label' differs between rows in only 1 of 200 queries, those that start in row 22;"
    ):
        read_table(path)


def test_a_strong_feature_is_not_taken_for_the_label(tmp_path: Path) -> None:
    strong = labels() + np.random.default_rng(0).normal(0, 0.4, 320)
    names = read(tmp_path, added("strong", strong)).columns.column_names
    assert "strong" in names


def test_chance_in_a_tiny_table_is_no_leak(tmp_path: Path) -> None:
    tiny = pa.table({"query": [1, 1, 2, 2], "label": [1, 0, 0, 1], "price": [1, 0, 0, 1]})
    assert read_table(write(tmp_path, "table.parquet", tiny)).rows == 4


# ---- a table that judges


def judged(folder: Path, test: pa.Table, learn: pa.Table | None = None) -> None:
    learned = read(folder, good() if learn is None else learn, "learn.parquet")
    check_test_table(read(folder, test, "test.parquet"), learned, infer_features(learned))


def test_a_later_table_may_judge(tmp_path: Path) -> None:
    judged(tmp_path, good(seed=6, start=START_MS + 50 * DAY_MS))


def test_a_judge_from_the_past_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError) as caught:
        judged(tmp_path, good(seed=6, start=START_MS + 38 * DAY_MS))
    (fault,) = caught.value.faults
    assert fault.startswith(
        "1 of 40 queries were shown before the last one of learn.parquet, those that start in row 1"
    )


def test_a_judge_that_was_learned_from_is_refused(tmp_path: Path) -> None:
    later = good(start=START_MS + 50 * DAY_MS)
    with pytest.raises(
        TableError, match=r"40 of 40 queries are in learn.parquet as well, row for row: those that start in"
    ):
        judged(tmp_path, later)


def test_texts_that_training_never_saw_are_refused(tmp_path: Path) -> None:
    later = good(seed=6, start=START_MS + 50 * DAY_MS)
    kinds = pc.replace_substring(later["kind"], "museum", "palace")
    place = later.column_names.index("kind")
    with pytest.raises(
        TableError, match=r"'kind' holds 1 texts that learn.parquet does not have \('palace'\) in 25% of"
    ):
        judged(tmp_path, later.set_column(place, "kind", kinds))


# ---- what a team expects


SCHEMA = """
schema_type: dataframe
columns:
  price: {dtype: float64, nullable: true, coerce: true, checks: {in_range: {min_value: 0, max_value: 500}}}
  device: {dtype: str, nullable: false, checks: {isin: [desktop, mobile]}}
  weather: {dtype: str, required: %s}
"""


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    path = tmp_path / "schema.yaml"
    path.write_text(SCHEMA % "false")
    return path


@pytest.mark.parametrize("name", ["table.parquet", "table.csv"])
def test_a_table_as_expected_passes(tmp_path: Path, schema: Path, name: str) -> None:
    check_expectations(write(tmp_path, name, good()), schema, "auto")


def test_every_expectation_that_is_not_met_is_told_with_its_rows(tmp_path: Path, schema: Path) -> None:
    schema.write_text(SCHEMA % "true")
    bad = changed("price", 900.0, 3, 8)
    device = bad["device"].to_pylist()
    device[4:6] = ["fridge", None]
    bad = bad.set_column(bad.column_names.index("device"), "device", pa.array(device))
    with pytest.raises(TableError) as caught:
        check_expectations(write(tmp_path, "table.parquet", bad), schema, "auto")
    assert sorted(caught.value.faults) == [
        "column 'device' is missing in row 6 (schema.yaml)",
        "column 'device' is not isin(['desktop', 'mobile']) in row 5: 'fridge' (schema.yaml)",
        "column 'price' is not in_range(0, 500) in rows 3 and 8: 900.0 (schema.yaml)",
        "column 'weather' is missing (schema.yaml)",
    ]


def test_texts_where_numbers_are_expected_are_told(tmp_path: Path, schema: Path) -> None:
    table = replaced("price", ["cheap"] * 320)
    with pytest.raises(
        TableError, match=r"column 'price' is not coerce_dtype\('float64'\) in rows 1, 2, 3, 4, 5 and 315"
    ):
        check_expectations(write(tmp_path, "table.parquet", table), schema, "auto")


def test_a_file_that_is_no_schema_is_refused_by_name(tmp_path: Path, schema: Path) -> None:
    schema.write_text("columns: 7\n")
    with pytest.raises(TableError, match=r"schema.yaml: not a pandera schema in YAML: "):
        check_expectations(write(tmp_path, "table.parquet", good()), schema, "auto")


def test_svmlight_has_no_columns_to_expect_anything_of(tmp_path: Path, schema: Path) -> None:
    with pytest.raises(TableError, match="svmlight has no names"):
        check_expectations(tmp_path / "rank.train", schema, "auto")
