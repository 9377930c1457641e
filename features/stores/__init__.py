"""Where visitor histories are kept: in this process, in a file, in Redis."""

from pathlib import Path

from features.history import Bounds
from features.stores.memory import MemoryStore
from features.stores.protocol import HistoryStore, StoreReadOnly, StoreUnavailable

REDIS = ("redis://", "rediss://", "unix://")

__all__ = ["HistoryStore", "MemoryStore", "StoreReadOnly", "StoreUnavailable", "open_store"]


def open_store(url: str, bounds: Bounds = Bounds()) -> HistoryStore:  # noqa: B008 - immutable
    """The store of a URL: `memory:`, `sqlite:path/to/file`, `redis://host:6379/0` or `feast:path/to/repository`.

    Raises `StoreUnavailable`.
    """
    if url == "memory:":
        return MemoryStore(bounds)
    if url.startswith("sqlite:"):
        from features.stores.sqlite import SqliteStore  # noqa: PLC0415 - whoever keeps histories elsewhere loads less

        return SqliteStore(Path(url.removeprefix("sqlite:")), bounds)
    if url.startswith("feast:"):
        from features.feast import FeastStore  # noqa: PLC0415 - the same

        return FeastStore(Path(url.removeprefix("feast:")), bounds=bounds)
    if not url.startswith(REDIS):  # whose password no message may repeat
        raise StoreUnavailable(f"the URL of the store must start with memory:, sqlite:, feast:, {', '.join(REDIS)}")
    from features.stores.redis import RedisStore  # noqa: PLC0415 - the same

    return RedisStore(url, bounds)
