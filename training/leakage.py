"""What a table that judges must not share with the table that was learned from, and what both must agree in."""

from collections.abc import Iterator, Sequence
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from registry import Feature
from training.data_tests import named_rows
from training.errors import TableError
from training.features import encode
from training.tables import RankingTable

MAX_UNSEEN = 0.1  # the share of rows with texts that training never saw


def check_test_table(test: RankingTable, learn: RankingTable, features: Sequence[Feature]) -> None:
    """Raise `TableError` unless `test` is a fair judge of a model of these `features` that learns from `learn`."""
    faults = [*_time_faults(test, learn), *_query_faults(test, learn, features), *_text_faults(test, learn, features)]
    if faults:
        raise TableError(test.path, faults)


def _time_faults(test: RankingTable, learn: RankingTable) -> Iterator[str]:
    if test.times is None or learn.times is None:
        return
    last = learn.times.max()
    if (early := test.times < last).any():
        yield (
            f"{early.sum():,} of {test.queries:,} queries were shown before the last one of {learn.path.name}, those "
            f"that start in {_starts(test, early)}; a judge lies in the future of what was learned from"
        )


def _query_faults(test: RankingTable, learn: RankingTable, features: Sequence[Feature]) -> Iterator[str]:
    known = set(_digests(learn, features))
    if (shared := np.array([one in known for one in _digests(test, features)])).any():
        yield (
            f"{shared.sum():,} of {test.queries:,} queries are in {learn.path.name} as well, row for row: those that "
            f"start in {_starts(test, shared)}"
        )


def _digests(table: RankingTable, features: Sequence[Feature]) -> Iterator[bytes]:
    """One digest of all that each query holds."""
    rows = np.column_stack([encode(table, features), table.labels])
    for start, size in zip(table.starts.tolist(), table.sizes.tolist(), strict=True):
        yield blake2b(rows[start : start + size].tobytes(), digest_size=16).digest()


def _text_faults(test: RankingTable, learn: RankingTable, features: Sequence[Feature]) -> Iterator[str]:
    for feature in features:
        if feature.categories is None or feature.role == "derived":
            continue
        column = test.columns[feature.name]
        unseen = pc.and_(pc.is_valid(column), pc.invert(pc.is_in(column, value_set=pa.array(feature.categories))))
        rows = np.asarray(unseen.to_numpy())
        if rows.mean() > MAX_UNSEEN:
            texts = sorted(pc.unique(column.filter(unseen)).to_pylist())
            shown = ", ".join(repr(text) for text in texts[:3])
            yield (
                f"column {feature.name!r} holds {len(texts):,} texts that {learn.path.name} does not have ({shown}) in "
                f"{rows.mean():.0%} of its rows and {MAX_UNSEEN:.0%} may be new: {named_rows(rows)}"
            )


def _starts(table: RankingTable, chosen: NDArray[np.bool_]) -> str:
    """The rows in which these queries start, when the rows of each query are put together."""
    starts = np.zeros(table.rows, dtype=bool)
    starts[table.starts[chosen]] = True
    return named_rows(starts)
