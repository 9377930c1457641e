"""Ranking tables as files: parquet, CSV and svmlight, taken apart. Nothing in them is believed yet."""

import hashlib
import re
from array import array
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

MAX_DENSE_BYTES = 16 * 1024**3


@dataclass(frozen=True)
class Columns:
    """Which columns of a named table are not features.

    Histories are looked up by `visitor`, `activity` and `time` together.
    """

    query: str = "query"
    label: str = "label"
    time: str | None = None
    ignore: tuple[str, ...] = ()
    visitor: str | None = None
    activity: str | None = None

    @property
    def no_features(self) -> tuple[str, ...]:
        others = (self.time, self.visitor, self.activity)
        return (self.query, self.label, *(name for name in others if name is not None), *self.ignore)


class Parts(NamedTuple):
    """A file taken apart, before anything in it is believed. Arrays are (rows,), in the order of the file.

    named: its columns have names, which svmlight's do not. queries: numbered by first appearance, -1 where missing.
    labels and times: NaN where missing. moments: milliseconds since 1970, -1 where missing.
    """

    named: bool
    features: pa.Table
    labels: NDArray[np.float64]
    queries: NDArray[np.int64]
    digest: str
    times: NDArray[np.float64] | None = None
    moments: NDArray[np.int64] | None = None
    visitors: pa.ChunkedArray | None = None
    activities: pa.ChunkedArray | None = None


def read_parts(path: Path, columns: Columns, form: Format, width: int | None) -> Parts:
    """Take a file apart; raises `TableError` where it cannot be read or lacks a column."""
    form = form_of(path) if form == "auto" else form
    return _read_svmlight(path, width) if form == "svmlight" else _read_named(path, columns, form)


def form_of(path: Path) -> Format:
    """What a file is by its name: whatever is neither parquet nor CSV is svmlight."""
    name = path.name.lower()
    if name.endswith((".parquet", ".pq")):
        return "parquet"
    return "csv" if name.endswith((".csv", ".csv.gz")) else "svmlight"


# ---- parquet and CSV


def _read_named(path: Path, columns: Columns, form: Format) -> Parts:
    table = read_arrow(path, form)
    names = [name for name in table.column_names if not re.fullmatch(r"__index_level_\d+__", name)]  # a pandas index
    needed = columns.no_features
    if missing := [name for name in needed if name not in names]:
        raise TableError(path, [f"column {name!r} is missing; there are: {', '.join(names)}" for name in missing])
    features = [name for name in names if name not in needed]
    if not features:
        raise TableError(path, ["no feature column is left beside " + ", ".join(repr(name) for name in needed)])
    return Parts(
        named=True,
        features=pa.table({name: plain_texts(table[name]) for name in features}),
        labels=_numbers(path, table, columns.label),
        queries=_numbered(table[columns.query]),
        digest=digest(path),
        times=None if columns.time is None else _numbers(path, table, columns.time),
        moments=_moments(path, table, columns),
        visitors=None if columns.visitor is None else _texts(table[columns.visitor]),
        activities=None if columns.activity is None else _texts(table[columns.activity]),
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


def _texts(column: Any) -> Any:
    plain = plain_texts(column)
    return plain if pa.types.is_string(plain.type) else plain.cast(pa.string())


def _moments(path: Path, table: pa.Table, columns: Columns) -> NDArray[np.int64] | None:
    """Milliseconds since 1970 of a column of times; whole numbers are such only where histories make it so."""
    if columns.time is None:
        return None
    column = table[columns.time]
    if pa.types.is_temporal(column.type):
        column = pc.cast(column, pa.timestamp("ms"), safe=False)
    elif columns.visitor is None:
        return None
    elif not pa.types.is_integer(column.type):
        kind = f"column {columns.time!r} holds {column.type}"
        raise TableError(path, [f"{kind}; histories need times, or milliseconds since 1970"])
    return np.asarray(pc.fill_null(column.cast(pa.int64()), -1).to_numpy())


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


def _read_svmlight(path: Path, width: int | None) -> Parts:
    lines = _parse_svmlight(path)
    rows = len(lines.labels)
    if not rows:
        raise TableError(path, ["there are no rows"])
    sidecar = path.with_name(path.name + ".query")
    queries = np.array(lines.queries) if lines.queries else _read_query_file(path, sidecar, rows)
    width = width or max(lines.indices, default=-1) + 1
    return Parts(
        named=False,
        features=_dense(path, lines, rows, width),
        labels=np.array(lines.labels),
        queries=_numbered(pa.chunked_array([pa.array(queries)])),
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
