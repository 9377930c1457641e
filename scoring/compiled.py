"""The compiled engine: a row becomes byte codes, and codes walk the trees without a branch."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from scoring.kernels import LANES, score_rows
from scoring.model_text import ModelText
from scoring.reference import check_rows
from scoring.tables import Tables, build_tables, frozen

DEFAULT_BUDGET_BYTES: Final = 256 * 2**20


class CompiledEngine:
    """A model as tables of codes and nodes. `reason` says why this engine serves it."""

    name: Final = "compiled"

    def __init__(
        self, model: ModelText, tables: Tables | None = None, *, budget_bytes: int = DEFAULT_BUDGET_BYTES
    ) -> None:
        """Compile the model, or take tables that `open_tables` found for it. Raises `NotCompilableError`."""
        self.model = model
        self.tables = tables or build_tables(model, budget_bytes=budget_bytes)
        t = frozen(self.tables)
        self.lines = t[:9]
        self._nodes = t[9:]

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
        scores = np.empty(rows.shape[0])
        if scores.size:
            block = np.empty(max(self.tables.columns, 1), np.uint64)
            classes = np.empty(self.features * LANES, np.uint64)
            score_rows(rows, self.lines, self._nodes, classes, block, block.view(np.uint8), scores)
        return scores
