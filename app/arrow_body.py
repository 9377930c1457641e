"""Rankings for bulk callers: candidates as a record batch in an Arrow IPC stream, and the order as another.

Column `id` names the candidates; each other column is one of their features. Whatever else a JSON body says is a JSON
object under the key `frontrow` of the schema's metadata; so is, in an answer, whatever is not the ranking.
"""

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from app.columns import Columns, Floats
from app.errors import Fault, Problem, invalid_request, malformed_arrow, too_many_candidates, unsupported_media
from app.schemas import (
    MAX_CATEGORY_LENGTH,
    MAX_FAULTS,
    MAX_ID_LENGTH,
    SAFE_INTEGER,
    Field,
    FieldType,
    RankRequest,
    RankResponse,
    RequestShape,
    check_unique,
    shown,
)

MEDIA_TYPE: Final = b"application/vnd.apache.arrow.stream"
KEY: Final = b"frontrow"
ID: Final = "id"

_ANSWER: Final = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
    ]
)
_OPTIONS: Final = pa.ipc.IpcReadOptions(ensure_alignment=pa.ipc.Alignment.DataTypeSpecific, use_threads=False)


class Texts(NamedTuple):
    """A column of texts: of each row the place of its text among `values`, -1 where there is none."""

    places: NDArray[np.int64]
    values: Sequence[str | None]

    def numbered(self) -> Floats:
        """The place of each row's text; NaN where there is none."""
        named = [np.nan if text is None else place for place, text in enumerate(self.values)]
        return np.array([*named, np.nan])[self.places]


class ArrowBody:
    """Decodes bodies of one shape. With `one_by_one` candidates are as a JSON body gives them, for rules to look at."""

    def __init__(self, shape: RequestShape, *, one_by_one: bool) -> None:
        self._shape = shape
        self._fields = {field.name: field for field in shape.activity}
        self._columns = {field.name: column for column, field in enumerate(shape.activity)}
        self._one_by_one = one_by_one

    def decode(self, body: bytes) -> RankRequest:
        """The request in `body`.

        Raises `Problem`: 400 for what is no Arrow IPC stream, 413 for too many candidates, 415 for compressed buffers,
        else 422.
        """
        schema, batch = _read(body, self._check_schema)
        if batch.num_rows > self._shape.max_candidates:
            raise too_many_candidates(batch.num_rows, self._shape.max_candidates)
        _check_content(batch)
        head = self._shape.decode_head((schema.metadata or {}).get(KEY, b"{}"))
        candidates = self._candidates(batch)
        check_unique(candidates.ids, f"column {ID}, row {{}}")
        listed = self._listed(batch, candidates.ids) if self._one_by_one else candidates
        return RankRequest(candidates=listed, context=head.context, top_k=head.top_k, explain=head.explain)

    def _check_schema(self, schema: pa.Schema) -> None:
        """Raise the 422 of columns that cannot be read, before anything in them is."""
        faults = [fault for field in schema for fault in self._faults_of_column(field)]
        times = Counter(schema.names)
        if ID not in times:
            faults.append(Fault(_column(ID), "is missing"))
        faults += [Fault(_column(name), f"stands {count} times") for name, count in times.items() if count > 1]
        if faults:
            raise invalid_request(faults[:MAX_FAULTS])

    def _faults_of_column(self, column: pa.Field) -> Iterable[Fault]:
        kind = "id" if column.name == ID else self._fields[column.name].type if column.name in self._fields else None
        if kind is None:
            yield Fault(_column(column.name), "unknown; no running model has such a feature")
        elif not _fits(column.type, kind):
            yield Fault(_column(column.name), f"{_ALLOWED[kind]} is allowed, got {shown(str(column.type))}")

    def _candidates(self, batch: pa.RecordBatch) -> Columns:
        """Typed columns of a valid batch. Raises the 422 of values that a JSON body could not have either."""
        faults: list[Fault] = []
        ids = _ids(batch.column(ID), faults)
        values = np.full((batch.num_rows, len(self._fields)), np.nan)
        texts: dict[int, Sequence[str | None]] = {}
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if name == ID or pa.types.is_null(column.type):
                continue
            field = self._fields[name]
            if field.type == "category":
                found = _texts(column, name, MAX_CATEGORY_LENGTH, faults)
                values[:, self._columns[name]], texts[self._columns[name]] = found.numbered(), found.values
            else:
                values[:, self._columns[name]] = _numbers(column, field, faults)
        if faults:
            raise invalid_request(faults[:MAX_FAULTS])
        bringing = np.flatnonzero(~np.isnan(values).all(axis=1))
        return Columns(self._shape.activity, ids, bringing, values[bringing], texts)

    def _listed(self, batch: pa.RecordBatch, ids: Sequence[str]) -> list[Any]:
        """The candidates one by one, as the rules around scoring want to see them."""
        given = [
            batch.column(field.name).to_pylist() if field.name in batch.schema.names else [None] * len(ids)
            for field in self._shape.activity
        ]
        rows = zip(*given, strict=True) if given else [()] * len(ids)
        make, features = self._shape.candidate_type, self._shape.features_type
        return [
            activity if all(value is None for value in row) else make(id=activity, features=features(*row))
            for activity, row in zip(ids, rows, strict=True)
        ]


def encode(answer: RankResponse) -> bytes:
    """The ranking as a stream of one record batch, and what else the answer says in its metadata."""
    ranking = answer.ranking
    said = {name: getattr(answer, name) for name in RankResponse.__struct_fields__ if name != "ranking"}
    head = {name: value for name, value in said.items() if value is not msgspec.UNSET}
    columns = [
        _text_array([one.id for one in ranking]),
        _number_array(pa.float64(), np.array([one.score for one in ranking], np.float64)),
        _number_array(pa.int32(), np.array([one.position for one in ranking], np.int32)),
    ]
    schema = _ANSWER.with_metadata({KEY: msgspec.json.encode(head)})
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    content: bytes = sink.getvalue().to_pybytes()
    return content


# `pa.array`, `to_numpy` and the like import pandas where it is installed, which takes a second; so they are not used.


def _text_array(texts: Sequence[str]) -> pa.Array:
    encoded = [text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)))


def _number_array(kind: pa.DataType, values: NDArray[Any]) -> pa.Array:
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])


def _values(column: pa.Array) -> NDArray[Any]:
    """A copy of a column of numbers or booleans; what stands in the place of a null is anything."""
    content = column.buffers()[1] or pa.py_buffer(b"")
    bare = pa.Array.from_buffers(column.type, len(column), [None, content], offset=column.offset)
    return np.from_dlpack(bare.cast(pa.int8()) if pa.types.is_boolean(bare.type) else bare).copy()


def _missing(column: pa.Array) -> NDArray[np.bool_]:
    return _values(column.is_null()).astype(np.bool_) if column.null_count else np.zeros(len(column), np.bool_)


# ---- the stream ----


def _read(body: bytes, check: Callable[[pa.Schema], None]) -> tuple[pa.Schema, pa.RecordBatch]:
    """The schema and the one record batch of a stream; nothing in the batch is looked at before `check` passed."""
    try:
        _check_messages(body)
        reader = pa.ipc.open_stream(pa.py_buffer(body), options=_OPTIONS)
        schema = reader.schema
        check(schema)
        batch = next(iter(reader), None)
    except Problem:
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError, struct.error) as error:
        raise malformed_arrow("the body is not an Arrow IPC stream") from error
    if batch is None:  # a writer that was given no rows
        batch = pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)
    return schema, batch


def _check_content(batch: pa.RecordBatch) -> None:
    """Raise the 400 of buffers that lie: of offsets, indices and texts that point out of them or are not UTF-8."""
    try:
        batch.validate(full=True)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise malformed_arrow("a column of the record batch is damaged") from error


def _check_messages(body: bytes) -> None:
    """Raise the 415 of compressed buffers, which could be made to take any memory, and the 422 of several batches."""
    batches = 0
    for message in pa.ipc.MessageReader.open_stream(pa.py_buffer(body)):
        batches += message.type == "record batch"
        if message.type in ("record batch", "dictionary") and _is_compressed(message.metadata.to_pybytes()):
            raise unsupported_media("the buffers of an Arrow IPC stream must not be compressed")
    if batches > 1:
        raise invalid_request([Fault("$", f"one record batch is allowed, got {batches}")])


def _is_compressed(metadata: bytes) -> bool:
    """Whether a message's flatbuffer (Message.fbs of Arrow) names a codec, which pyarrow does not tell."""
    (root,) = struct.unpack_from("<I", metadata)
    header = _child(metadata, root, 2)
    (kind,) = struct.unpack_from("<B", metadata, _place(metadata, root, 1))
    if kind == _DICTIONARY_BATCH:
        header = _child(metadata, header, 1)
    return _place(metadata, header, 3) != 0


_DICTIONARY_BATCH: Final = 2  # of MessageHeader


def _place(data: bytes, table: int, field: int) -> int:
    """Where a field of a flatbuffer's table lies; 0 when it is absent."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if 4 + 2 * field >= struct.unpack_from("<H", data, vtable)[0]:
        return 0
    offset: int = struct.unpack_from("<H", data, vtable + 4 + 2 * field)[0]
    return table + offset if offset else 0


def _child(data: bytes, table: int, field: int) -> int:
    place = _place(data, table, field)
    offset: int = struct.unpack_from("<I", data, place)[0]
    return place + offset


# ---- columns ----


_ALLOWED: Final[dict[FieldType | str, str]] = {
    "id": "string, large_string or a dictionary of them",
    "category": "string, large_string or a dictionary of them",
    "number": "an integer or floating type",
    "integer": "an integer or floating type",
    "boolean": "bool",
}


def _fits(column: pa.DataType, kind: FieldType | str) -> bool:
    types = pa.types
    fits: bool
    if types.is_null(column):
        fits = kind != "id"
    elif kind == "boolean":
        fits = types.is_boolean(column)
    elif kind in ("number", "integer"):
        fits = types.is_integer(column) or types.is_floating(column)
    else:
        plain = column.value_type if types.is_dictionary(column) else column
        fits = types.is_string(plain) or types.is_large_string(plain)
    return fits


def _numbers(column: pa.Array, field: Field, faults: list[Fault]) -> Floats:
    given = _values(column)
    given[_missing(column)] = 0
    values: Floats = given.astype(np.float64)
    finite = np.isfinite(values)
    _note(faults, field.name, ~finite, "is not a finite number")
    if field.type == "integer":
        _note(faults, field.name, finite & (np.trunc(values) != values), "a whole number is allowed")
        exact = given if given.dtype.kind in "iu" else values
        beyond = (exact < -SAFE_INTEGER) | (exact > SAFE_INTEGER)
        _note(faults, field.name, finite & beyond, f"at most {SAFE_INTEGER} from zero is allowed")
    values[_missing(column)] = np.nan
    return values


def _texts(column: pa.Array, name: str, longest: int, faults: list[Fault]) -> Texts:
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    values: list[str | None] = column.dictionary.to_pylist()
    places = _values(column.indices.cast(pa.int64()))
    places[_missing(column.indices)] = -1
    texts = Texts(places, values)
    too_long = np.array([*(text is not None and len(text) > longest for text in values), False])
    if too_long.any():
        _note(faults, name, too_long[texts.places], f"at most {longest} characters are allowed")
    return texts


def _ids(column: pa.Array, faults: list[Fault]) -> list[str]:
    if pa.types.is_dictionary(column.type):
        places, values = _texts(column, ID, MAX_ID_LENGTH, faults)
        found = np.array([*values, None], object)[places].tolist()
    else:
        found = column.to_pylist()
    ids: list[str] = [one or "" for one in found] if None in found else found
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    wrong = (lengths < 1) | (lengths > MAX_ID_LENGTH)
    _note(faults, ID, wrong, f"a text of 1 to {MAX_ID_LENGTH} characters is allowed")
    return ids


def _note(faults: list[Fault], name: str, wrong: NDArray[np.bool_], message: str) -> None:
    rows = np.flatnonzero(wrong)[:MAX_FAULTS].tolist()
    faults += [Fault(f"{_column(name)}, row {row}", message) for row in rows]


def _column(name: str) -> str:
    return f"column {shown(name)}"
