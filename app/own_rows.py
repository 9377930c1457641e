"""What candidates bring, laid over what is known of them: loops that numba compiles."""

# Kernels are called by position: numba has no keyword-only arguments.
# ruff: noqa: PLR0917

from typing import Any, NamedTuple

import numpy as np
from numba import int64, uint64
from numpy.typing import NDArray

from scoring.kernel_cache import compiled


class Terms(NamedTuple):
    """How one model reads the values of candidates, a number of each array for each value that it wants.

    positions: the value's column there; columns: its column in a row of the model. starts: where the codes begin in
    `codes` that its texts have in the model's terms (NaN for one that is no category); -1 for what is no text.
    """

    positions: NDArray[np.int64]
    columns: NDArray[np.int64]
    starts: NDArray[np.int64]
    codes: NDArray[np.float64]


def _lay(values, terms, places, context, items, known, rows, unseen):  # type: ignore[no-untyped-def]
    """Fill `rows` (own rows, features) with what is known of candidates, the context, and what they bring over it.

    Row k is that of the candidate at `places[k]`, whose item was a row of `known` and becomes `~k`. What it brings is
    in row k of `values`, where NaN is nothing. `context` are columns, and the values that all rows have there. `unseen`
    counts, for each value of the terms, the texts that are no category of the model; their sum is returned.
    """
    positions, columns, starts, codes = terms
    context_columns, context_values = context
    last = uint64(codes.size - 1)
    for row in range(uint64(rows.shape[0])):
        place = uint64(places[row])
        item = uint64(items[place])
        items[place] = ~int64(row)
        for column in range(uint64(rows.shape[1])):
            rows[row, column] = known[item, column]
        for column in range(uint64(context_columns.size)):
            rows[row, uint64(context_columns[column])] = context_values[column]
        for term in range(uint64(positions.size)):
            value = values[row, uint64(positions[term])]
            if starts[term] >= 0 and not np.isnan(value):
                value = codes[min(uint64(starts[term]) + uint64(value), last)]
                unseen[term] += np.isnan(value)
            if not np.isnan(value):
                rows[row, uint64(columns[term])] = value
    return unseen.sum()


lay: Any = compiled(_lay)


def _renumber(items, offsets, own):  # type: ignore[no-untyped-def]
    """Make `~k` of each request count the rows of the requests before it, which have so many `own` ones each."""
    first = 0
    for request in range(own.size):
        for place in range(offsets[request], offsets[request + 1]):
            if items[place] < 0:
                items[place] -= first
        first += own[request]


renumber: Any = compiled(_renumber)
