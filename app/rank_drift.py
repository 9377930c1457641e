"""How alike two models rank what was ranked lately."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.models import Served
from app.ranking import Scorer, Work, offsets_of
from monitoring.order import agreements

Floats = NDArray[np.float64]
Pair = tuple[Floats, Floats]


class RankDrift(NamedTuple):
    """Means over rankings that both models made; None where there were none, or where a model saw no difference.

    compared: how many. kendall_tau: 1 for the same order, -1 for the opposite one. top_overlap: of the first ten.
    """

    compared: int
    kendall_tau: float | None
    top_overlap: float | None


class RankDriftError(Exception):
    """A new model ranks too unlike the one that serves."""


def golden_pairs(live: Served, new: Served) -> list[Pair]:
    """Scores of both models for the golden rows of each; none where the two want different features."""
    if live.model.bundle.features != new.model.bundle.features:
        return []
    engines = live.model.engine, new.model.engine
    return [(engines[0].score(rows), engines[1].score(rows)) for rows in (live.golden.rows, new.golden.rows)]


def ranked_pairs(live: Scorer, new: Scorer, works: Sequence[Work]) -> list[Pair]:
    """Scores of both models for the candidates of each work, whose visitors are looked up already."""
    return list(zip(_scores(live, works), _scores(new, works), strict=True)) if works else []


def rank_drift(pairs: Sequence[Pair]) -> RankDrift:
    found = agreements([one for one, _ in pairs], [other for _, other in pairs])
    return RankDrift(len(found), _mean(one.tau for one in found), _mean(one.overlap for one in found))


def check_drift(drift: RankDrift, least_tau: float | None) -> None:
    """Raise `RankDriftError` unless tau is known to be so high; None asks for nothing."""
    if least_tau is None or (drift.kendall_tau is not None and drift.kendall_tau >= least_tau):
        return
    found = "is not known" if drift.kendall_tau is None else f"is {drift.kendall_tau:.4f}"
    raise RankDriftError(
        f"Kendall's tau against the model that serves {found}, over {drift.compared} rankings, and "
        f"FRONTROW_SWAP_MIN_KENDALL_TAU is {least_tau:g}"
    )


def _scores(scorer: Scorer, works: Sequence[Work]) -> list[Floats]:
    ready = works if scorer.derived is None else scorer.with_visitors(works)
    made = [scorer.own(work).rows for work in ready]
    offsets = offsets_of(made)
    values = scorer.values(made, offsets)
    return [values[start:stop] for start, stop in pairwise(offsets)]


def _mean(values: Iterable[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else None
