"""Sessions of the past to send to a service again, with the rows that training computed for them.

A service that was sent every event before a session, and then the session's request, has to score exactly its `rows`.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray

from features import Bounds, Catalog, DerivedFeatures, Event, History
from registry import Feature, Value
from training.demo import COLUMNS, Marketplace
from training.errors import ReplayError
from training.features import encode, readable
from training.history import read_events, sessions, with_history
from training.tables import read_table

Floats = NDArray[np.float64]


class Replayed(NamedTuple):
    """A session, and what happened since the one before.

    moment: when it took place, milliseconds since 1970. events: of all visitors, in order of time, all before `moment`;
    together with those of the sessions before it they are everything that counts. body: the request for `/v1/rank`;
    in every third one candidates bring features of their own.
    """

    visitor: str
    moment: int
    events: tuple[Event, ...]
    body: dict[str, Any]


class Replay:
    """The last `count` sessions of a demo marketplace, which no model learned from, in order of time.

    features: what requests may carry, of all models that the service runs. ends_at: the moment to which the last
        session is shifted, and all others and the events with it, in milliseconds since 1970; None leaves them as they
        are. Ages, and so rows, are the same for any shift.

    Raises `ReplayError` when there are fewer sessions.
    """

    def __init__(
        self, market: Marketplace, features: Sequence[Feature], *, count: int = 1_000, ends_at: int | None = None
    ) -> None:
        self._catalog = Catalog.read(market.catalog)
        self._log = read_events(market.events)
        self._table = with_history(read_table(market.latest, columns=COLUMNS), self._catalog, self._log)
        if self._table.queries < count:
            raise ReplayError(
                f"{market.latest.name} has {self._table.queries:,} sessions and {count:,} are to be replayed"
            )
        self._past = sessions(self._table)
        self._queries = sorted(range(len(self._past)), key=lambda query: self._past[query].moment)[-count:]
        self._shift = 0 if ends_at is None else ends_at - self._past[self._queries[-1]].moment
        self._matrices: dict[tuple[Feature, ...], Floats] = {}
        moments = [self._past[query].moment for query in self._queries]
        told = _events_between(pyarrow.parquet.read_table(market.events), moments, self._shift)
        self.sessions = [
            Replayed(
                self._past[query].visitor or "",
                self._past[query].moment + self._shift,
                events,
                self._body(query, features, inline=place % 3 == 2),
            )
            for place, (query, events) in enumerate(zip(self._queries, told, strict=True))
        ]

    def rows(self, place: int, features: Sequence[Feature], moment: int | None = None) -> Floats:
        """The rows that a model of these `features` scores for `sessions[place]`: (candidates, features).

        Without a moment they are those of the training table. With one, the derived features are those of that moment,
        which is what a service with a clock of its own has: `Visitor.moment` of its ranking.
        """
        query = self._queries[place]
        rows = self._matrix(features)[self._span(query)].copy()
        derived = [(column, one) for column, one in enumerate(features) if one.role == "derived"]
        if moment is not None and derived:
            made = DerivedFeatures({one.name: one.categories for _, one in derived}, self._catalog)
            activities = [self._catalog.rows.get(one, len(self._catalog)) for one in self._past[query].candidates]
            values = made.values(self._told(query), moment, np.array(activities, dtype=np.intp))
            rows[:, [column for column, _ in derived]] = values
        return rows

    def _told(self, query: int) -> History:
        """The visitor's events before the session, at the times at which the service was told that they were."""
        session = self._past[query]
        history = self._log.history(session.visitor)
        part = slice(0, int(history.at.searchsorted(session.moment)))
        return History(history.at[part] + self._shift, history.kinds[part], history.activities[part])

    def _matrix(self, features: Sequence[Feature]) -> Floats:
        key = tuple(features)
        if key not in self._matrices:
            self._matrices[key] = encode(self._table, key)
        return self._matrices[key]

    def _span(self, query: int) -> slice:
        start = int(self._table.starts[query])
        return slice(start, start + int(self._table.sizes[query]))

    def _body(self, query: int, features: Sequence[Feature], *, inline: bool) -> dict[str, Any]:
        rows = readable(self._matrix(features)[self._span(query)], features)
        ids = self._past[query].candidates
        return {
            "context": _of_role(rows[0], features, "context"),
            "candidates": [
                {"id": activity, "features": _of_role(row, features, "activity")} if inline else activity
                for activity, row in zip(ids, rows, strict=True)
            ],
        }


def _of_role(row: dict[str, Value], features: Sequence[Feature], role: str) -> dict[str, Value]:
    return {one.name: row[one.name] for one in features if one.role == role and one.name in row}


def _events_between(events: pa.Table, moments: Sequence[int], shift: int) -> Iterator[tuple[Event, ...]]:
    """For each moment the events between the one before and it; for the first, all that may count at it."""
    at = events["at"].cast(pa.int64())
    ordered = events.set_column(events.schema.get_field_index("at"), "at", at).take(pc.sort_indices(at))
    times = np.asarray(ordered["at"].to_numpy())
    for start, stop in pairwise(times.searchsorted([*chain([moments[0] - Bounds().ttl_ms], moments)]).tolist()):
        part = ordered.slice(start, stop - start)
        yield tuple(
            Event(visitor, activity, kind, moment + shift)
            for visitor, activity, kind, moment in zip(
                *(part[name].to_pylist() for name in ("visitor", "activity", "kind", "at")), strict=True
            )
        )
