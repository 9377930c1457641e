"""What is kept of the traffic for those who look at it later: drift, rankings, exposures and feedback."""

import os
import random
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from app.columns import Columns
from app.experiment import Assignment, Experiment, Variant
from app.metrics import Metrics
from app.ranking import Ranking, Scorer, Scores, Work
from app.rows import Rows
from app.settings import Settings, SettingsError
from app.shadow import Shadow
from batching import Batcher
from features import Event
from features.events import visitor_key
from monitoring.drift import Drift, DriftReading, Watch
from monitoring.exposures import EXPOSURES, FEEDBACK, Exposures, feedback
from monitoring.interleaving import Interleaved
from monitoring.journal import Journal
from monitoring.order import COMPARED
from monitoring.profile import read_profile
from monitoring.ranking_log import KIND as RANKINGS
from monitoring.ranking_log import LoggedCandidate, RankingEntry, pack
from registry import Model

Floats = NDArray[np.float64]

LOGS = (RANKINGS, EXPOSURES, FEEDBACK)
RECENT = 32  # rankings that are remembered, for a new model to be compared on


class Ranked(NamedTuple):
    """A model's ranking of some work; `scores` are those of the work's candidates, in their order."""

    work: Work
    ranking: Ranking
    scores: Floats


class Onlooker:
    """Sees scores, answers and events. Raises `SettingsError` for a folder of logs that cannot be written to.

    `recent` are rankings of late, one a second: the first candidates of each, as they came.
    """

    def __init__(self, settings: Settings, experiment: Experiment, metrics: Metrics) -> None:
        self._metrics = metrics
        self._experiment = experiment
        self._share = settings.ranking_log_share
        self._shadow_share = settings.shadow_share if experiment.has_treatment else 0.0
        self._timeout_seconds = settings.request_timeout_ms / 1e3
        self._shadow: Shadow | None = None
        self._scorers: dict[Variant, Scorer] = {}
        self._drift_window_seconds = settings.drift_window_seconds
        self.recent: deque[Work] = deque(maxlen=RECENT)
        self._lacks_recent = True
        self._watches: dict[Variant, Watch[Rows]] = {}
        self._journals = {} if settings.log_folder is None else _journals(settings.log_folder, settings.log_folder_mb)
        self._exposures = Exposures(
            self._journals.get(EXPOSURES), experiment.name, treatment_share=experiment.treatment_share
        )

    def drift_of(self, model: Model) -> Drift | None:
        """What compares its traffic with its training; None without a profile, `ProfileError` with another one's."""
        profile = read_profile(model.bundle)
        if profile is None:
            return None
        return Drift(profile, _name(model), window_seconds=self._drift_window_seconds, now=time.time())

    def start(self, batcher: Batcher[Work, Scores]) -> None:
        """Begin to look."""
        for journal in self._journals.values():
            journal.start()
        if self._shadow_share:
            share, timeout_seconds = self._shadow_share, self._timeout_seconds
            self._shadow = Shadow(batcher, self._metrics.traffic, share=share, timeout_seconds=timeout_seconds)

    def watch(self, variant: Variant, scorer: Scorer, drift: Drift | None) -> None:
        """Look at what this scorer scores from now on, and no more at the one before it."""
        before = self._watches.pop(variant, None)
        after = None if drift is None else Watch(drift, scorer.picked, Rows.alone)
        if variant in self._scorers:
            self._scorers[variant].watch = None
        if before is not None and (after is None or after.drift is not before.drift):
            self._metrics.traffic.forget_drift(variant)
        if after is not None:
            self._watches[variant] = after
        self._scorers[variant], scorer.watch = scorer, after

    def stop(self) -> None:
        """Write what waits to be written."""
        if self._shadow is not None:
            self._shadow.stop()
        for journal in self._journals.values():
            journal.close()

    def answered(self, request_id: str, assignment: Assignment, work: Work, ranking: Ranking, scores: Floats) -> None:
        """Take in an answer, once it is sent; `scores` are those of the work's candidates, in their order."""
        if self._lacks_recent:
            self._remember(work)
        if self._experiment.has_treatment:
            model = _name(ranking.model)
            self._exposures.saw(work.lookup.visitor, assignment.variant, assignment.reason, model, _now())
        if self._shadow is not None:
            other: Variant = "control" if assignment.variant == "treatment" else "treatment"
            self._shadow.follow(other, self._scorers[other], work, scores)
        if self._is_logged():
            self._log(request_id, assignment, Ranked(work, ranking, scores), _now())

    def interleaved(
        self, request_id: str, assignment: Assignment, ranked: Mapping[Variant, Ranked], draft: Interleaved | None
    ) -> None:
        """Take in an answer of both models; of one alone, there is no `draft`. The log gets a ranking of each."""
        now = _now()
        if self._lacks_recent:
            self._remember(next(iter(ranked.values())).work)
        models = "+".join(_name(one.ranking.model) for one in ranked.values())
        visitor = next(iter(ranked.values())).work.lookup.visitor
        self._exposures.saw(visitor, assignment.variant, assignment.reason, models, now, draft=draft)
        if self._is_logged():
            for variant, one in ranked.items():
                self._log(request_id, Assignment(variant, assignment.reason), one, now)

    def _remember(self, work: Work) -> None:
        if work.given_for is None:  # rows that a caller made say nothing to another model
            first = work.candidates[:COMPARED]
            self.recent.append(replace(work, candidates=first, rows=work.maker.rows(work.context, first)))
            self._lacks_recent = False

    def _is_logged(self) -> bool:
        return RANKINGS in self._journals and random.random() < self._share  # noqa: S311 a sample, not a secret

    def _log(self, request_id: str, assignment: Assignment, ranked: Ranked, now: int) -> None:
        (work, ranking, scores), bundle = ranked, ranked.ranking.model.bundle
        lookup, candidates = work.lookup, work.candidates
        visitor = lookup.found
        entry = RankingEntry(
            request_id=request_id,
            moment=now if visitor is None else visitor.moment,
            experiment=self._experiment.name,
            variant=assignment.variant,
            reason=assignment.reason,
            model=_name(ranking.model),
            sha256=bundle.sha256,
            candidates=_listed(candidates) if type(candidates) is Columns else candidates,
            scores=scores.tolist(),
            ranking=[one.id for one in ranking.activities],
            context=work.context,
            unit=None if lookup.visitor is None else visitor_key(lookup.visitor).hex(),
            history=b"" if visitor is None else pack(visitor.history),
            degraded=lookup.degraded,
        )
        self._journals[RANKINGS].offer(entry, parts=len(candidates))

    def told(self, events: Sequence[Event]) -> None:
        """Take in events that were kept."""
        if FEEDBACK in self._journals:
            for one in feedback(events):
                self._journals[FEEDBACK].offer(one)

    def each_second(self) -> None:
        now = time.time()
        self._lacks_recent = True
        for variant, watch in self._watches.items():
            if watch.each_second(now):
                self._metrics.traffic.drifts(variant, watch.drift.reading())
        for kind, journal in self._journals.items():
            self._metrics.traffic.wrote(kind, journal.stats())
        self._metrics.traffic.srm_alarm.set(self._exposures.ratio().alarm)

    def drift(self) -> dict[str, DriftReading]:
        """What drifts, by variant; a variant whose model has no profile is left out."""
        return {variant: watch.drift.reading() for variant, watch in self._watches.items()}


def _now() -> int:
    """In milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def _name(model: Model) -> str:
    return f"{model.bundle.name}/{model.bundle.version}"


def _journals(folder: Path, limit_mb: int) -> dict[str, Journal]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"{folder} cannot be written to")
    except OSError as error:
        raise SettingsError(f"FRONTROW_LOG_FOLDER: {error}") from error
    return {kind: Journal(folder, kind, max_bytes=limit_mb * 2**20) for kind in LOGS}


def _listed(columns: Columns) -> list[str | LoggedCandidate]:
    """Candidates that came in columns, one by one."""
    listed: list[str | LoggedCandidate] = list(columns.ids)
    for place, features in columns.brought():
        listed[place] = LoggedCandidate(columns.ids[place], features)
    return listed
