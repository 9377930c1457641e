"""Where visitor histories are kept: in this process, in a file, in Redis."""

from pathlib import Path

from features.history import Bounds
from features.stores.memory import MemoryStore
from features.stores.protocol import HistoryStore, StoreUnavailable

__all__ = ["HistoryStore", "MemoryStore", "StoreUnavailable", "open_store"]


def open_store(url: str, bounds: Bounds = Bounds()) -> HistoryStore:  # noqa: B008 - immutable
    """The store of a URL: `memory:`, `sqlite:path/to/file` or `redis://host:6379/0`. Raises `StoreUnavailable`."""
    if url == "memory:":
        return MemoryStore(bounds)
    if url.startswith("sqlite:"):
        from features.stores.sqlite import SqliteStore  # noqa: PLC0415 - whoever keeps histories elsewhere loads less

        return SqliteStore(Path(url.removeprefix("sqlite:")), bounds)
    from features.stores.redis import RedisStore  # noqa: PLC0415 - the same

    return RedisStore(url, bounds)
