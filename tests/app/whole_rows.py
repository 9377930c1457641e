"""Whole rows as callers of other protocols send them, and a scorer that can be held up."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from app_models import booster
from numpy.typing import NDArray

from app.service import Service
from registry import Feature

Floats = NDArray[np.float64]

PATIENCE_SECONDS = 30
ODD = (np.nan, np.inf, -np.inf, -0.0, 5e-324, 1e300, -1.0, 2.5, 99.0)


def draw_rows(features: Sequence[Feature], count: int, *, seed: int = 5) -> Floats:
    """Rows of usual values with gaps; the last ones have odd values in every column."""
    random = np.random.default_rng(seed)
    rows = np.empty((count, len(features)))
    for column, feature in enumerate(features):
        if feature.categories is not None:
            rows[:, column] = random.integers(0, len(feature.categories), count)
        elif feature.type == "boolean":
            rows[:, column] = random.random(count) < 0.5
        else:
            rows[:, column] = random.gamma(3, 15, count) if feature.type == "number" else random.integers(0, 90, count)
    rows[random.random(rows.shape) < 0.1] = np.nan
    odd = random.choice(ODD, (min(count // 4, 200), len(features)))
    rows[len(rows) - len(odd) :] = odd
    return rows


def expected(bundle: Path, rows: Floats) -> bytes:
    """The bytes of what `Booster.predict` says."""
    scores: Floats = booster(bundle).predict(rows, num_threads=1)
    return scores.tobytes()


def counted(service: Service) -> Counter[str]:
    """Requests by outcome over both variants, and `offered`."""
    counts: Counter[str] = Counter()
    for line in service.metrics.exposition().decode().splitlines():
        if line.startswith("frontrow_requests_offered_total{"):
            counts["offered"] += int(float(line.split()[-1]))
        elif line.startswith("frontrow_requests_total{"):
            counts[line.split('outcome="')[1].split('"')[0]] += int(float(line.split()[-1]))
    return +counts


class Gate:
    """A catalog that scores only while it is open."""

    def __init__(self, inside: Any) -> None:
        self._inside = inside
        self.entered = threading.Event()
        self.open = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inside, name)

    def score(self, *arguments: Any) -> Floats:
        self.entered.set()
        assert self.open.wait(PATIENCE_SECONDS)
        scores: Floats = self._inside.score(*arguments)
        return scores


@contextmanager
def held_up(service: Service) -> Iterator[Gate]:
    """Scoring for control waits until the gate is open, and at the latest for the end of this."""
    scorer = service.rankers["control"].scorer
    gate = Gate(scorer.catalog)
    scorer.catalog = gate
    try:
        yield gate
    finally:
        gate.open.set()
        scorer.catalog = gate._inside  # noqa: SLF001 its own
