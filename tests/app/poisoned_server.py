"""`frontrow serve`, all of it, with engines that fail at one price: run as a script, it takes the same settings."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from app import launch, models, server
from app.experiment import Variant
from app.models import Served
from app.settings import Settings
from registry import Fetched
from scoring import Engine

POISON = 666.0


@dataclass(frozen=True)
class PoisonedEngine:
    """The engine inside, until a row whose column `price` holds the poison fails all the rows that it came with."""

    inside: Engine
    price: int

    @property
    def name(self) -> str:
        return self.inside.name

    @property
    def reason(self) -> str:
        return self.inside.reason

    @property
    def features(self) -> int:
        return self.inside.features

    @property
    def trees(self) -> int:
        return self.inside.trees

    @property
    def bytes_used(self) -> int:
        return self.inside.bytes_used

    def score(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        if poisoned := np.count_nonzero(rows[:, self.price] == POISON):
            raise ValueError(f"{poisoned} of {len(rows)} rows are poisoned")
        return self.inside.score(rows)


def load_poisoned_models(settings: Settings, fetched: Mapping[Variant, Fetched]) -> dict[Variant, Served]:
    return {variant: _poisoned(served) for variant, served in models.load_models(settings, fetched).items()}


def _poisoned(served: Served) -> Served:
    model = served.model
    price = [feature.name for feature in model.bundle.features].index("price")
    return replace(served, model=replace(model, engine=PoisonedEngine(model.engine, price)))


if __name__ == "__main__":
    with patch.object(launch, "load_models", load_poisoned_models):
        server.serve({})
