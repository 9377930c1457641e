"""Visitor histories as the settings want them, with an eye on their store."""

import structlog

from app.metrics import Metrics
from app.settings import Settings, SettingsError
from features import Bounds, FetchReport, StoreUnavailable, Visitors, open_store

DAY_MS = 24 * 3_600_000

log = structlog.get_logger("frontrow.histories")


def bounds(settings: Settings) -> Bounds:
    return Bounds(settings.history_events, int(settings.history_days * DAY_MS))


def open_visitors(settings: Settings, metrics: Metrics) -> Visitors:
    """The visitors of the store that the settings name. Raises `SettingsError` when it cannot be opened.

    A server that does not answer is no reason: rankings go on without it, and with it once it is there.
    """
    try:
        store = open_store(settings.feature_store, bounds(settings))
    except StoreUnavailable as error:
        raise SettingsError(f"FRONTROW_FEATURE_STORE: {error}") from error
    watch = _StoreWatch(store.name, metrics)
    watch.visitors = visitors = Visitors(store, budget_seconds=settings.feature_budget_ms / 1e3, observer=watch.fetched)
    return visitors


class _StoreWatch:
    """Counts what fetches cost and how they end, and says it once when the store goes out of use or is back."""

    visitors: Visitors

    def __init__(self, store: str, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._is_out = False
        metrics.opens_store(store)

    def fetched(self, report: FetchReport) -> None:
        self._metrics.fetched(report)
        is_out = self.visitors.stats().open
        if is_out == self._is_out:
            return
        self._is_out = is_out
        self._metrics.store_is_out.set(is_out)
        if is_out:
            reason = str(report.error or f"{report.outcome} after {1e3 * report.seconds:.1f} ms")
            log.warning("rankings go on without histories", store=self._store, reason=reason)
        else:
            log.info("rankings have histories again", store=self._store)
