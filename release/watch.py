"""Waiting for the verdict while both arms are being scraped."""

from collections.abc import Callable

from release.evidence import Evidence
from release.hard_faults import MISSED_SCRAPES
from release.judge import Trial
from release.prometheus import PrometheusError


def watch(read: Callable[[], Evidence], *, sleep: Callable[[float], None], tell: Callable[[Trial], None]) -> Trial:
    """Return the trial as soon as its verdict is final. Looks again after every scrape, and tells each time.

    Raises `PrometheusError` when Prometheus was out of reach more often in a row than a target may be.
    """
    silent, seconds = 0, 0.0
    while True:
        try:
            trial = Trial(read())
        except PrometheusError:
            silent += 1
            if silent > MISSED_SCRAPES:
                raise
        else:
            silent, seconds = 0, trial.evidence.rules.scrape_seconds
            tell(trial)
            if trial.verdict.final:
                return trial
        sleep(seconds or 1.0)
