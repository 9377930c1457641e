"""The compiled engine: a row becomes byte codes, and codes walk the trees without a branch."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scoring.kernels import LANES, TILE, score_rows
from scoring.model_text import ModelText
from scoring.reference import check_rows
from scoring.tables import Tables, frozen


class CompiledEngine:
    """A model as tables of codes and nodes; `load_engine` makes one that has proved equal to the reference engine."""

    name: Final = "compiled"

    def __init__(self, model: ModelText, tables: Tables) -> None:
        """Take the tables that `build_tables` or `open_tables` gave for this very model."""
        self.model = model
        self.tables = frozen(tables)
        self.reason = "not verified"
        self.lines = self.tables[:9]  # what makes classes and codes of a value, as the kernels take it
        self._walk = self.tables[9:]

    def __repr__(self) -> str:
        return f"CompiledEngine(trees={self.trees}, features={self.features}, bytes_used={self.bytes_used})"

    @property
    def features(self) -> int:
        return self.model.features

    @property
    def trees(self) -> int:
        return len(self.model.trees)

    @property
    def bytes_used(self) -> int:
        return self.tables.bytes_used

    def score(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        check_rows(rows, self.features)
        count = len(rows)
        if not count:
            return np.empty(0)
        classes = np.empty(self.features * LANES, np.uint64)
        words = np.empty(self.tables.columns * TILE, np.uint64)
        scores = np.empty(count + -count % LANES)
        score_rows(plain(rows), self.lines, self._walk, classes, words, words.view(np.uint8), scores)
        return scores[:count]


def plain(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array, or a copy where it is strided, unaligned or read-only: for such numba would compile anew."""
    return array if array.flags.carray else array.copy()
