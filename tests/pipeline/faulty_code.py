"""Code that must never go live, as rules around scoring; a test image names one of these in FRONTROW_PROCESSING."""

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from app import routes
from app.processing import Processing, Ranked


class Healthy(Processing):
    """Changes nothing: what the faults are compared with."""


class Slow(Healthy):
    """Every tenth ranking takes 20 ms longer, so the slowest hundredth does; not so long that others are refused."""

    def __init__(self) -> None:
        self._calls = itertools.count(1)

    def arrange(self, context: Mapping[str, Any], ranked: Sequence[Ranked], top_k: int) -> Sequence[Ranked]:
        if next(self._calls) % 10 == 0:
            time.sleep(0.02)
        return ranked


class Broken(Healthy):
    """Two rankings of a hundred fail."""

    def __init__(self) -> None:
        self._calls = itertools.count(1)

    def arrange(self, context: Mapping[str, Any], ranked: Sequence[Ranked], top_k: int) -> Sequence[Ranked]:
        if next(self._calls) % 50 == 0:
            raise RuntimeError("one of fifty")
        return ranked


class NotANumber(Healthy):
    """Every ranking holds a score that is none."""

    def arrange(self, context: Mapping[str, Any], ranked: Sequence[Ranked], top_k: int) -> Sequence[Ranked]:
        for one in ranked[:1]:
            one.score = math.nan
        return ranked


class Silent(Healthy):
    """Prometheus never gets an answer."""

    def __init__(self) -> None:
        routes.router.routes[:] = [route for route in routes.router.routes if getattr(route, "path", "") != "/metrics"]
