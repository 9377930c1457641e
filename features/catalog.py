"""The activity catalog: features of every activity that is known before a request comes, held as arrays."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray

from features.events import activity_digest

PART = 1_000  # activities; some 0.5 ms of work


class CatalogError(Exception):
    """The snapshot cannot be used. Names the file, the column and what is wrong with it."""


def _parts(count: int) -> Iterator[slice]:
    """From 0 to `count` in parts: a single call over all of it would let no other thread run."""
    for start in range(0, count, PART):
        yield slice(start, min(start + PART, count))


class Catalog:
    """A snapshot: id -> row, and columns by name.

    `rows` maps an activity's id to its row; `len(catalog)` is the number of activities.
    """

    def __init__(self, table: pa.Table, origin: str = "catalog") -> None:
        if "id" not in table.column_names:
            raise CatalogError(f"{origin}: there is no column `id`")
        column = table.column("id").cast(pa.string())
        ids = [one for part in _parts(len(column)) for one in column[part].to_pylist()]
        self.rows: dict[str, int] = {}
        for part in _parts(len(ids)):
            self.rows.update(zip(ids[part], range(part.start, part.stop), strict=True))
        if None in self.rows or len(self.rows) != len(ids):
            raise CatalogError(
                f"{origin}: column `id` must name each activity once ({len(ids)} rows, {len(self.rows)} ids)"
            )
        self._table = table
        self._origin = origin

    @classmethod
    def read(cls, path: Path) -> "Catalog":
        try:
            return cls(pyarrow.parquet.ParquetFile(path).read(), path.name)
        except (OSError, pa.ArrowException) as error:
            raise CatalogError(f"{path.name}: not a readable parquet file: {error}") from None

    @classmethod
    def empty(cls) -> "Catalog":
        return cls(pa.Table.from_batches([], pa.schema([("id", pa.string())])))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def columns(self) -> frozenset[str]:
        return frozenset(self._table.column_names)

    def matrix(self, columns: Sequence[tuple[str, Sequence[str] | None]]) -> NDArray[np.float64]:
        """Values as a model sees them: shape (len(catalog) + 1, len(columns)), float64.

        A column is (name, categories); with categories, a value is its index among them. What is missing, unseen, or a
        column that the catalog does not have, is NaN. The last row is all NaN: the row of an activity that is unknown.
        """
        values = np.full((len(self) + 1, len(columns)), np.nan)
        for position, (name, categories) in enumerate(columns):
            if name in self.columns:
                values[:-1, position] = self._numbers(name) if categories is None else self._codes(name, categories)
        return values

    def find(self, activity_keys: NDArray[np.uint64]) -> NDArray[np.intp]:
        """The rows of activities by their keys (`features.events.activity_key`); -1 where there is none."""
        keys, rows = self._rows_by_key
        places = np.searchsorted(keys, activity_keys)
        return np.where(keys[places] == activity_keys, rows[places], -1)

    def categories(self, name: str) -> tuple[str, ...]:
        """The values of a column of texts, in sorted order; none when there is no such column."""
        if name not in self.columns:
            return ()
        return tuple(sorted(self._texts(name).unique().drop_null().to_pylist()))

    def value(self, activity: str, name: str) -> Any:
        """One value as it stands in the snapshot; None where the activity, the column or the value is missing."""
        row = self.rows.get(activity)
        return None if row is None or name not in self.columns else self._table.column(name)[row].as_py()

    def _numbers(self, name: str) -> NDArray[np.float64]:
        try:
            numbers = self._table.column(name).cast(pa.float64())
        except pa.ArrowException:
            kind = self._table.schema.field(name).type
            raise CatalogError(f"{self._origin}: column `{name}` must hold numbers, not {kind}") from None
        return _floats(numbers)

    def _codes(self, name: str, categories: Sequence[str]) -> NDArray[np.float64]:
        texts = self._texts(name).combine_chunks().dictionary_encode()
        codes = {category: float(code) for code, category in enumerate(categories)}
        of_text = np.array([codes.get(text, np.nan) for text in texts.dictionary.to_pylist()] + [np.nan])
        places = _floats(texts.indices.cast(pa.float64()))
        values: NDArray[np.float64] = of_text[np.where(np.isnan(places), -1, places).astype(np.intp)]
        return values

    def _texts(self, name: str) -> pa.ChunkedArray:
        values = self._table.column(name)
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        return values.cast(pa.string())

    @cached_property
    def _rows_by_key(self) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
        """Sorted keys and their rows, and one more that ends the search."""
        ids = list(self.rows)
        digests = [b"".join(map(activity_digest, ids[part])) for part in _parts(len(ids))]
        keys = np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)
        rows = np.argsort(keys)
        ordered = keys[rows]
        if len(same := np.flatnonzero(ordered[1:] == ordered[:-1])):
            one, other = (ids[rows[place]] for place in (same[0], same[0] + 1))
            raise CatalogError(f"{self._origin}: {one!r} and {other!r} have one 64-bit digest; rename one of them")
        return np.append(ordered, np.uint64(2**64 - 1)), np.append(rows, -1)


def _floats(column: pa.Array | pa.ChunkedArray) -> NDArray[np.float64]:
    """A column of float64 with NaN for its nulls: pyarrow's `to_numpy`, which takes a second to import pandas first."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    values = np.frombuffer(array.buffers()[1] or b"", dtype=np.float64)[array.offset :][: len(array)]
    if array.null_count == 0:
        return values
    valid = np.from_dlpack(pc.is_valid(array).cast(pa.int8()))
    return np.where(valid, values, np.nan)
