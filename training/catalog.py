"""Activity catalogs: the features of activities, which are packed with a model for serving."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from registry import Feature
from training.errors import TableError
from training.tables import is_text


def check_catalog(path: Path, features: Sequence[Feature]) -> None:
    """Raise `TableError` unless the catalog has unique text ids and its features are of the model's kinds."""
    try:
        catalog = pyarrow.parquet.read_table(path)
    except pa.ArrowInvalid as error:
        raise TableError(path, [f"not readable as parquet: {error}"]) from error
    if "id" not in catalog.column_names or not is_text(catalog["id"].type):
        raise TableError(path, ["there must be a column 'id' of texts"])
    faults = []
    rows, ids = catalog.num_rows, pc.count_distinct(catalog["id"]).as_py()
    if ids != rows:
        faults.append(f"column 'id' has {ids:,} different texts in {rows:,} rows")
    activity = [feature for feature in features if feature.role == "activity"]
    known = [feature for feature in activity if feature.name in catalog.column_names]
    if activity and not known:
        faults.append("none of the model's activity features is a column")
    for feature in known:
        kind = catalog[feature.name].type
        if is_text(kind) != (feature.type == "category"):
            faults.append(f"column {feature.name!r} holds {kind} and the model wants a {feature.type}")
    if faults:
        raise TableError(path, faults)
