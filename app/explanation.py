"""Why candidates got their scores: what each feature added, for whoever asks with `"explain": true`."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from app.schemas import Contribution, Explanation
from registry import Model
from scoring import ReferenceEngine
from scoring.compiled import CompiledEngine

Matrix = NDArray[np.float64]

EXPLAINED = 10  # candidates of an answer, from the first on
TOP = 5  # features of a candidate, those that moved its score most
WAITING = 4  # requests that may be explained at a time: it takes as long as scoring hundreds
MODELS = 2  # whose copies are kept, by LightGBM


class Explainer:
    """Explains in a thread of its own, so that nobody else waits for it."""

    def __init__(self) -> None:
        self._engines: dict[str, ReferenceEngine] = {}
        self._pool = ThreadPoolExecutor(1, "explainer")
        self._waiting = 0

    def explain(self, model: Model, ids: Sequence[str], rows: Matrix) -> "asyncio.Future[list[Explanation]] | None":
        """The explanations of candidates by their rows for this model, soon; None when too many wait already."""
        if self._waiting >= WAITING:
            return None
        self._waiting += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, self._explain, model, ids, rows)
        future.add_done_callback(self._done)
        return future

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _done(self, future: "asyncio.Future[list[Explanation]]") -> None:
        self._waiting -= 1

    def _explain(self, model: Model, ids: Sequence[str], rows: Matrix) -> list[Explanation]:
        added = self._engine(model).contributions(rows)
        return [_explanation(model, *one) for one in zip(ids, rows, added, strict=True)]

    def _engine(self, model: Model) -> ReferenceEngine:
        """LightGBM's own copy of the model, made when it is first asked for."""
        if isinstance(model.engine, ReferenceEngine):
            return model.engine
        assert isinstance(model.engine, CompiledEngine)  # there is no third one
        sha256 = model.bundle.sha256
        if sha256 not in self._engines:
            if len(self._engines) == MODELS:
                del self._engines[next(iter(self._engines))]
            self._engines[sha256] = ReferenceEngine(model.engine.model)
        return self._engines[sha256]


def _explanation(model: Model, activity: str, row: Matrix, added: Matrix) -> Explanation:
    """The features that moved a score most, by name; `added` (features + 1) ends with the mean score."""
    most = np.argsort(-np.abs(added[:-1]), kind="stable")[:TOP].tolist()
    features = model.bundle.features
    named = [
        Contribution(features[column].name, features[column].decode(float(row[column])), float(added[column]))
        for column in most
    ]
    others = float(np.delete(added[:-1], most).sum())
    return Explanation(activity, float(added[-1]), named, others)
