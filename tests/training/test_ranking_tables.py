import gzip
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pytest
from ranking_tables import sessions, write, write_svmlight

from training.errors import TableError
from training.features import encode, infer_features
from training.files import Columns
from training.tables import read_table

GOOD = "query,label,price\n1,1,3.5\n1,0,2.5\n2,0,1.5\n2,2,0.5\n"


def csv(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


def refused(path: Path, **options: object) -> str:
    with pytest.raises(TableError) as caught:
        read_table(path, **options)
    return str(caught.value)


def test_csv_and_parquet_give_the_same_table(tmp_path: Path) -> None:
    tables = [read_table(write(tmp_path, name, sessions())) for name in ("a.csv", "a.parquet")]
    features = infer_features(tables[0])
    assert infer_features(tables[1]) == features
    assert np.array_equal(*(encode(table, features) for table in tables), equal_nan=True)
    assert np.array_equal(tables[0].labels, tables[1].labels)
    assert np.array_equal(tables[0].sizes, tables[1].sizes)


def test_a_compressed_csv_is_read_like_the_plain_one(tmp_path: Path) -> None:
    (tmp_path / "table.csv.gz").write_bytes(gzip.compress(GOOD.encode()))
    table = read_table(tmp_path / "table.csv.gz")
    assert (table.rows, table.queries) == (4, 2)


def test_columns_may_have_other_names_and_some_may_be_left_out(tmp_path: Path) -> None:
    path = csv(tmp_path, "session,stars,at,id,price\n1,1,2026-03-01T10:00:00,A,3.5\n1,0,2026-03-01T09:00:00,B,2.5\n")
    table = read_table(path, columns=Columns("session", "stars", "at", ("id",)))
    assert table.columns.column_names == ["price"]
    assert table.times is not None
    assert table.times.tolist() == [np.datetime64("2026-03-01T09:00:00", "us").astype(int)]


def test_rows_of_one_query_are_put_together_in_the_order_they_came(tmp_path: Path) -> None:
    table = read_table(csv(tmp_path, "query,label,price\nb,1,1\na,0,2\nb,0,3\na,1,4\n"))
    assert table.columns["price"].to_pylist() == [1, 3, 2, 4]
    assert table.sizes.tolist() == [2, 2]
    assert table.labels.tolist() == [1, 0, 0, 1]


def test_na_is_a_text_like_any_other_and_an_empty_cell_is_missing(tmp_path: Path) -> None:
    table = read_table(csv(tmp_path, "query,label,country,price\n1,1,NA,NA\n1,0,,2\n1,0,DE,3\n"))
    features = infer_features(table)
    assert features[0].categories == ("DE", "NA")
    assert np.array_equal(encode(table, features), [[1, np.nan], [np.nan, 2], [0, 3]], equal_nan=True)


def test_a_number_deep_in_a_column_of_whole_numbers_is_still_a_number(tmp_path: Path) -> None:
    rows = "".join(f"{number // 10},{number % 2},{number}\n" for number in range(200_000))
    table = read_table(csv(tmp_path, "query,label,price\n" + rows + "20000,1,0.5\n"))
    assert table.columns["price"][-1].as_py() == 0.5


def test_an_index_that_pandas_left_in_a_parquet_file_is_no_feature(tmp_path: Path) -> None:
    with_index = sessions().append_column("__index_level_0__", pa.array(range(320)))
    assert "__index_level_0__" not in read_table(write(tmp_path, "a.parquet", with_index)).columns.column_names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("query,price\n1,2\n", "column 'label' is missing; there are: query, price"),
        ("query,label,price,price\n1,1,2,2\n1,0,2,2\n", "column 'price' appears 2 times"),
        ("query,label\n1,1\n1,0\n", "no feature column is left beside 'query', 'label'"),
        ("query,label,price\n", "there are no rows"),
        ("query,label,price\n1,1,3\n1,-1,2\n", "column 'label' is negative in row 2"),
        ("query,label,price\n1,1,3\n1,0.5,2\n", "column 'label' is not a whole number in row 2"),
        ("query,label,price\n1,1,3\n1,,2\n", "column 'label' is missing in row 2"),
        ("query,label,price\n1,31,3\n1,0,2\n", "column 'label' is above 30, LightGBM's highest label, in row 1"),
        ("query,label,price\n1,good,3\n1,bad,2\n", "column 'label' holds string, not numbers"),
        ("query,label,price\n1,0,3\n1,0,2\n", "column 'label' is nowhere above 0, so there is nothing to learn"),
        ("query,label,price\n1,1,3\n1,1,2\n", "in no query do labels differ between rows"),
        ("query,label,price\n1,1,3\n2,0,2\n", "all 2 queries have one row only"),
        ("query,label,price\n1,1,3\n,0,2\n", "column 'query' is missing in row 2"),
        ("query,label,price\n1,1,inf\n1,0,2\n", "column 'price' is infinite in row 1"),
        ("query,label,price,x\n1,1,3,\n1,0,2,\n", "column 'x' has no value in any of its 2 rows"),
        ("query,label,when\n1,1,2026-01-01\n1,0,2026-01-02\n", "column 'when' holds date32[day], which is no feature"),
        ("query,label,best price\n1,1,3\n1,0,2\n", "column 'best price' needs a name without spaces"),
        ("query,label,price\n1,1,3\n1,0\n", "not readable as csv"),
    ],
)
def test_a_bad_table_is_refused_with_the_column_and_the_rows(tmp_path: Path, text: str, expected: str) -> None:
    assert f"table.csv: {expected}" in refused(csv(tmp_path, text))


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    told = refused(csv(tmp_path, "query,label,price\n1,-1,inf\n1,1,2\n,1,2\n")).splitlines()
    assert [line.partition(" is ")[0] for line in told] == [
        "table.csv: column 'label'",
        "table.csv: column 'query'",
        "table.csv: column 'price'",
    ]


def test_many_bad_rows_are_named_by_the_first_five_and_a_count(tmp_path: Path) -> None:
    assert "in rows 2, 3, 4, 5, 6 and 4 more" in refused(csv(tmp_path, "query,label,p\n1,1,1\n" + "1,-1,1\n" * 9))
    assert "in rows 2, 3 and 4" in refused(csv(tmp_path, "query,label,p\n1,1,1\n" + "1,-1,1\n" * 3))


def test_a_column_of_identifiers_is_refused(tmp_path: Path) -> None:
    rows = "".join(f"{number // 2},{number % 2},A{number}\n" for number in range(1_200))
    assert "column 'id' holds 1,200 different texts" in refused(csv(tmp_path, "query,label,id\n" + rows))


def test_a_query_longer_than_lightgbm_takes_is_refused(tmp_path: Path) -> None:
    rows = "".join(f"1,{number % 2},{number}\n" for number in range(10_001))
    assert "starts in row 2 has 10,001 rows" in refused(csv(tmp_path, "query,label,price\n0,1,1\n" + rows))


def test_texts_of_any_arrow_kind_are_categories(tmp_path: Path) -> None:
    kinds = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
    plain = read_table(write(tmp_path, "plain.parquet", sessions()))
    for place, kind in enumerate(kinds):
        changed = sessions().set_column(4, "kind", sessions()["kind"].cast(kind))
        table = read_table(write(tmp_path, f"{place}.parquet", changed))
        assert infer_features(table) == infer_features(plain)


def test_a_query_that_is_not_a_number_is_a_missing_query(tmp_path: Path) -> None:
    table = pa.table({"query": [1.0, 1.0, float("nan")], "label": [1, 0, 0], "price": [1, 2, 3]})
    assert "column 'query' is missing in row 3" in refused(write(tmp_path, "a.parquet", table))


def test_a_name_that_a_parquet_file_has_twice_is_refused(tmp_path: Path) -> None:
    table = pa.table([[1, 1], [1, 0], [1, 2], [1, 2]], names=["query", "label", "price", "price"])
    assert "column 'price' appears 2 times" in refused(write(tmp_path, "a.parquet", table))


def test_a_file_that_is_not_parquet_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    path.write_text(GOOD)
    assert refused(path).startswith("table.parquet: not readable as parquet: ")


# ---- svmlight


def svmlight(folder: Path, text: str, queries: str | None = None) -> Path:
    path = folder / "rank.train"
    path.write_text(text)
    if queries is not None:
        (folder / "rank.train.query").write_text(queries)
    return path


def test_svmlight_columns_keep_their_index_and_what_is_absent_is_zero(tmp_path: Path) -> None:
    table = read_table(svmlight(tmp_path, "1 1:0.5 3:2\n0 3:1 # nothing else\n\n2 1:7\n", "2\n1\n"))
    assert table.columns.column_names == ["f0", "f1", "f2", "f3"]
    assert encode(table, infer_features(table)).tolist() == [[0, 0.5, 0, 2], [0, 0, 0, 1], [0, 7, 0, 0]]
    assert table.sizes.tolist() == [2, 1]


def test_qid_takes_the_place_of_the_query_file(tmp_path: Path) -> None:
    table = read_table(svmlight(tmp_path, "1 qid:7 1:0.5\n0 qid:7 1:1\n2 qid:9 2:7\n"))
    assert table.sizes.tolist() == [2, 1]
    assert table.columns.column_names == ["f0", "f1", "f2"]


@pytest.mark.parametrize("width", [2, 6])
def test_the_training_table_fixes_the_width_of_others(tmp_path: Path, width: int) -> None:
    path = svmlight(tmp_path, "1 1:0.5 3:2\n0 3:1\n", "2\n")
    table = read_table(path, width=width)
    assert table.columns.num_columns == width
    assert table.columns["f1"].to_pylist() == [0.5, 0]


def test_svmlight_has_no_context_unless_somebody_names_it(tmp_path: Path) -> None:
    table = read_table(svmlight(tmp_path, "1 1:1 2:1\n0 1:1 2:2\n0 1:2 2:3\n1 1:2 2:4\n", "2\n2\n"))
    assert [feature.role for feature in infer_features(table)] == ["activity"] * 3
    assert [feature.role for feature in infer_features(table, ["f1"])] == ["activity", "context", "activity"]


def test_svmlight_rows_score_as_lightgbm_scores_the_file_itself(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    matrix = (rng.random((120, 6)) * (rng.random((120, 6)) < 0.4)).round(3)
    matrix[0, 5] = 0.25
    labels, sizes = rng.integers(0, 3, 120), np.full(12, 10)
    path = write_svmlight(tmp_path / "rank.train", matrix, labels, sizes)
    table = read_table(path)
    rows = encode(table, infer_features(table))
    assert np.array_equal(rows, matrix)
    booster = lgb.train(
        {"objective": "lambdarank", "verbosity": -1, "min_data_in_leaf": 3, "num_leaves": 7},
        lgb.Dataset(rows, labels, group=sizes),
        10,
    )
    assert np.array_equal(booster.predict(rows), booster.predict(str(path)))


@pytest.mark.parametrize(
    ("text", "queries", "expected"),
    [
        ("1 1:0.5\n0 1:1\n", "3\n", "rank.train.query: the queries have 3 rows and rank.train has 2"),
        ("1 1:0.5\n0 1:1\n", "2\n0\n", "rank.train.query: line 2: '0' is not a number of rows above 0"),
        ("1 1:0.5\n0 1:1\n", "two\n", "rank.train.query: line 1: 'two' is not a number of rows above 0"),
        ("1 1:0.5\n0 1:1\n", None, "rank.train: no qid: in the rows and no rank.train.query"),
        ("1 1:0.5\n0 1\n", "2\n", "rank.train: line 2: after the label there may only be"),
        ("1 1:0.5\n0 -1:1\n", "2\n", "rank.train: line 2: index -1 is negative"),
        ("1 1:0.5 1:1\n0 1:1\n", "2\n", "rank.train: line 1: an index appears twice"),
        ("1 1:0.5\nx 1:1\n", "2\n", "rank.train: line 2: could not convert"),
        ("1 1:0.5\n0 1:one\n", "2\n", "rank.train: line 2: could not convert"),
        ("1 qid:1 1:0.5\n0 1:1\n", None, "rank.train: 1 rows have no qid: and the others have"),
        ("1 1:0.5\n0 1:nan\n1 1:inf\n", "3\n", "rank.train: column 'f1' is infinite in row 3"),
        ("1 1:0.5\n0 99999999999:1\n", "2\n", "GiB and 16 GiB may be used"),
        ("", "", "rank.train: there are no rows"),
    ],
)
def test_a_bad_svmlight_file_is_refused_with_the_line(
    tmp_path: Path, text: str, queries: str | None, expected: str
) -> None:
    assert expected in refused(svmlight(tmp_path, text, queries))
