"""Ranking tables: candidates as rows, tested before anything learns from them."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from registry import Feature
from training.data_tests import table_faults
from training.errors import TableError
from training.files import Columns, Format, Parts, read_parts


class Impressions(NamedTuple):
    """Who was shown what, and when: a visitor and a moment for each query, an activity for each row.

    Moments are milliseconds since 1970, UTC. None is a visitor without an id.
    """

    visitors: list[str | None]
    moments: NDArray[np.int64]
    activities: list[str]


@dataclass(frozen=True)
class RankingTable:
    """Candidates as rows, those of one query next to each other, queries in the order of their first row.

    `columns` holds the feature columns only. `sizes` are the rows of each query and add up to `rows`; `times` is one
    point in time for each query (the earliest of its rows) where a time column was named. `digest` is the sha256 of
    the bytes that were read. Only a `named` table says something about its columns; svmlight's are numbers.
    `derived` are the features among `columns` that came from histories (`training.history`).
    """

    path: Path
    named: bool
    columns: pa.Table
    labels: NDArray[np.int64]
    sizes: NDArray[np.int64]
    times: NDArray[np.float64] | None
    digest: str
    impressions: Impressions | None = None
    derived: tuple[Feature, ...] = ()

    @property
    def rows(self) -> int:
        return len(self.labels)

    @property
    def queries(self) -> int:
        return len(self.sizes)

    @property
    def starts(self) -> NDArray[np.int64]:
        """The first row of each query."""
        return np.cumsum(self.sizes) - self.sizes

    def rows_of(self, queries: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row numbers of these queries, in the order of the table."""
        wanted = np.zeros(self.queries, dtype=bool)
        wanted[queries] = True
        return np.flatnonzero(np.repeat(wanted, self.sizes))


def read_table(
    path: Path,
    *,
    columns: Columns = Columns(),  # noqa: B008 - immutable
    form: Format = "auto",
    width: int | None = None,
) -> RankingTable:
    """Read a table and test it.

    `auto` goes by the name: `.parquet` and `.csv` (also `.csv.gz`) are what they say and anything else is svmlight,
    whose queries come from `qid:` or from a file of the same name plus `.query`. svmlight features are named `f0`,
    `f1`, ... by their index, absent values are zeros, and `width` (the training table's) drops or fills up columns.

    Raises `TableError` with every fault that was found.
    """
    parts = read_parts(path, columns, form, width)
    if faults := list(table_faults(parts, columns, now=int(1e3 * time.time()))):
        raise TableError(path, faults)
    return _in_query_order(path, parts)


def _in_query_order(path: Path, parts: Parts) -> RankingTable:
    order = np.argsort(parts.queries, kind="stable")
    moved = bool((order[1:] < order[:-1]).any())
    sizes = np.bincount(parts.queries)
    return RankingTable(
        path=path,
        named=parts.named,
        columns=parts.features.take(pa.array(order)) if moved else parts.features,
        labels=parts.labels[order].astype(np.int64),
        sizes=sizes,
        times=None if parts.times is None else _earliest(parts.times[order], sizes),
        digest=parts.digest,
        impressions=_impressions(parts, order, sizes),
    )


def _impressions(parts: Parts, order: NDArray[np.int64], sizes: NDArray[np.int64]) -> Impressions | None:
    if parts.visitors is None or parts.activities is None or parts.moments is None:
        return None
    firsts = order[np.cumsum(sizes) - sizes]
    return Impressions(
        parts.visitors.take(pa.array(firsts)).to_pylist(),
        _earliest(parts.moments[order], sizes),
        parts.activities.take(pa.array(order)).to_pylist(),
    )


def _earliest(values: NDArray[Any], sizes: NDArray[np.int64]) -> NDArray[Any]:
    """The least value of each query."""
    least: NDArray[Any] = np.minimum.reduceat(values, np.cumsum(sizes) - sizes)
    return least
