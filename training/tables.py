"""Ranking tables: parquet, CSV and svmlight files, read into one shape and tested before anything learns from them."""

import hashlib
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from training.errors import TableError

Format = Literal["auto", "parquet", "csv", "svmlight"]

MAX_LABEL = 30  # LightGBM's default label_gain has 31 entries
MAX_QUERY_ROWS = 10_000  # LightGBM refuses longer queries
MAX_CATEGORIES = 1_000  # more different texts than this are identifiers, and memorising them is not ranking
MAX_DENSE_BYTES = 16 * 1024**3


@dataclass(frozen=True)
class Columns:
    """Which columns of a named table are not features."""

    query: str = "query"
    label: str = "label"
    time: str | None = None
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True)
class RankingTable:
    """Candidates as rows, those of one query next to each other, queries in the order of their first row.

    `columns` holds the feature columns only. `sizes` are the rows of each query and add up to `rows`; `times` is one
    point in time for each query (the earliest of its rows) where a time column was named. `digest` is the sha256 of
    the bytes that were read. Only a `named` table says something about its columns; svmlight's are numbers.
    """

    path: Path
    named: bool
    columns: pa.Table
    labels: NDArray[np.int64]
    sizes: NDArray[np.int64]
    times: NDArray[np.float64] | None
    digest: str

    @property
    def rows(self) -> int:
        return len(self.labels)

    @property
    def queries(self) -> int:
        return len(self.sizes)

    @property
    def starts(self) -> NDArray[np.int64]:
        """The first row of each query."""
        return np.cumsum(self.sizes) - self.sizes

    def rows_of(self, queries: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row numbers of these queries, in the order of the table."""
        wanted = np.zeros(self.queries, dtype=bool)
        wanted[queries] = True
        return np.flatnonzero(np.repeat(wanted, self.sizes))


class _Parts(NamedTuple):
    """A file taken apart, before anything in it is believed."""

    features: pa.Table
    labels: NDArray[np.float64]  # NaN where there is none
    queries: NDArray[np.int64]  # numbered by first appearance, -1 where there is none
    times: NDArray[np.float64] | None
    digest: str


def read_table(
    path: Path, *, columns: Columns = Columns(), form: Format = "auto", width: int | None = None
) -> RankingTable:
    """Read a table and test it.

    `auto` goes by the name: `.parquet` and `.csv` (also `.csv.gz`) are what they say and anything else is svmlight,
    whose queries come from `qid:` or from a file of the same name plus `.query`. svmlight features are named `f0`,
    `f1`, ... by their index, absent values are zeros, and `width` (the training table's) drops or fills up columns.

    Raises `TableError` with every fault that was found.
    """
    form = _form(path) if form == "auto" else form
    parts = _read_svmlight(path, width) if form == "svmlight" else _read_named(path, columns, form)
    if faults := list(_faults(parts, columns)):
        raise TableError(path, faults)
    return _in_query_order(path, parts, named=form != "svmlight")


def _form(path: Path) -> Format:
    name = path.name.lower()
    if name.endswith((".parquet", ".pq")):
        return "parquet"
    return "csv" if name.endswith((".csv", ".csv.gz")) else "svmlight"


def _in_query_order(path: Path, parts: _Parts, *, named: bool) -> RankingTable:
    order = np.argsort(parts.queries, kind="stable")
    moved = bool((order[1:] < order[:-1]).any())
    sizes = np.bincount(parts.queries)
    return RankingTable(
        path=path,
        named=named,
        columns=parts.features.take(pa.array(order)) if moved else parts.features,
        labels=parts.labels[order].astype(np.int64),
        sizes=sizes,
        times=None if parts.times is None else np.minimum.reduceat(parts.times[order], np.cumsum(sizes) - sizes),
        digest=parts.digest,
    )


# ---- parquet and CSV


def _read_named(path: Path, columns: Columns, form: Format) -> _Parts:
    table = read_arrow(path, form)
    names = [name for name in table.column_names if not re.fullmatch(r"__index_level_\d+__", name)]  # a pandas index
    needed = [columns.query, columns.label, *([columns.time] if columns.time else []), *columns.ignore]
    if missing := [name for name in needed if name not in names]:
        raise TableError(path, [f"column {name!r} is missing; there are: {', '.join(names)}" for name in missing])
    features = [name for name in names if name not in needed]
    if not features:
        raise TableError(path, ["no feature column is left beside " + ", ".join(repr(name) for name in needed)])
    return _Parts(
        features=pa.table({name: plain_texts(table[name]) for name in features}),
        labels=_numbers(path, table, columns.label),
        queries=_numbered(table[columns.query]),
        times=None if columns.time is None else _numbers(path, table, columns.time),
        digest=digest(path),
    )


def read_arrow(path: Path, form: Format) -> pa.Table:
    """Read parquet or CSV; raises `TableError` when it is neither or a column name appears twice."""
    try:
        table = pyarrow.parquet.ParquetFile(path).read() if form == "parquet" else _read_csv(path)
    except pa.ArrowInvalid as error:
        raise TableError(path, [f"not readable as {form}: {str(error).splitlines()[0]}"]) from error
    names = table.column_names
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise TableError(path, [f"column {name!r} appears {names.count(name)} times" for name in repeated])
    return table


def _read_csv(path: Path) -> pa.Table:
    # One block, so that a column's type is inferred from all of its rows. Texts are never null here: "NA" is Namibia.
    block = min(max(path.stat().st_size * 20 if path.suffix == ".gz" else path.stat().st_size, 1 << 20), 1 << 30)
    return pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(block_size=block),
        convert_options=pyarrow.csv.ConvertOptions(
            null_values=["", "NA", "NaN", "nan", "NULL", "null"], strings_can_be_null=False
        ),
    )


def plain_texts(column: Any) -> Any:
    """Give a column of texts, or of a dictionary of anything, as strings with the empty one missing; others as is."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type).cast(pa.string())
    elif pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    if not pa.types.is_string(column.type):
        return column
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)


def _numbers(path: Path, table: pa.Table, name: str) -> NDArray[np.float64]:
    column = table[name]
    if pa.types.is_temporal(column.type):
        column = pc.cast(column, pa.timestamp("us")).cast(pa.int64())
    try:
        return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise TableError(path, [f"column {name!r} holds {column.type}, not numbers ({error})"]) from error


def _numbered(column: Any) -> NDArray[np.int64]:
    """Values numbered by first appearance, -1 for missing ones."""
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    encoded = column.combine_chunks().dictionary_encode()
    return np.asarray(pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False), dtype=np.int64)


# ---- svmlight


class _Lines(NamedTuple):
    labels: "array[float]"
    queries: "array[int]"  # qid of each row; empty where the file has none
    rows: "array[int]"  # row, index and value of every written cell
    indices: "array[int]"
    values: "array[float]"


def _read_svmlight(path: Path, width: int | None) -> _Parts:
    lines = _parse_svmlight(path)
    rows = len(lines.labels)
    if not rows:
        raise TableError(path, ["there are no rows"])
    sidecar = path.with_name(path.name + ".query")
    queries = np.array(lines.queries) if lines.queries else _read_query_file(path, sidecar, rows)
    width = width or max(lines.indices, default=-1) + 1
    return _Parts(
        features=_dense(path, lines, rows, width),
        labels=np.array(lines.labels),
        queries=_numbered(pa.chunked_array([pa.array(queries)])),
        times=None,
        digest=digest(path) if lines.queries else digest(path, sidecar),
    )


def _parse_svmlight(path: Path) -> _Lines:
    lines = _Lines(array("d"), array("q"), array("q"), array("q"), array("d"))
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                _parse_line(line.partition(b"#")[0], lines)
            except ValueError as error:
                raise TableError(path, [f"line {number}: {error}"]) from error
    if lines.queries and len(lines.queries) != len(lines.labels):
        raise TableError(path, [f"{len(lines.labels) - len(lines.queries)} rows have no qid: and the others have"])
    return lines


def _parse_line(line: bytes, lines: _Lines) -> None:
    fields = line.replace(b":", b" ").split()
    if not fields:
        return
    first = 3 if fields[1:2] == [b"qid"] else 1
    if 2 * line.count(b":") + 1 != len(fields):
        raise ValueError("after the label there may only be qid:number and index:value pairs")
    indices = [int(field) for field in fields[first::2]]
    if indices and min(indices) < 0:
        raise ValueError(f"index {min(indices)} is negative")
    if len(set(indices)) != len(indices):
        raise ValueError("an index appears twice")
    values = [float(field) for field in fields[first + 1 :: 2]]
    if first == 3:
        lines.queries.append(int(fields[2]))
    lines.rows.extend([len(lines.labels)] * len(indices))
    lines.labels.append(float(fields[0]))
    lines.indices.extend(indices)
    lines.values.extend(values)


def _read_query_file(path: Path, sidecar: Path, rows: int) -> NDArray[np.int64]:
    """Read the query of each row from a file with the rows of each query, one number a line."""
    if not sidecar.exists():
        raise TableError(
            path, [f"no qid: in the rows and no {sidecar.name} with the rows of each query beside the file"]
        )
    texts = sidecar.read_text().split()
    if wrong := [line for line, text in enumerate(texts, start=1) if not text.isdecimal() or int(text) == 0]:
        raise TableError(sidecar, [f"line {wrong[0]}: {texts[wrong[0] - 1]!r} is not a number of rows above 0"])
    sizes = np.array([int(text) for text in texts], dtype=np.int64)
    if sizes.sum() != rows:
        raise TableError(sidecar, [f"the queries have {sizes.sum():,} rows and {path.name} has {rows:,}"])
    return np.repeat(np.arange(len(sizes)), sizes)


def _dense(path: Path, lines: _Lines, rows: int, width: int) -> pa.Table:
    if rows * width * 8 > MAX_DENSE_BYTES:
        size = rows * width * 8 / 1024**3
        raise TableError(path, [f"{rows:,} rows of {width:,} features are {size:,.0f} GiB and 16 GiB may be used"])
    indices = np.array(lines.indices, dtype=np.int64)
    within = indices < width
    matrix = np.zeros((width, rows))
    matrix[indices[within], np.array(lines.rows, dtype=np.int64)[within]] = np.array(lines.values)[within]
    return pa.table({f"f{index}": column for index, column in enumerate(matrix)})


def digest(*paths: Path) -> str:
    """sha256 of these files' bytes, one after the other, as hexadecimal text."""
    sha = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                sha.update(block)
    return sha.hexdigest()


# ---- what must be true of a table


def _faults(parts: _Parts, columns: Columns) -> Iterator[str]:
    if not len(parts.labels):
        yield "there are no rows"
        return
    yield from _label_faults(parts.labels, columns.label)
    yield from _query_faults(parts, columns.query)
    if parts.times is not None and (lost := np.isnan(parts.times)).any():
        yield f"column {columns.time!r} is missing in {_rows(lost)}"
    for name in parts.features.column_names:
        yield from _feature_faults(name, parts.features[name])


def _label_faults(labels: NDArray[np.float64], name: str) -> Iterator[str]:
    missing = np.isnan(labels)
    tests = {
        "missing": missing,
        "negative": labels < 0,
        "not a whole number": ~missing & (labels != np.floor(labels)),
        f"above {MAX_LABEL}, LightGBM's highest label,": labels > MAX_LABEL,
    }
    yield from (f"column {name!r} is {what} in {_rows(wrong)}" for what, wrong in tests.items() if wrong.any())
    if not (labels > 0).any():
        yield f"column {name!r} is nowhere above 0, so there is nothing to learn"


def _query_faults(parts: _Parts, name: str) -> Iterator[str]:
    if (lost := parts.queries < 0).any():
        yield f"column {name!r} is missing in {_rows(lost)}"
        return
    sizes = np.bincount(parts.queries)
    if sizes.max() == 1:
        yield f"all {len(sizes):,} queries have one row only, so nothing is ranked; is {name!r} the query column?"
    elif not _has_a_preference(parts.queries, parts.labels):
        yield "in no query do labels differ between rows, so there is nothing to learn"
    if sizes.max() > MAX_QUERY_ROWS:
        row = int(np.flatnonzero(parts.queries == sizes.argmax())[0]) + 1
        yield f"the query that starts in row {row:,} has {sizes.max():,} rows and LightGBM takes {MAX_QUERY_ROWS:,}"


def _has_a_preference(queries: NDArray[np.int64], labels: NDArray[np.float64]) -> bool:
    order = np.lexsort((labels, queries))
    return bool(((np.diff(queries[order]) == 0) & (np.diff(labels[order]) > 0)).any())


def _feature_faults(name: str, column: Any) -> Iterator[str]:
    if re.search(r'[\s,:\[\]{}"]', name) or not name:
        yield f"column {name!r} needs a name without spaces and any of , : [ ] {{ }} \" (LightGBM's limits)"
    if column.null_count == len(column):
        yield f"column {name!r} has no value in any of its {len(column):,} rows; leave it out (--ignore)"
    elif pa.types.is_string(column.type):
        if (kinds := pc.count_distinct(column).as_py()) > MAX_CATEGORIES:
            yield f"column {name!r} holds {kinds:,} different texts, which is an identifier; leave it out (--ignore)"
    elif pa.types.is_floating(column.type):
        values = np.asarray(column.to_numpy())
        if np.isnan(values).all():
            yield f"column {name!r} has no value in any of its {len(column):,} rows; leave it out (--ignore)"
        if (infinite := np.isinf(values)).any():
            yield f"column {name!r} is infinite in {_rows(infinite)}"
    elif not (pa.types.is_integer(column.type) or pa.types.is_boolean(column.type) or pa.types.is_decimal(column.type)):
        yield f"column {name!r} holds {column.type}, which is no feature; leave it out (--ignore)"


def _rows(wrong: NDArray[np.bool_]) -> str:
    """`row 3`, `rows 3, 8 and 11`, or the first five and how many more."""
    numbers = (np.flatnonzero(wrong) + 1).tolist()
    if len(numbers) == 1:
        return f"row {numbers[0]:,}"
    named = [f"{number:,}" for number in numbers[:5]]
    rest = f"{len(numbers) - 5:,} more" if len(numbers) > 5 else named.pop()
    return f"rows {', '.join(named)} and {rest}"
