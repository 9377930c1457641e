"""Histories in training: the derived features of each impression, as serving would have computed them at its moment."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features import Catalog, Declared, DerivedFeatures, EventError, EventLog, Session, declare, point_in_time
from registry import Feature
from training.data_tests import named_rows
from training.errors import TableError
from training.files import read_arrow
from training.tables import RankingTable

MAX_STRANGERS = 0.5  # the share of rows whose activity the catalog does not know


def read_events(path: Path) -> EventLog:
    """All events of a parquet or CSV file with the columns visitor, activity, kind and at. Raises `TableError`."""
    events = read_arrow(path, "csv" if ".csv" in path.suffixes else "parquet")
    try:
        return EventLog(events)
    except (EventError, pa.ArrowException) as error:
        raise TableError(path, [str(error)]) from error


def with_history(table: RankingTable, catalog: Catalog, events: EventLog) -> RankingTable:
    """Append the derived features to a table that was read with its impressions.

    Only events strictly before an impression count. What has no value in any row, because the catalog lacks what it is
    made of, is left out. Raises `TableError` where the table has a column of such a name already.
    """
    assert table.impressions is not None, "the table was read without the columns of visitor and activity"
    declared = declare(catalog)
    names = table.columns.column_names
    if taken := [one.name for one in declared if one.name in names]:
        raise TableError(
            table.path,
            [f"column {name!r} has the name of a derived feature; leave it out (--ignore)" for name in taken],
        )
    derived = DerivedFeatures({one.name: one.categories for one in declared}, catalog)
    values = np.concatenate(list(point_in_time(derived, catalog, sessions(table), events)))
    return _append(table, declared, values)


def sessions(table: RankingTable) -> list[Session]:
    """The queries of a table as impressions of the past, in their order."""
    shown = table.impressions
    assert shown is not None
    edges = zip(table.starts.tolist(), (table.starts + table.sizes).tolist(), strict=True)
    return [
        Session(visitor, moment, shown.activities[start:stop])
        for visitor, moment, (start, stop) in zip(shown.visitors, shown.moments.tolist(), edges, strict=True)
    ]


def _name_faults(table: RankingTable, declared: Sequence[Declared]) -> Iterator[str]:
    for one in declared:
        if one.name in table.columns.column_names:
            yield f"column {one.name!r} has the name of a derived feature; leave it out (--ignore)"


def _join_faults(table: RankingTable, catalog: Catalog, events: EventLog) -> Iterator[str]:
    shown = table.impressions
    assert shown is not None, "the table was read without the columns of visitor and activity"
    strangers = np.array([activity not in catalog.rows for activity in shown.activities])
    if strangers.mean() > MAX_STRANGERS:
        yield (
            f"the catalog lacks the activities of {strangers.mean():.0%} of the rows and may lack {MAX_STRANGERS:.0%}: "
            f"{named_rows(strangers)} (queries put together)"
        )
    if not any(len(events.history(visitor).at) for visitor in set(shown.visitors)):
        yield f"none of its {len(set(shown.visitors)):,} visitors has an event: {', '.join(_some(shown.visitors))}"


def _some(visitors: Sequence[str | None]) -> list[str]:
    """Three of them, to be compared with those of the events."""
    return [repr(visitor) for visitor in dict.fromkeys(visitors)][:3]


def _append(table: RankingTable, declared: Sequence[Declared], values: NDArray[np.float64]) -> RankingTable:
    columns, features = table.columns, []
    for one, column in zip(declared, values.T, strict=True):
        if not np.isnan(column).all():
            features.append(Feature(one.name, "derived", one.type, one.categories))
            columns = columns.append_column(one.name, _arrow(one.categories, column))
    return replace(table, columns=columns, derived=tuple(features))


def _arrow(categories: Sequence[str] | None, column: NDArray[np.float64]) -> pa.Array:
    if categories is None:
        return pa.array(np.ascontiguousarray(column))
    missing = np.isnan(column)
    codes = pa.array(np.where(missing, 0, column).astype(np.int64), mask=missing)
    return pa.array(categories, pa.string()).take(codes)
