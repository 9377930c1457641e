"""Derived features: what a visitor's history says about the visitor, and about the visitor and an activity.

`DERIVED` is their one definition, for training and for serving. To add a feature is to add a line to it.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.catalog import Catalog
from features.events import KINDS, Kind
from features.history import NOTHING, Bounds, History

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

HOUR_MS = 3_600_000
RECENT = 10  # events that "recent" means


class Derived(NamedTuple):
    """A derived feature.

    role: `context`, the same for all candidates, so that `value` gives one number; `activity`, for which it gives one a
        candidate. categories: the catalog column whose values are its categories; `value` gives its codes (`Column`).
    """

    name: str
    role: Literal["context", "activity"]
    type: Literal["number", "integer", "boolean", "category"]
    categories: str | None
    description: str
    value: Callable[["Impression"], float | NDArray[Any]]


class Declared(NamedTuple):
    """A derived feature as a model's feature list has it."""

    name: str
    role: Literal["context", "activity"]
    type: Literal["number", "integer", "boolean", "category"]
    categories: tuple[str, ...] | None


class Column(NamedTuple):
    """A catalog column of texts as codes: their places among `texts`, and len(texts) where it is missing or unknown."""

    texts: tuple[str, ...]
    codes: Rows


class Activities:
    """What derived features read of the catalog. Each array has one row more, the last: of an unknown activity."""

    def __init__(self, catalog: Catalog) -> None:
        self.find = catalog.find
        self.unknown = len(catalog)
        self.prices = np.ascontiguousarray(catalog.matrix([("price", None)])[:, 0])
        self.category = _column(catalog, "category")
        self.city = _column(catalog, "city")


class Impression:
    """One visitor, at one moment, before n candidates: all that a derived feature is a function of.

    Of the events, in order of time: `ages` (hours, before the moment), `kinds`, `viewed` (their activities' rows; -1
    when not in the catalog). Whoever clicked or booked has viewed, so every event counts as a view of its activity.
    Of the candidates: `rows`, shape (n,); `len(catalog)` stands for an unknown one.
    """

    def __init__(self, history: History, moment: int, rows: Rows, activities: Activities) -> None:
        self.ages: Floats = (moment - history.at) / HOUR_MS
        self.kinds = history.kinds
        self.viewed = activities.find(history.activities)
        self.rows = rows
        self.activities = activities

    # Of the visitor

    def hours_since_event(self) -> float:
        return float(self.ages[-1]) if len(self.ages) else math.nan

    def count(self, hours: float, kind: Kind | None = None) -> float:
        """Events of the last hours, of one kind or of any."""
        ages, kinds = self._latest_first
        recent = bisect_right(ages, hours)
        return recent if kind is None else kinds[:recent].count(KINDS.index(kind))

    @cached_property
    def _latest_first(self) -> tuple[list[float], list[int]]:
        """Ages and kinds as lists: to count a few, they are quicker than arrays."""
        return self.ages[::-1].tolist(), self.kinds[::-1].tolist()

    def favourite(self, column: Column) -> float:
        """The code that was viewed most often, and of several such the one viewed last."""
        codes = column.codes[self.viewed]
        codes = codes[codes < len(column.texts)]
        if not len(codes):
            return len(column.texts)
        latest_first = codes[::-1]
        return float(latest_first[np.bincount(codes)[latest_first].argmax()])

    @cached_property
    def mean_price(self) -> float:
        prices = self.activities.prices[self.viewed]
        known = prices[prices == prices].tolist()  # noqa: PLR0124 - not NaN
        return math.fsum(known) / len(known) if known else math.nan  # fsum: exact, whatever the machine adds how

    # Of the visitor and each candidate

    @cached_property
    def _views(self) -> tuple[Rows, Rows, Rows]:
        """The events by activity, oldest first, and for each candidate where its events begin and end."""
        order = self.viewed.argsort(kind="stable")
        ordered = self.viewed[order]
        return order, ordered.searchsorted(self.rows, "left"), ordered.searchsorted(self.rows, "right")

    def times_viewed(self) -> Rows:
        _, start, stop = self._views
        return stop - start

    def hours_since_viewed(self) -> Floats:
        order, start, stop = self._views
        hours = np.full(len(self.rows), np.nan)
        seen = stop > start
        hours[seen] = self.ages[order[stop[seen] - 1]]
        return hours

    def booked_before(self) -> NDArray[np.bool_]:
        order, start, stop = self._views
        bookings = np.zeros(len(order) + 1, dtype=np.intp)  # among the first so many events by activity
        np.cumsum(self.kinds[order] == KINDS.index("booking"), out=bookings[1:])
        return bookings[stop] > bookings[start]

    def recent_share(self, column: Column) -> Floats:
        """The share of the recent events whose activity has the candidate's value; NaN where that is unknown."""
        recent = column.codes[self.viewed[-RECENT:]]
        shares = np.bincount(recent, minlength=len(column.texts) + 1) / (len(recent) or np.nan)
        shares[-1] = np.nan
        return shares.take(column.codes[self.rows])

    def price_to_viewed(self) -> Floats:
        return self.activities.prices[self.rows] / (self.mean_price or math.nan)


DERIVED: tuple[Derived, ...] = (
    Derived("visitor_hours_since_event", "context", "number", None,
            "hours since the visitor's last event", Impression.hours_since_event),
    Derived("visitor_views_1h", "context", "integer", None,
            "events in the last hour", lambda one: one.count(1)),
    Derived("visitor_views_7d", "context", "integer", None,
            "events in the last 7 days", lambda one: one.count(7 * 24)),
    Derived("visitor_clicks_7d", "context", "integer", None,
            "clicks in the last 7 days", lambda one: one.count(7 * 24, "click")),
    Derived("visitor_bookings_30d", "context", "integer", None,
            "bookings in the last 30 days", lambda one: one.count(30 * 24, "booking")),
    Derived("visitor_favourite_category", "context", "category", "category",
            "the category viewed most often", lambda one: one.favourite(one.activities.category)),
    Derived("visitor_mean_price", "context", "number", None,
            "mean price of what was viewed", lambda one: one.mean_price),
    Derived("times_viewed", "activity", "integer", None,
            "events of this visitor and this activity", Impression.times_viewed),
    Derived("hours_since_viewed", "activity", "number", None,
            "hours since the last of them", Impression.hours_since_viewed),
    Derived("booked_before", "activity", "boolean", None,
            "whether this visitor booked this activity", Impression.booked_before),
    Derived("same_category_share", "activity", "number", None,
            f"share of the last {RECENT} events in the activity's category",
            lambda one: one.recent_share(one.activities.category)),
    Derived("same_city_share", "activity", "number", None,
            f"share of the last {RECENT} events in the activity's city",
            lambda one: one.recent_share(one.activities.city)),
    Derived("price_to_viewed", "activity", "number", None,
            "the activity's price over the mean price of what was viewed", Impression.price_to_viewed),
)  # fmt: skip

DERIVED_BY_NAME: Mapping[str, Derived] = {feature.name: feature for feature in DERIVED}


def declare(catalog: Catalog, names: Sequence[str] = tuple(DERIVED_BY_NAME)) -> list[Declared]:
    """Derived features as a model trained with this catalog has them: what `registry.Feature` is made of."""
    return [
        Declared(name, role, kind, None if column is None else catalog.categories(column))
        for name, role, kind, column, _, _ in (DERIVED_BY_NAME[name] for name in names)
    ]


class DerivedFeatures:
    """Derived features of one model, over one catalog. Thread-safe: nothing changes after it is made.

    features: name -> the categories that the model knows, None for what is no category. Others than `DERIVED` has are
        a `KeyError`.
    """

    def __init__(
        self,
        features: Mapping[str, Sequence[str] | None],
        catalog: Catalog,
        bounds: Bounds = Bounds(),  # noqa: B008 - immutable
    ) -> None:
        self.names = tuple(features)
        self._bounds = bounds
        self._activities = Activities(catalog)
        chosen = [DERIVED_BY_NAME[name] for name in self.names]
        self._functions = [feature.value for feature in chosen]
        self._translations = [
            (column, _translation(catalog.categories(feature.categories), features[feature.name] or ()))
            for column, feature in enumerate(chosen)
            if feature.categories is not None
        ]
        self._of_nobody = self._impression_values(NOTHING, 0, np.array([self._activities.unknown]))

    def values(self, history: History, moment: int, rows: Rows) -> Floats:
        """The features of a visitor before n candidates at a moment: shape (n, len(names)), float64.

        history: any events; those strictly before the moment count, within the bounds. moment: milliseconds since 1970.
        rows: of the candidates in the catalog, shape (n,); `len(catalog)` stands for an unknown one.
        A category is its index among the model's; what is missing or unknown is NaN.
        """
        known = history.before(moment, self._bounds)
        if not len(known.at):
            return np.repeat(self._of_nobody, len(rows), axis=0)
        return self._impression_values(known, moment, rows)

    def _impression_values(self, history: History, moment: int, rows: Rows) -> Floats:
        impression = Impression(history, moment, rows, self._activities)
        values = np.empty((len(rows), len(self._functions)))
        for column, function in enumerate(self._functions):
            values[:, column] = function(impression)
        for column, translation in self._translations:
            values[:, column] = translation[values[:, column].astype(np.intp)]
        return values


def _column(catalog: Catalog, name: str) -> Column:
    texts = catalog.categories(name)
    codes = catalog.matrix([(name, texts)])[:, 0]
    return Column(texts, np.where(np.isnan(codes), len(texts), codes).astype(np.intp))


def _translation(texts: Sequence[str], categories: Sequence[str]) -> Floats:
    """From codes of the catalog to those of the model; the last is that of nothing."""
    codes = {text: float(code) for code, text in enumerate(categories)}
    return np.array([*(codes.get(text, np.nan) for text in texts), np.nan])
