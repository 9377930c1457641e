"""From a table of activities to the parquet snapshot that a service holds: tested, then written whole or not at all."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from features.catalog import Catalog, CatalogError

MAX_ID_LENGTH = 128  # characters: longer ones cannot be asked for
FOR_HISTORIES = ("category", "city", "price")  # columns that derived features read


class SnapshotError(CatalogError):
    """The table makes no snapshot. `faults` are sentences that name the column and the rows (counted from 1)."""

    def __init__(self, name: str, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(f"{name}: {fault}" for fault in faults))


class Snapshot(NamedTuple):
    """What was written, and what whoever wrote it should know although nothing is wrong."""

    activities: int
    columns: int
    bytes: int
    notes: tuple[str, ...]


def build_snapshot(
    table: Path, out: Path, *, id_column: str = "id", ignore: Sequence[str] = (), model: Path | None = None
) -> Snapshot:
    """Write the snapshot of a parquet or CSV table; `out` is replaced only by a whole one.

    model: the folder of a bundle; the columns have to be what its features are made of. Raises `SnapshotError` with
    every fault, and `OSError`.
    """
    read = _read(table)
    wanted = [] if model is None else _features(model)
    if faults := list(_column_faults(read, id_column, ignore)):
        raise SnapshotError(table.name, faults)
    columns = {"id": _plain(read[id_column]).cast(pa.string())}
    columns |= {name: _plain(read[name]) for name in read.column_names if name not in (id_column, *ignore)}
    if faults := [*_id_faults(columns["id"], id_column), *_value_faults(columns), *_model_faults(columns, wanted)]:
        raise SnapshotError(table.name, faults)
    snapshot = pa.table(columns)
    Catalog(snapshot, table.name).find(np.empty(0, dtype=np.uint64))  # two ids of one digest are refused here
    _write(snapshot, out)
    return Snapshot(len(snapshot), len(columns), out.stat().st_size, tuple(_notes(columns, wanted)))


def _read(path: Path) -> pa.Table:
    try:
        if ".csv" not in path.suffixes:
            return pyarrow.parquet.ParquetFile(path).read()
        texts = pyarrow.csv.ConvertOptions(
            null_values=["", "NA", "NaN", "nan", "NULL", "null"], strings_can_be_null=False
        )
        block = min(max(20 * path.stat().st_size, 1 << 20), 1 << 30)  # one, so that types come from all rows
        return pyarrow.csv.read_csv(path, pyarrow.csv.ReadOptions(block_size=block), convert_options=texts)
    except pa.ArrowException as error:
        raise SnapshotError(path.name, [f"not readable: {str(error).splitlines()[0]}"]) from None


def _features(model: Path) -> list[Mapping[str, Any]]:
    """The feature list of a bundle, as JSON has it."""
    try:
        features: list[Mapping[str, Any]] = json.loads((model / "bundle.json").read_bytes())["features"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SnapshotError(str(model), [f"no bundle: {type(error).__name__}: {error}"]) from None
    return features


def _write(snapshot: pa.Table, out: Path) -> None:
    """Write beside the place and rename: a service that reads at any moment sees the old one or the new one."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".unfinished-") as folder:
        unfinished = Path(folder) / out.name
        pyarrow.parquet.write_table(snapshot, unfinished, compression="zstd")
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(out)


# ---- what must be true


def _column_faults(table: pa.Table, id_column: str, ignore: Sequence[str]) -> Iterator[str]:
    names = table.column_names
    for name in dict.fromkeys((id_column, *ignore)):
        if name not in names:
            yield f"column {name!r} is missing; there are: {', '.join(names)}"
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            yield f"column {name!r} appears {names.count(name)} times"
    if id_column != "id" and "id" in names and "id" not in ignore:
        yield f"column 'id' would stand beside {id_column!r}, which becomes the id; leave it out (--ignore)"
    for name in names:
        if name not in (id_column, *ignore) and not _can_be_a_feature(table.schema.field(name).type):
            yield f"column {name!r} holds {table.schema.field(name).type}, which is no feature; leave it out (--ignore)"


def _can_be_a_feature(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return _is_text(kind) or _is_number(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)


def _id_faults(ids: Any, name: str) -> Iterator[str]:
    if not len(ids):
        yield "there are no rows"
    if (lost := _mask(pc.is_null(ids))).any():
        yield f"column {name!r} is missing in {_rows(lost)}"
    if (long := _mask(pc.greater(pc.utf8_length(ids), MAX_ID_LENGTH))).any():
        yield f"column {name!r} has more than {MAX_ID_LENGTH} characters in {_rows(long)}"
    encoded = ids.combine_chunks().dictionary_encode()
    codes = np.asarray(pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False))
    again = np.ones(len(codes), dtype=bool)
    again[np.unique(codes, return_index=True)[1]] = False
    if (again := again & (codes >= 0)).any():
        first = ids[int(again.argmax())].as_py()
        yield f"column {name!r} names an activity again in {_rows(again)}, first {first!r}"


def _value_faults(columns: Mapping[str, Any]) -> Iterator[str]:
    for name, column in columns.items():
        if pa.types.is_floating(column.type) and (infinite := _mask(pc.is_inf(column))).any():
            yield f"column {name!r} is infinite in {_rows(infinite)}"


def _model_faults(columns: Mapping[str, Any], features: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    activity = [one for one in features if one["role"] == "activity"]
    if activity and not any(one["name"] in columns for one in activity):
        yield f"none of the model's activity features is a column: {', '.join(one['name'] for one in activity)}"
    for one in activity:
        if one["name"] in columns:
            yield from _type_faults(columns[one["name"]], one["name"], one["type"])
    if any(one["role"] == "derived" for one in features):
        for name in FOR_HISTORIES:
            if name not in columns:
                yield f"column {name!r} is missing, which the model's history features are made of"


def _type_faults(column: Any, name: str, wanted: str) -> Iterator[str]:
    kind = column.type
    if pa.types.is_null(kind):
        return
    if _is_text(kind) != (wanted == "category"):
        yield f"column {name!r} holds {kind} and the model wants a {wanted}"
        return
    if (wrong := _inexact(column, wanted)).any():
        what, whole = ("neither 0 nor 1", "a boolean") if wanted == "boolean" else ("not whole", "an integer")
        yield f"column {name!r} is {what} in {_rows(wrong)} and the model wants {whole}"


def _inexact(column: Any, wanted: str) -> NDArray[np.bool_]:
    """The rows that are no boolean, or no whole number, where that is wanted."""
    if wanted not in ("boolean", "integer"):
        return np.zeros(len(column), dtype=bool)
    numbers = pc.cast(column, pa.float64(), safe=False)
    if wanted == "integer":
        return _mask(pc.not_equal(numbers, pc.floor(numbers)))
    return _mask(pc.and_(pc.not_equal(numbers, 0.0), pc.not_equal(numbers, 1.0)))


# ---- what should be known


def _notes(columns: Mapping[str, Any], features: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    activity = {one["name"]: one for one in features if one["role"] == "activity"}
    if absent := [name for name in activity if name not in columns]:
        yield f"not in the table, so callers send it or it is missing: {', '.join(absent)}"
    for name, one in activity.items():
        if name in columns and one["type"] == "category" and _is_text(columns[name].type):
            yield from _unknown_texts(columns[name], name, one["categories"])


def _unknown_texts(column: Any, name: str, categories: Sequence[str]) -> Iterator[str]:
    unknown = pc.and_(pc.is_valid(column), pc.invert(pc.is_in(column, value_set=pa.array(categories, pa.string()))))
    if rows := int(pc.sum(unknown).as_py() or 0):
        texts = sorted(pc.unique(column.filter(unknown)).to_pylist())
        shown = ", ".join(repr(text) for text in texts[:3]) + (", ..." if len(texts) > 3 else "")
        yield f"column {name!r} holds what the model never saw and takes as missing: {shown} ({rows:,} activities)"


# ---- small things


def _plain(column: Any) -> Any:
    """Texts as strings with the empty one missing, numbers with NaN missing, others as they are."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    if pa.types.is_floating(column.type):
        return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    if _is_text(column.type):
        column = column.cast(pa.string())
        return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    return column


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _mask(column: Any) -> NDArray[np.bool_]:
    """Of a column of truth values, where what is missing is not true."""
    filled = pc.fill_null(column, False)
    flat = filled.combine_chunks() if isinstance(filled, pa.ChunkedArray) else filled
    return np.asarray(flat.to_numpy(zero_copy_only=False), dtype=bool)


def _rows(wrong: NDArray[np.bool_]) -> str:
    """`row 3`, or up to five rows and how many more."""
    numbers = (np.flatnonzero(wrong) + 1).tolist()
    named = ", ".join(f"{number:,}" for number in numbers[:5])
    more = f" and {len(numbers) - 5:,} more" if len(numbers) > 5 else ""
    return f"row {named}" if len(numbers) == 1 else f"rows {named}{more}"
