"""Derived features for training: those that serving would have computed at the time of each impression."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.catalog import Catalog
from features.derived import DerivedFeatures
from features.events import KINDS, MAX_AT, EventError, activity_key
from features.history import NOTHING, History


class Session(NamedTuple):
    """An impression of the past. `moment` is in milliseconds since 1970, UTC; `candidates` are ids.

    A visitor without an id (None) has no history.
    """

    visitor: str | None
    moment: int
    candidates: Sequence[str]


class EventLog:
    """All events of the past, by visitor: each once, in the order that a store has them in.

    events: columns `visitor`, `activity`, `kind` (texts) and `at` (milliseconds since 1970, or a timestamp), in any
        order of rows. Raises `EventError` when a column is missing, or holds what is no event.
    """

    def __init__(self, events: pa.Table) -> None:
        if missing := {"visitor", "activity", "kind", "at"} - set(events.column_names):
            raise EventError(f"the table of events has no column {', '.join(sorted(missing))}")
        visitors = _encoded(events, "visitor")
        activities = _encoded(events, "activity")
        keys = np.array([activity_key(activity) for activity in activities.dictionary.to_pylist()], dtype=np.uint64)
        at, kinds = _times(events.column("at")), _kinds(events.column("kind"))
        columns = np.stack([_codes(visitors), at, kinds, keys[_codes(activities)].view(np.int64)])
        order = np.lexsort((columns[3].view(np.uint64), kinds, at, columns[0]))
        columns = columns[:, order]
        columns = columns[:, np.append(True, (columns[:, 1:] != columns[:, :-1]).any(axis=0))[: columns.shape[1]]]
        self._at, self._kinds = columns[1], columns[2]
        self._activities = columns[3].view(np.uint64)
        ids = visitors.dictionary.to_pylist()
        edges = np.searchsorted(columns[0], np.arange(len(ids) + 1))
        self._spans = {visitor: slice(*edges[code : code + 2].tolist()) for code, visitor in enumerate(ids)}

    def history(self, visitor: str | None) -> History:
        """All events of a visitor, whenever they were."""
        span = None if visitor is None else self._spans.get(visitor)
        return NOTHING if span is None else History(self._at[span], self._kinds[span], self._activities[span])


def point_in_time(
    derived: DerivedFeatures, catalog: Catalog, sessions: Iterable[Session], events: EventLog
) -> Iterator[NDArray[np.float64]]:
    """The derived features of each session, shape (candidates, len(derived.names)): what `derived.values` gives."""
    unknown = len(catalog)
    for session in sessions:
        rows = np.array([catalog.rows.get(activity, unknown) for activity in session.candidates], dtype=np.intp)
        yield derived.values(events.history(session.visitor), session.moment, rows)


def _encoded(events: pa.Table, name: str) -> pa.DictionaryArray:
    column = events.column(name).cast(pa.string())
    if column.null_count:
        raise EventError(f"{column.null_count} events have no {name}")
    return column.combine_chunks().dictionary_encode()


def _codes(encoded: pa.DictionaryArray) -> NDArray[np.int64]:
    return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int64)


def _times(column: pa.ChunkedArray) -> NDArray[np.int64]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ms", column.type.tz), safe=False)
    if column.null_count:
        raise EventError(f"{column.null_count} events have no time")
    at = np.asarray(column.cast(pa.int64()).to_numpy(), dtype=np.int64)
    if len(at) and not 0 <= at.min() <= at.max() < MAX_AT:
        raise EventError(f"times from {at.min()} to {at.max()} ms are not all within 0 to {MAX_AT - 1}")
    return at


def _kinds(column: pa.ChunkedArray) -> NDArray[np.int64]:
    codes = pc.index_in(column.cast(pa.string()), value_set=pa.array(KINDS))
    if codes.null_count:
        raise EventError(f"{codes.null_count} events are none of {', '.join(KINDS)}")
    return np.asarray(codes.to_numpy(), dtype=np.int64)
