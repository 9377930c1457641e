"""Visitor histories that somebody else keeps in a Feast online store, read-only.

A team that has Feast has a pipeline that writes to it. What it writes for this is a feature view with one entity, the
visitor's key as hexadecimal text (`visitor_key(visitor).hex()`), and three arrays of equal length, oldest event first
or not: `at` (Int64, milliseconds since 1970), `kind` and `activity` (String). docs/features.md has an example.
"""

import asyncio
import importlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from features.events import Event, EventError, Kind, oldest_record, record
from features.history import Bounds, merge
from features.stores.protocol import StoreReadOnly, StoreUnavailable

FIELDS = ("at", "kind", "activity")
GARBLED = b"garbled"  # what no store gives: the visitor's rankings are degraded


class FeastStore:
    """The `HistoryStore` of a Feast repository: `fetch` is one `get_online_features` for a whole batch.

    repo: the folder with `feature_store.yaml`. view: the feature view. Raises `StoreUnavailable` when Feast is not
    installed, or has no such view.
    """

    name = "feast"

    def __init__(
        self,
        repo: Path,
        view: str = "visitor_events",
        bounds: Bounds = Bounds(),  # noqa: B008 - immutable
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._bounds = bounds
        self._clock = clock
        self._fields = [f"{view}:{field}" for field in FIELDS]
        try:
            self._store: Any = importlib.import_module("feast").FeatureStore(repo_path=str(repo))
            (self._entity,) = self._store.get_feature_view(view).join_keys
        except ImportError as error:
            raise StoreUnavailable("Feast is not installed here; it is the extra `frontrow[feast]`") from error
        except Exception as error:
            raise StoreUnavailable(f"no view {view!r} of one entity in the Feast repository {repo}: {error}") from error

    async def fetch(self, visitors: Sequence[bytes]) -> list[bytes | None]:
        """Read all visitors in one call, in a thread: the SDK blocks. Raises `StoreUnavailable`."""
        rows = [{self._entity: visitor.hex()} for visitor in visitors]
        try:
            answer = await asyncio.to_thread(self._read, rows)
        except Exception as error:
            raise StoreUnavailable(f"the Feast online store failed: {type(error).__name__}: {error}") from error
        oldest = oldest_record(int(1e3 * self._clock()) - self._bounds.ttl_ms)
        arrays = zip(*(answer[field] for field in FIELDS), strict=True)
        return [self._packed(visitor, fields, oldest) for visitor, fields in zip(visitors, arrays, strict=True)]

    async def append(self, events: Sequence[Event]) -> None:
        raise StoreReadOnly("histories in Feast are written by the pipeline that owns them; send events there")

    async def delete(self, visitor: bytes) -> None:
        raise StoreReadOnly("histories in Feast are deleted by the pipeline that owns them")

    async def ping(self) -> None:
        await self.fetch([bytes(16)])

    async def close(self) -> None:
        await self._store.close()

    def _read(self, rows: list[dict[str, str]]) -> Mapping[str, list[Any]]:
        return cast("Mapping[str, list[Any]]", self._store.get_online_features(self._fields, rows).to_dict())

    def _packed(self, visitor: bytes, fields: tuple[Any, ...], oldest: bytes) -> bytes | None:
        """What every other store would have kept for these events."""
        if fields[0] is None:
            return None
        try:
            return merge(None, list(_records(*fields)), visitor, limit=self._bounds.events, oldest=oldest)
        except (EventError, TypeError, ValueError):
            return GARBLED


def _records(at: Sequence[int], kinds: Sequence[Kind], activities: Sequence[str]) -> Iterator[bytes]:
    for moment, kind, activity in zip(at, kinds, activities, strict=True):
        yield record(Event("", activity, kind, int(moment)))
