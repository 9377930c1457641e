"""A real local Feast repository: registry and online store are files in a folder."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from features.events import Event, visitor_key

CONFIGURATION = """
project: marketplace
registry: registry.db
provider: local
online_store: {type: sqlite, path: online.db}
offline_store: {type: file}
entity_key_serialization_version: 3
"""


def make_repo(folder: Path) -> Any:
    """The feature store of a new repository with the view that `FeastStore` reads."""
    import pandas as pd
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
    from feast.types import Array, Int64, String

    (folder / "feature_store.yaml").write_text(CONFIGURATION)
    columns = {"visitor": ["x"], "at": [[0]], "kind": [["view"]], "activity": [["A"]]}
    pd.DataFrame(columns | {"written_at": [datetime.now(UTC)]}).to_parquet(folder / "events.parquet")
    visitor = Entity(name="visitor", join_keys=["visitor"], value_type=ValueType.STRING)
    view = FeatureView(
        name="visitor_events",
        entities=[visitor],
        ttl=timedelta(days=30),
        schema=[
            Field(name="at", dtype=Array(Int64)),
            Field(name="kind", dtype=Array(String)),
            Field(name="activity", dtype=Array(String)),
        ],
        source=FileSource(path=str(folder / "events.parquet"), timestamp_field="written_at"),
    )
    store = FeatureStore(repo_path=str(folder))
    store.apply([visitor, view])
    return store


def put(store: Any, events: Mapping[str, Sequence[Event]]) -> None:
    """Write the histories of visitors as their pipeline would."""
    import pandas as pd

    rows = [
        {
            "visitor": visitor_key(visitor).hex(),
            "at": [event.at for event in several],
            "kind": [event.kind for event in several],
            "activity": [event.activity for event in several],
            "written_at": datetime.now(UTC),
        }
        for visitor, several in events.items()
    ]
    store.write_to_online_store("visitor_events", pd.DataFrame(rows))
