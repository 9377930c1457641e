"""The drift of a model's traffic from a ranking log, as the service that wrote the log would have seen it."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from monitoring.drift import BLOCK, Drift, DriftReading, Sample
from monitoring.errors import ProfileError
from monitoring.profile import read_profile
from monitoring.ranking_log import LoggedRanking
from monitoring.replay import Rows
from registry import Bundle


def logged_drift(
    rankings: Iterable[LoggedRanking], bundle: Bundle, *, window_seconds: float, catalog: Path | None = None
) -> DriftReading:
    """What drifts in the rankings that the bundle's model answered, in order of time.

    catalog: the activities that it ranked, by default the bundle's. Raises `ProfileError` for a bundle without a
    profile, `ReplayError` for a ranking that its model cannot take, and `CatalogError`.
    """
    profile = read_profile(bundle)
    if profile is None:
        raise ProfileError(f"{bundle.name}/{bundle.version} has no profile.json: nothing to compare with")
    rows, sample, drift = Rows(bundle, catalog), Sample(), None
    picked: list[np.ndarray] = []
    for ranking in rankings:
        if ranking.sha256 != bundle.sha256:
            continue
        now = ranking.moment / 1e3
        drift = drift or Drift(profile, f"{bundle.name}/{bundle.version}", window_seconds=window_seconds, now=now)
        sample.each_second()  # a log is a sample already
        place = sample.pick(len(ranking.scores))
        if place is not None:
            picked.append(np.append(rows.make(ranking)[place], ranking.scores[place]))
        if len(picked) == BLOCK:
            drift.count(np.array(picked))
            picked.clear()
            drift.tick(now)
    if drift is None:
        raise ProfileError(f"the log has no ranking by {bundle.name}/{bundle.version} ({bundle.sha256[:8]})")
    if picked:
        drift.count(np.array(picked))
        drift.tick(now)
    return drift.reading()
