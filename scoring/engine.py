"""The one interface behind which a model scores rows, whichever way it does it."""

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

EngineKind = Literal["auto", "reference", "compiled"]


class Engine(Protocol):
    """A model as a function of rows. Thread-safe; releases the GIL while it scores."""

    @property
    def name(self) -> str:
        """`reference` or `compiled`."""

    @property
    def reason(self) -> str:
        """Why this engine serves the model and not the other."""

    @property
    def features(self) -> int:
        """Columns of a row."""

    @property
    def trees(self) -> int:
        """Trees whose leaves are added up for a row."""

    @property
    def bytes_used(self) -> int:
        """Memory of the engine's own tables."""

    def score(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores of C-contiguous `(n, features)` rows, bit for bit those of `lightgbm.Booster.predict`.

        Raises `RowsError` for any other dtype, layout or width.
        """
