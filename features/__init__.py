"""What is known about activities and visitors."""

from features.breaker import Breaker
from features.catalog import Catalog, CatalogError
from features.derived import DERIVED, DERIVED_BY_NAME, Declared, Derived, DerivedFeatures, declare
from features.events import KINDS, MAX_AT, Event, EventError, Kind
from features.history import NOTHING, Bounds, History
from features.point_in_time import EventLog, Session, point_in_time
from features.stores import HistoryStore, StoreReadOnly, StoreUnavailable, open_store
from features.visitors import FetchReport, Visitor, Visitors

__all__ = [
    "DERIVED",
    "DERIVED_BY_NAME",
    "KINDS",
    "MAX_AT",
    "NOTHING",
    "Bounds",
    "Breaker",
    "Catalog",
    "CatalogError",
    "Declared",
    "Derived",
    "DerivedFeatures",
    "Event",
    "EventError",
    "EventLog",
    "FetchReport",
    "History",
    "HistoryStore",
    "Kind",
    "Session",
    "StoreReadOnly",
    "StoreUnavailable",
    "Visitor",
    "Visitors",
    "declare",
    "open_store",
    "point_in_time",
]
