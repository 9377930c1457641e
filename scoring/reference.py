"""The reference engine: LightGBM's own prediction, the oracle of every test and the fallback for every model."""

import ctypes
import functools
import importlib.util
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scoring.errors import RowsError
from scoring.model_text import ModelText, ModelTextError, parse_model_text

_PARAMETERS: Final = b"num_threads=1 verbosity=-1"
_FLOAT64, _ROW_MAJOR, _NORMAL, _CONTRIBUTIONS, _FIRST_TREE, _ALL_TREES = 1, 1, 0, 3, 0, -1  # constants of c_api.h


class ReferenceEngine:
    """A model scored by LightGBM's C library, one thread a call.

    The Python package is left out on purpose: it imports scipy, and pandas and scikit-learn where they are installed,
    and adds some 10 us a call. `LGBM_BoosterPredictForMat` is what `Booster.predict` calls for a float64 matrix.
    """

    name: Final = "reference"

    bytes_used: Final = 0  # LightGBM does not tell

    def __init__(self, model: ModelText | bytes, *, reason: str = "asked for") -> None:
        """Load the model; raises `ModelTextError` when we or LightGBM refuse the text."""
        self.model = model if isinstance(model, ModelText) else parse_model_text(model)
        self.reason = reason
        self._library = _library()
        self._booster = ctypes.c_void_p()
        iterations = ctypes.c_int()
        text = ctypes.c_char_p(self.model.text)
        if self._library.LGBM_BoosterLoadModelFromString(text, ctypes.byref(iterations), ctypes.byref(self._booster)):
            raise ModelTextError(f"LightGBM refuses it: {_last_error(self._library)}")
        if iterations.value != self.trees:
            raise ModelTextError(f"LightGBM read {iterations.value} trees of {self.trees}")

    def __del__(self) -> None:
        if getattr(self, "_booster", None):
            self._library.LGBM_BoosterFree(self._booster)

    def __repr__(self) -> str:
        return f"ReferenceEngine(trees={self.trees}, features={self.features})"

    @property
    def features(self) -> int:
        return self.model.features

    @property
    def trees(self) -> int:
        return len(self.model.trees)

    def score(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        check_rows(rows, self.features)
        return self._predict(rows, _NORMAL, np.empty(rows.shape[0]))

    def contributions(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """What each feature added to the raw score of each row, and last the mean: (n, features + 1).

        A row's values add up to its raw score, up to rounding: that is the score of a ranking objective. TreeSHAP
        (Lundberg et al., "From local explanations to global understanding", Nature Machine Intelligence 2, 2020).
        Raises `RowsError` like `score`.
        """
        check_rows(rows, self.features)
        return self._predict(rows, _CONTRIBUTIONS, np.empty((rows.shape[0], self.features + 1)))

    def _predict(self, rows: NDArray[np.float64], kind: int, out: NDArray[np.float64]) -> NDArray[np.float64]:
        if not out.size:
            return out
        written = ctypes.c_int64()
        if self._library.LGBM_BoosterPredictForMat(
            self._booster,
            rows.ctypes.data,
            _FLOAT64,
            rows.shape[0],
            rows.shape[1],
            _ROW_MAJOR,
            kind,
            _FIRST_TREE,
            _ALL_TREES,
            _PARAMETERS,
            ctypes.byref(written),
            out.ctypes.data,
        ):
            raise RuntimeError(f"LightGBM could not score {rows.shape[0]} rows: {_last_error(self._library)}")
        return out


def check_rows(rows: NDArray[np.float64], features: int) -> None:
    """Raise `RowsError` unless the rows are what an engine reads without looking again."""
    if rows.dtype != np.float64 or not rows.flags.c_contiguous:
        order = "C-contiguous" if rows.flags.c_contiguous else "not C-contiguous"
        raise RowsError(f"rows are {rows.dtype}, {order}; allowed is float64, C-contiguous")
    if rows.ndim != 2 or rows.shape[1] != features:
        raise RowsError(f"rows have the shape {rows.shape} and the model has {features} features")


@functools.cache
def _library() -> ctypes.CDLL:
    """Open the shared library of the lightgbm package and declare the functions used here."""
    spec = importlib.util.find_spec("lightgbm")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("lightgbm is not installed", name="lightgbm")
    folder = Path(spec.origin).parent
    candidates = [folder / place / f"lib_lightgbm.{end}" for place in ("lib", "bin") for end in ("so", "dylib", "dll")]
    library = ctypes.CDLL(str(next(path for path in candidates if path.exists())))
    library.LGBM_GetLastError.restype = ctypes.c_char_p
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    library.LGBM_BoosterFree.argtypes = [pointer]
    library.LGBM_BoosterPredictForMat.argtypes = [
        pointer, pointer, integer, ctypes.c_int32, ctypes.c_int32, integer,
        integer, integer, integer, ctypes.c_char_p, pointer, pointer,
    ]  # fmt: skip
    return library


def _last_error(library: ctypes.CDLL) -> str:
    message: bytes = library.LGBM_GetLastError()
    return message.decode("utf-8", "replace")
