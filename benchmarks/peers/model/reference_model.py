"""The model and the catalog as every peer's server holds them: shared, so that the servers differ in what is around it.

It runs in the peers' environments, which all have NumPy and LightGBM.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class ReferenceModel:
    """Rows from requests, scores from rows."""

    def __init__(self, folder: str | None = None) -> None:
        """Load what `benchmarks.peers.query.write_for_peers` wrote to `folder`, else to `$PEER_MODEL`."""
        place = Path(folder or os.environ["PEER_MODEL"])
        catalog = json.loads((place / "catalog.json").read_text())
        self._booster = lightgbm.Booster(model_file=str(place / "model.lgb"))
        self._activities: Floats = np.load(place / "catalog.npy")
        self._row = {activity: row for row, activity in enumerate(catalog["ids"])}
        self._context: list[int] = catalog["context"]

    def rows_of(self, request: dict[str, Any]) -> Floats:
        """Rows of `{"rows": [[...]]}`, or of `{"context": [...], "ids": [...]}` from the catalog."""
        if "rows" in request:
            return np.array(request["rows"], dtype=np.float64)
        return self.known(request["context"], request["ids"])

    def known(self, context: Sequence[float] | Floats, ids: Sequence[str]) -> Floats:
        """Rows of activities of the catalog in a context."""
        rows = self._activities[[self._row[activity] for activity in ids]]
        rows[:, self._context] = context
        return rows

    def score(self, rows: Floats) -> Floats:
        """On as many threads as LightGBM takes by itself, one a core: batches of many rows gain by it."""
        scores: Floats = self._booster.predict(rows)
        return scores

    def score_each(self, several: Sequence[Floats]) -> list[list[float]]:
        """Scores of several requests' rows, by one call of LightGBM."""
        scores = self.score(np.concatenate(several)).tolist()
        ends = np.cumsum([len(rows) for rows in several]).tolist()
        return [scores[end - len(rows) : end] for rows, end in zip(several, ends, strict=True)]
