"""Run by `bentoml serve server:Ranker`."""

# mypy: ignore-errors
# It runs in an environment of its own, whose packages are not those that this house is checked with.

from typing import Any

import bentoml
import numpy as np
from reference_model import ReferenceModel

REQUESTS = 64
ROWS = REQUESTS * 50  # an array is counted along its first axis


@bentoml.service(workers=1, logging={"access": {"enabled": False}}, metrics={"enabled": False})
class Ranker:
    def __init__(self) -> None:
        self.model = ReferenceModel()

    @bentoml.api(batchable=True, max_batch_size=ROWS, max_latency_ms=1_000)
    def inline(self, rows: np.ndarray) -> np.ndarray:
        return self.model.score(rows)

    @bentoml.api(batchable=True, max_batch_size=REQUESTS, max_latency_ms=1_000)
    def catalog(self, requests: list[dict[str, Any]]) -> list[list[float]]:
        return self.model.score_each([self.model.rows_of(request) for request in requests])
