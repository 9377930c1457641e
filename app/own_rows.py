"""What candidates bring, laid over what is known of them: one loop that numba compiles."""

from typing import Any, NamedTuple

import numpy as np
from numba import uint64
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


def _lay(values, terms, rows, unseen):  # type: ignore[no-untyped-def]
    """Put what is given in `values` (rows, values), where NaN is nothing, into `rows` (rows, features).

    `unseen` counts, for each value of the terms, the texts that are no category of the model.
    """
    positions, columns, starts, codes = terms
    last = uint64(codes.size - 1)
    for row in range(uint64(rows.shape[0])):
        for term in range(uint64(positions.size)):
            value = values[row, uint64(positions[term])]
            if starts[term] >= 0 and not np.isnan(value):
                value = codes[min(uint64(starts[term]) + uint64(value), last)]
                unseen[term] += np.isnan(value)
            if not np.isnan(value):
                rows[row, uint64(columns[term])] = value


lay: Any = compiled(_lay)
