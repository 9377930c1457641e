"""Tables in a file: written once, when a model is packed, and mapped by every process that serves it.

The file is a magic line, the digest of all that follows it, a line of JSON, and the arrays.
"""

import hashlib
import json
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scoring.errors import StaleTablesError
from scoring.kernels import BLOCK, LANES
from scoring.model_text import ModelText
from scoring.tables import Tables

FORMAT: Final = 1
_MAGIC: Final = b"frontrow tables\n"
_DIGEST_END: Final = len(_MAGIC) + 64 + 1
_ALIGNMENT: Final = 64
_KINDS: Final = {
    name: np.dtype(kind)
    for kind, names in {
        "<f8": ("boundaries", "blocks", "values", "divisor"),
        "<i8": ("block_offsets", "category_offsets", "last_classes", "code_offsets", "column_offsets"),
        "<i4": ("categories",),
        "|u1": ("codes",),
        "<u8": ("nodes",),
        "<u4": ("roots", "depths"),
    }.items()
    for name in names
}


def encode_tables(tables: Tables, *, sha256: str) -> bytes:
    """The file of tables of the model with that sha256."""
    body = bytearray()
    arrays = []
    for name, array in tables._asdict().items():
        body.extend(bytes(-len(body) % _ALIGNMENT))
        arrays.append({"name": name, "dtype": array.dtype.str, "length": array.size, "at": len(body)})
        body.extend(array.tobytes())
    header = json.dumps({"format": FORMAT, "model": sha256, "arrays": arrays}).encode()
    header += b" " * (-(_DIGEST_END + len(header) + 1) % _ALIGNMENT) + b"\n"
    digest = hashlib.sha256(header + body).hexdigest().encode()
    return _MAGIC + digest + b"\n" + header + body


def open_tables(path: Path, model: ModelText) -> Tables:
    """Map a file of tables.

    Raises `StaleTablesError` when it is not whole, of another format or of another model, or when a kernel that
    follows what is in it could read outside of an array.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= _DIGEST_END:
            raise StaleTablesError(f"{path.name} has {size} bytes, which is no file of tables")
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    digest = hashlib.sha256(memoryview(content)[_DIGEST_END:]).hexdigest().encode()
    if content[:_DIGEST_END] != _MAGIC + digest + b"\n":
        raise StaleTablesError(f"{path.name} is damaged: its {size} bytes do not have the digest it names")
    start = content.find(b"\n", _DIGEST_END) + 1
    facts = json.loads(content[_DIGEST_END:start])
    for name, wanted in (("format", FORMAT), ("model", model.sha256)):
        if facts[name] != wanted:
            raise StaleTablesError(f"{path.name} has {name} {facts[name]} and {wanted} is wanted")
    try:
        tables = Tables(**{entry["name"]: _array(content, start, **entry) for entry in facts["arrays"]})
    except (TypeError, ValueError, KeyError) as error:
        raise StaleTablesError(f"{path.name}: {error}") from error
    if faults := list(_faults(tables, model)):
        raise StaleTablesError(f"{path.name} does not hold together: {', '.join(faults)}")
    return tables


def _array(content: mmap.mmap, start: int, *, name: str, dtype: str, length: int, at: int) -> NDArray[Any]:
    if np.dtype(dtype) != _KINDS[name]:
        raise ValueError(f"{name} are {dtype}")
    return np.frombuffer(content, dtype=_KINDS[name], count=length, offset=start + at)


def _faults(tables: Tables, model: ModelText) -> Iterator[str]:
    """Names of the arrays that would lead a kernel astray."""
    offsets = {
        "block_offsets": tables.blocks.size,
        "category_offsets": tables.categories.size,
        "code_offsets": tables.codes.size,
        "column_offsets": tables.columns if tables.column_offsets.size else 0,
    }
    unsound = [name for name, end in offsets.items() if not _is_sound(getattr(tables, name), model.features, end)]
    yield from unsound
    if tables.last_classes.size != model.features:
        yield "last_classes"
    elif not unsound:
        yield from _faults_of_features(tables)
    if tables.nodes.size != sum(2 * tree.leaves - 1 for tree in model.trees) or tables.values.size != tables.nodes.size:
        yield "nodes"
    elif not unsound:
        yield from _faults_of_walk(tables, len(model.trees))
    if tables.divisor.size != 1:
        yield "divisor"


def _is_sound(offsets: NDArray[np.int64], features: int, end: int) -> bool:
    """Whether they never fall, from 0 to `end`."""
    return (
        offsets.size == features + 1 and offsets[0] == 0 and offsets[-1] == end and bool(np.all(np.diff(offsets) >= 0))
    )


def _faults_of_features(tables: Tables) -> Iterator[str]:
    classes = tables.last_classes + 1
    if np.any(classes < 1) or np.any(classes * np.diff(tables.column_offsets) != np.diff(tables.code_offsets)):
        yield "codes"
    known = np.repeat(tables.last_classes, np.diff(tables.category_offsets))
    if np.any(tables.categories < 0) or np.any(tables.categories > known):
        yield "categories"
    if tables.boundaries.size != BLOCK * tables.blocks.size or np.any(tables.block_offsets % BLOCK):
        yield "boundaries"
        return
    if not np.array_equal(tables.blocks, tables.boundaries[BLOCK - 1 :: BLOCK]):
        yield "blocks"
    for feature, (start, end) in enumerate(zip(tables.block_offsets[:-1], tables.block_offsets[1:], strict=True)):
        own = tables.boundaries[start * BLOCK : end * BLOCK]
        finite = np.sum(own < np.inf)
        if own.size and not (
            own[-1] == np.inf and np.all(own[1:] >= own[:-1]) and finite <= tables.last_classes[feature]
        ):
            yield f"boundaries of feature {feature}"


def _faults_of_walk(tables: Tables, trees: int) -> Iterator[str]:
    count = tables.nodes.size
    child, limit, byte = tables.nodes >> 40, tables.nodes >> 32 & 0xFF, tables.nodes & 0xFFFFFFFF
    reaches = child + (limit < 255)  # a leaf's code is never above its limit
    if np.any(reaches >= count) or np.any(byte % LANES) or np.any(byte >= max(tables.columns, 1) * LANES):
        yield "nodes"
    if tables.roots.size != trees or tables.depths.size != trees:
        yield "roots"
    elif np.any(tables.roots >= count) or np.any(tables.depths > (count if tables.columns else 0)):
        yield "depths"
