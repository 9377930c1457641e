"""Activity catalogs: the features of activities, which are packed with a model for serving."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from registry import Feature
from training.errors import TableError
from training.files import plain_texts, read_arrow


def catalog_columns(path: Path) -> frozenset[str]:
    """Name the columns of a catalog: whatever of them is a feature belongs to activities."""
    return frozenset(read_arrow(path, "parquet").column_names)


def check_catalog(path: Path, features: Sequence[Feature]) -> None:
    """Raise `TableError` unless the catalog has unique text ids and its features are of the model's kinds."""
    read = read_arrow(path, "parquet")
    catalog = {name: plain_texts(read[name]) for name in read.column_names}
    if "id" not in catalog or not pa.types.is_string(catalog["id"].type):
        raise TableError(path, ["there must be a column 'id' of texts"])
    faults = []
    rows, ids = read.num_rows, pc.count_distinct(catalog["id"]).as_py()
    if ids != rows:
        faults.append(f"column 'id' has {ids:,} different texts in {rows:,} rows")
    activity = [feature for feature in features if feature.role == "activity"]
    known = [feature for feature in activity if feature.name in catalog]
    if activity and not known:
        faults.append("none of the model's activity features is a column")
    for feature in known:
        kind = catalog[feature.name].type
        if pa.types.is_string(kind) != (feature.type == "category"):
            faults.append(f"column {feature.name!r} holds {kind} and the model wants a {feature.type}")
    if faults:
        raise TableError(path, faults)
