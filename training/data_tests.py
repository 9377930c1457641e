"""Data tests: what must be true of a table before anything learns from it, written down in one place.

Each test gives a sentence for each fault: the column, what is wrong with it, and the rows (counted from 1). What looks
like a feature but is none, because it is constant, tells the label, or names things, stops the run as well: whoever
trains has to leave it out by name (`--ignore`), rather than not notice it.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from training.files import Columns, Parts

Mask = NDArray[np.bool_]

MAX_LABEL = 30  # LightGBM's default label_gain has 31 entries
MAX_QUERY_ROWS = 10_000  # LightGBM refuses longer queries
MAX_QUERY_MS = 24 * 3_600_000  # rows of one query are shown together
MAX_CATEGORIES = 1_000  # more different texts than this are identifiers, and memorising them is not ranking
MAX_MISSING = 0.98
FEWEST_PREFERENCES = 0.01  # the share of queries with something to learn from
BITS_OF_A_LEAK = 40  # a feature that tells the label by chance would need such luck: 1 in 2^40
MAX_EXACT = 2**53  # whole numbers that a double tells apart
MARKS_OF_MISSING = (-999, -9_999, -99_999, -999_999)
YEAR_2000_MS = 946_684_800_000


def table_faults(parts: Parts, columns: Columns, *, now: int) -> Iterator[str]:
    """Run all tests of one table. `now` is in milliseconds since 1970."""
    if not len(parts.labels):
        yield "there are no rows"
        return
    yield from _label_faults(parts.labels, columns.label)
    yield from _query_faults(parts, columns.query, columns.label)
    yield from _time_faults(parts, columns, now)
    yield from _id_faults(parts, columns)
    sound = bool((parts.queries >= 0).all() and not np.isnan(parts.labels).any())
    for name in parts.features.column_names:
        faults = list(_feature_faults(name, parts.features[name], named=parts.named))
        yield from faults
        if sound and not faults:
            yield from _leak_faults(name, parts.features[name], parts)


def named_rows(wrong: Mask) -> str:
    """`row 3`, `rows 3, 8 and 11`, or the first five and how many more."""
    numbers = (np.flatnonzero(wrong) + 1).tolist()
    if len(numbers) == 1:
        return f"row {numbers[0]:,}"
    named = [f"{number:,}" for number in numbers[:5]]
    rest = f"{len(numbers) - 5:,} more" if len(numbers) > 5 else named.pop()
    return f"rows {', '.join(named)} and {rest}"


# ---- labels and queries


def _label_faults(labels: NDArray[np.float64], name: str) -> Iterator[str]:
    missing = np.isnan(labels)
    tests = {
        "missing": missing,
        "negative": labels < 0,
        "not a whole number": ~missing & (labels != np.floor(labels)),
        f"above {MAX_LABEL}, LightGBM's highest label,": labels > MAX_LABEL,
    }
    yield from (f"column {name!r} is {what} in {named_rows(wrong)}" for what, wrong in tests.items() if wrong.any())
    if not (labels > 0).any():
        yield f"column {name!r} is nowhere above 0, so there is nothing to learn"


def _query_faults(parts: Parts, name: str, label: str) -> Iterator[str]:
    if (lost := parts.queries < 0).any():
        yield f"column {name!r} is missing in {named_rows(lost)}"
        return
    sizes = np.bincount(parts.queries)
    preferences = _preferences(parts.queries, parts.labels)
    if sizes.max() == 1:
        yield f"all {len(sizes):,} queries have one row only, so nothing is ranked; is {name!r} the query column?"
    elif not preferences.any():
        yield "in no query do labels differ between rows, so there is nothing to learn"
    elif preferences.mean() < FEWEST_PREFERENCES:
        yield (
            f"column {label!r} differs between rows in only {preferences.sum():,} of {len(sizes):,} queries, those "
            f"that start in {_starts(preferences, parts.queries)}; {FEWEST_PREFERENCES:.0%} should teach something"
        )
    if sizes.max() > MAX_QUERY_ROWS:
        row = int(np.flatnonzero(parts.queries == sizes.argmax())[0]) + 1
        yield f"the query that starts in row {row:,} has {sizes.max():,} rows and LightGBM takes {MAX_QUERY_ROWS:,}"


def _preferences(queries: NDArray[np.int64], labels: NDArray[np.float64]) -> Mask:
    """Whether the labels of each query differ."""
    least, most = _extremes(labels, queries)
    return most > least


def _extremes(values: NDArray[np.float64], queries: NDArray[np.int64]) -> tuple[NDArray[np.float64], ...]:
    """The least and the greatest value of each query; missing ones do not count."""
    queries_count = int(queries.max()) + 1
    least, most = np.full(queries_count, np.inf), np.full(queries_count, -np.inf)
    np.fmin.at(least, queries, values)
    np.fmax.at(most, queries, values)
    return least, most


# ---- times and ids


def _time_faults(parts: Parts, columns: Columns, now: int) -> Iterator[str]:
    if parts.times is not None and (lost := np.isnan(parts.times)).any():
        yield f"column {columns.time!r} is missing in {named_rows(lost)}"
    elif parts.moments is not None:
        if (later := parts.moments > now).any():
            yield f"column {columns.time!r} is in the future in {named_rows(later)}"
        if (early := parts.moments < YEAR_2000_MS).any():
            yield f"column {columns.time!r} is before the year 2000 in {named_rows(early)}; are its units right?"
        if (parts.queries >= 0).all():
            yield from _spread_faults(parts.moments, parts.queries, columns)


def _spread_faults(moments: NDArray[np.int64], queries: NDArray[np.int64], columns: Columns) -> Iterator[str]:
    least, most = _extremes(moments.astype(np.float64), queries)
    if (wide := most - least > MAX_QUERY_MS).any():
        days = (most - least).max() / MAX_QUERY_MS
        yield (
            f"column {columns.time!r} differs by up to {days:,.0f} days within {wide.sum():,} queries, those that "
            f"start in {_starts(wide, queries)}; is {columns.query!r} one search of one visitor?"
        )


def _id_faults(parts: Parts, columns: Columns) -> Iterator[str]:
    queries = parts.queries
    if (queries < 0).any():
        return
    if parts.visitors is not None:
        visitors = _codes(parts.visitors).astype(np.float64)
        if (several := _preferences(queries, visitors)).any():
            yield (
                f"column {columns.visitor!r} names several visitors in {several.sum():,} queries, those that start in "
                f"{_starts(several, queries)}"
            )
    if parts.activities is not None:
        activities = _codes(parts.activities)
        if (lost := activities < 0).any():
            yield f"column {columns.activity!r} is missing in {named_rows(lost)}"
        if (again := _repeated(queries, activities)).any():
            yield f"column {columns.activity!r} names an activity again in its query in {named_rows(again)}"


def _repeated(queries: NDArray[np.int64], ids: NDArray[np.int64]) -> Mask:
    """The rows whose id stands in an earlier row of their query."""
    pairs = queries * (ids.max() + 2) + ids
    again = np.ones(len(pairs), dtype=bool)
    again[np.unique(pairs, return_index=True)[1]] = False
    return again & (ids >= 0)


# ---- features


def _feature_faults(name: str, column: Any, *, named: bool) -> Iterator[str]:
    if re.search(r'[\s,:\[\]{}"]', name) or not name:
        yield f"column {name!r} needs a name without spaces and any of , : [ ] {{ }} \" (LightGBM's limits)"
    kind = column.type
    numeric = pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)
    if not (numeric or pa.types.is_boolean(kind) or pa.types.is_string(kind) or pa.types.is_null(kind)):
        yield f"column {name!r} holds {kind}, which is no feature; leave it out (--ignore)"
        return
    missing = _missing(column)
    if missing.all():
        yield f"column {name!r} has no value in any of its {len(column):,} rows; leave it out (--ignore)"
        return
    if missing.mean() > MAX_MISSING:
        yield (
            f"column {name!r} is missing in {missing.mean():.1%} of the rows and {MAX_MISSING:.0%} may be; there is a "
            f"value only in {named_rows(~missing)}; leave it out (--ignore)"
        )
    if pa.types.is_string(kind):
        yield from _text_faults(name, column)
    elif numeric:
        yield from _number_faults(name, _as_doubles(column))
    if named and not missing.any() and pc.count_distinct(column).as_py() == 1:
        yield f"column {name!r} is {column[0].as_py()!r} in all {len(column):,} rows; leave it out (--ignore)"


def _text_faults(name: str, column: Any) -> Iterator[str]:
    texts = pc.unique(column.drop_null()).to_pylist()
    others = [text for text in texts if not _is_number(text)]
    if 0 < len(others) < len(texts) / 2:
        wrong = pc.fill_null(pc.is_in(column, value_set=pa.array(others)), False)
        shown = ", ".join(repr(text) for text in sorted(others)[:3])
        yield (
            f"column {name!r} holds numbers, and texts ({shown}) in {named_rows(np.asarray(wrong.to_numpy()))}; "
            "a value that is missing is an empty cell"
        )
    elif len(texts) > MAX_CATEGORIES:
        yield f"column {name!r} holds {len(texts):,} different texts, which is an identifier; leave it out (--ignore)"


def _number_faults(name: str, values: NDArray[np.float64]) -> Iterator[str]:
    if (infinite := np.isinf(values)).any():
        yield f"column {name!r} is infinite in {named_rows(infinite)}"
    if (vast := np.isfinite(values) & (np.abs(values) >= MAX_EXACT)).any():
        yield (
            f"column {name!r} is 2^53 or more in {named_rows(vast)}, where numbers are no longer told apart; "
            "an identifier is no feature (--ignore)"
        )
    for mark in MARKS_OF_MISSING:
        marked = values == mark
        if marked.any() and not (values[~marked] < 0).any():
            yield f"column {name!r} is {mark} in {named_rows(marked)}; a value that is missing is an empty cell"


def _missing(column: Any) -> Mask:
    return np.asarray(pc.is_null(column, nan_is_null=pa.types.is_floating(column.type)).to_numpy())


def _as_doubles(column: Any) -> NDArray[np.float64]:
    return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# ---- leaks: what is only known because of what happened afterwards


def _leak_faults(name: str, column: Any, parts: Parts) -> Iterator[str]:
    """Find a feature that by itself puts the rows with a label above 0 before all others, in every query."""
    wanted = parts.labels > 0
    bits = _luck_bits(wanted, parts.queries)
    if pa.types.is_string(column.type):
        codes = _codes(column) + 1  # missing is a value as well
        bits -= codes.max() + 1  # so many times chance may have chosen what a value means
        tells = bits >= BITS_OF_A_LEAK and _is_pure(codes, wanted)
    else:
        tells = bits >= BITS_OF_A_LEAK and _separates_somehow(_as_doubles(column), wanted, parts.queries)
    if tells:
        yield (
            f"column {name!r} tells the label: in every query it sets those above 0 apart ({named_rows(wanted)}); "
            "what is only known afterwards is no feature (--ignore)"
        )


def _luck_bits(wanted: Mask, queries: NDArray[np.int64]) -> float:
    """How unlikely it is, in bits, that a feature that knows nothing sets the wanted rows of every query apart."""
    sizes, chosen = np.bincount(queries), np.bincount(queries, weights=wanted).astype(np.int64)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log2(np.arange(1, sizes.max() + 1)))])
    return float((log_factorial[sizes] - log_factorial[chosen] - log_factorial[sizes - chosen]).sum())


def _separates_somehow(values: NDArray[np.float64], wanted: Mask, queries: NDArray[np.int64]) -> bool:
    """Whether wanted rows stand above all others, or below; missing ones may stand at either end."""
    ends = (np.where(np.isnan(values), end, values) for end in (-np.inf, np.inf))
    return any(_separates(sign * one, wanted, queries) for one in ends for sign in (1, -1))


def _separates(values: NDArray[np.float64], wanted: Mask, queries: NDArray[np.int64]) -> bool:
    count = int(queries.max()) + 1
    least, most = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(least, queries[wanted], values[wanted])
    np.maximum.at(most, queries[~wanted], values[~wanted])
    both = np.bincount(queries[wanted], minlength=count).astype(bool) & np.bincount(
        queries[~wanted], minlength=count
    ).astype(bool)
    return bool((least > most)[both].all())


def _is_pure(codes: NDArray[np.int64], wanted: Mask) -> bool:
    """Whether each value stands with wanted rows only or with others only."""
    shares = np.bincount(codes, weights=wanted) / np.maximum(np.bincount(codes), 1)
    return bool(np.isin(shares, (0, 1)).all())


# ---- small things


def _codes(column: Any) -> NDArray[np.int64]:
    """Equal numbers from 0 for equal values, -1 for missing ones."""
    encoded = column.combine_chunks().dictionary_encode()
    return np.asarray(pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False), dtype=np.int64)


def _starts(chosen: Mask, queries: NDArray[np.int64]) -> str:
    """The rows in which these queries start."""
    firsts = np.unique(queries, return_index=True)[1]
    starts = np.zeros(len(queries), dtype=bool)
    starts[firsts[chosen]] = True
    return named_rows(starts)
