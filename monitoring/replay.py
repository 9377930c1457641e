"""Rankings of the past on a model of today: their rows made again from the log, their scores and orders compared.

Rows are made here one value at a time, not by the code that serves: so a replay on the model that served also shows
whether serving made the rows that it should have.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features import Catalog, DerivedFeatures
from monitoring.errors import ReplayError
from monitoring.order import TOP, best, kendall_tau, top_overlap
from monitoring.ranking_log import LoggedCandidate, LoggedRanking, unpack
from registry import Bundle, Feature, Model

Floats = NDArray[np.float64]


class Difference(NamedTuple):
    """A ranking in the log against the same one on the model: `tau` is Kendall's, `overlap` that of the first ten.

    score: the largest absolute difference of a score; NaN where there were no candidates.
    """

    request_id: str
    model: str
    same_model: bool
    rows: int
    score: float
    order_changed: bool
    first_changed: bool
    tau: float
    overlap: float

    @property
    def differs(self) -> bool:
        return self.score > 0 or self.order_changed


class Summary(NamedTuple):
    """Over all rankings of a log; `broken` are those that the same model should have given again and did not."""

    rankings: int
    rows: int
    models: dict[str, int]
    differ: int
    broken: int
    order_changed: int
    first_changed: int
    tau: float
    overlap: float
    largest_score_difference: float


class Rows:
    """Makes a model's rows from logged rankings: the request wins over the catalog, the catalog over "missing"."""

    def __init__(self, bundle: Bundle, catalog: Path | None = None) -> None:
        """Take the activities of `catalog`, by default the bundle's. Raises `CatalogError`."""
        path = catalog or bundle.catalog
        self._features = bundle.features
        self._catalog = Catalog.empty() if path is None else Catalog.read(path)
        self._activity = self._columns("activity")
        self._context = self._columns("context")
        derived = self._columns("derived")
        self._derived_columns = [column for column, _ in derived]
        self._derived = DerivedFeatures({one.name: one.categories for _, one in derived}, self._catalog)
        self._known = self._catalog.matrix([(one.name, one.categories) for _, one in self._activity])

    def make(self, ranking: LoggedRanking) -> Floats:
        """The rows (candidates, features) of a logged ranking. Raises `ReplayError`."""
        rows = np.full((len(ranking.candidates), len(self._features)), np.nan)
        places = np.array([self._catalog.rows.get(one, len(self._catalog)) for one in ranking.ids], dtype=np.intp)
        rows[:, [column for column, _ in self._activity]] = self._known[places]
        for column, one in self._context:
            rows[:, column] = _encoded(ranking, one, (ranking.context or {}).get(one.name))
        for row, candidate in zip(rows, ranking.candidates, strict=True):
            if isinstance(candidate, LoggedCandidate):
                self._give(ranking, row, candidate)
        if self._derived_columns:
            values = self._derived.values(unpack(ranking.history), ranking.moment, places)
            rows[:, self._derived_columns] = values
        return rows

    def _give(self, ranking: LoggedRanking, row: Floats, candidate: LoggedCandidate) -> None:
        for column, one in self._activity:
            value = _encoded(ranking, one, (candidate.features or {}).get(one.name))
            if not math.isnan(value):
                row[column] = value

    def _columns(self, role: str) -> list[tuple[int, Feature]]:
        return [(column, one) for column, one in enumerate(self._features) if one.role == role]


def replay(rankings: Iterable[LoggedRanking], model: Model, catalog: Path | None = None) -> Iterator[Difference]:
    """Score each ranking again and compare, over `catalog` or the bundle's. Raises `ReplayError`, `CatalogError`."""
    rows = Rows(model.bundle, catalog)
    for ranking in rankings:
        logged = np.array(ranking.scores, dtype=np.float64)
        if len(logged) != len(ranking.candidates):
            raise ReplayError(
                f"request {ranking.request_id}: {len(logged)} scores for {len(ranking.candidates)} candidates"
            )
        now = model.engine.score(rows.make(ranking))
        before, after = best(logged, len(logged)), best(now, len(now))
        yield Difference(
            request_id=ranking.request_id,
            model=ranking.model,
            same_model=ranking.sha256 == model.bundle.sha256,
            rows=len(now),
            score=float(np.abs(now - logged).max(initial=0.0)),
            order_changed=before != after,
            first_changed=before[:1] != after[:1],
            tau=kendall_tau(logged, now),
            overlap=top_overlap(logged, now, TOP),
        )


def summary(differences: Iterable[Difference]) -> Summary:
    found = list(differences)
    return Summary(
        rankings=len(found),
        rows=sum(one.rows for one in found),
        models=dict(Counter(one.model for one in found)),
        differ=sum(one.differs for one in found),
        broken=sum(one.differs and one.same_model for one in found),
        order_changed=sum(one.order_changed for one in found),
        first_changed=sum(one.first_changed for one in found),
        tau=_mean([one.tau for one in found]),
        overlap=_mean([one.overlap for one in found]),
        largest_score_difference=max((one.score for one in found), default=0.0),
    )


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _encoded(ranking: LoggedRanking, feature: Feature, value: object) -> float:
    if feature.type == "boolean" and value in (0.0, 1.0):
        return float(value)  # what came in columns is logged as a number
    try:
        return feature.encode(value)  # type: ignore[arg-type] # what it refuses is what is caught
    except ValueError as error:
        raise ReplayError(f"request {ranking.request_id}: {error}") from error
