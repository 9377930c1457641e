"""The one interface behind which a model scores rows, whichever way it does it."""

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from scoring.model_text import ModelText
from scoring.reference import ReferenceEngine

EngineKind = Literal["auto", "reference", "compiled"]


class Engine(Protocol):
    """A model as a function of rows. Thread-safe; releases the GIL while it scores."""

    @property
    def name(self) -> str:
        """`reference` or `compiled`."""

    @property
    def features(self) -> int:
        """Columns of a row."""

    @property
    def trees(self) -> int:
        """Trees whose leaves are added up for a row."""

    def score(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores of C-contiguous `(n, features)` rows, bit for bit those of `lightgbm.Booster.predict`.

        Raises `RowsError` for any other dtype, layout or width.
        """


def load_engine(model_text: ModelText, kind: EngineKind = "auto") -> Engine:
    """Build the engine of that kind for a validated model; `auto` is the fastest that is exact for it."""
    if kind == "compiled":
        raise NotImplementedError("the compiled engine is not there yet")
    return ReferenceEngine(model_text)
