"""Derived features: what a visitor's history says about the visitor, and about the visitor and an activity.

`DERIVED` is their one definition, for training and for serving. To add a feature is to add a line to it.
"""

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

    role: `context`, the same for all candidates of a visitor, so that `value` gives one number a visitor; `activity`,
        for which it gives one a candidate. categories: the catalog column whose values are its categories; `value`
        gives its codes (`Column`).
    """

    name: str
    role: Literal["context", "activity"]
    type: Literal["number", "integer", "boolean", "category"]
    categories: str | None
    description: str
    value: Callable[["Impressions"], NDArray[Any]]


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
        self.find(NOTHING.activities)  # the catalog sorts its keys now, which takes 1 us each, not in a first ranking
        self.unknown = len(catalog)
        self.prices = np.ascontiguousarray(catalog.matrix([("price", None)])[:, 0])
        self.category = _column(catalog, "category")
        self.city = _column(catalog, "city")


class Impressions:
    """Visitors, each at one moment, before their candidates: all that a derived feature is a function of.

    V visitors with E events and N candidates; those of a visitor stand together, in the order of the visitors.
    Of the events, in order of time: `ages` (hours, before the moment), `kinds`, `viewed` (their activities' rows; -1
    when not in the catalog), `whose` (their visitors). Whoever clicked or booked has viewed, so every event counts as a
    view of its activity.
    Of the candidates: `rows` (`len(catalog)` stands for an unknown one), `before` (their visitors).
    """

    def __init__(
        self, histories: Sequence[History], moments: Sequence[int], rows: Rows, counts: Sequence[int], known: Activities
    ) -> None:
        lengths = np.array([len(history.at) for history in histories], dtype=np.intp)
        self.visitors = len(histories)
        self.lengths = lengths
        self.stops = lengths.cumsum()
        self.whose = np.arange(len(histories)).repeat(lengths)
        at, kinds, activities = map(np.concatenate, zip(*histories, strict=True))
        self.ages: Floats = (np.array(moments, dtype=np.int64).repeat(lengths) - at) / HOUR_MS
        self.kinds = kinds
        self.viewed = known.find(activities)
        self.rows = rows
        self.before = np.arange(len(histories)).repeat(counts)
        self.activities = known

    # Of each visitor: shape (V,)

    def hours_since_event(self) -> Floats:
        hours = np.full(self.visitors, np.nan)
        some = self.lengths > 0
        hours[some] = self.ages[self.stops[some] - 1]
        return hours

    def count(self, hours: float, kind: Kind | None = None) -> Rows:
        """Events of the last hours, of one kind or of any."""
        counted = self.ages <= hours
        if kind is not None:
            counted &= self.kinds == KINDS.index(kind)
        return np.bincount(self.whose[counted], minlength=self.visitors)

    def favourite(self, column: Column) -> Rows:
        """The code that was viewed most often, and of several such the one viewed last."""
        codes = column.codes[self.viewed]
        known = codes < len(column.texts)
        cells = self.whose[known] * (len(column.texts) + 1) + codes[known]
        shape = (self.visitors, len(column.texts) + 1)
        views = np.bincount(cells, minlength=shape[0] * shape[1])
        lasts = np.zeros_like(views)
        lasts[cells] = np.arange(len(cells))  # of several views of a cell the last one stays
        ranks = (views * (len(cells) + 1) + lasts).reshape(shape)
        ranks[:, -1] = 1  # of nothing: more than no view, and less than any
        favourites: Rows = ranks.argmax(axis=1)
        return favourites

    @cached_property
    def mean_price(self) -> Floats:
        prices = self.activities.prices[self.viewed]
        known = prices == prices  # noqa: PLR0124 - not NaN
        whose = self.whose[known]
        # bincount adds in the order of the events, so a sum does not depend on who else is there.
        sums = np.bincount(whose, weights=prices[known], minlength=self.visitors)
        return sums / self._or_nan(np.bincount(whose, minlength=self.visitors))

    # Of each visitor and candidate: shape (N,)

    @cached_property
    def _views(self) -> tuple[Rows, Rows, Rows]:
        """The events by visitor and activity, oldest first, and for each candidate where its events begin and end."""
        stride = self.activities.unknown + 2  # rows from -1 to that of an unknown candidate, which nobody viewed
        events = self.whose * stride + self.viewed
        candidates = self.before * stride + self.rows
        order = events.argsort(kind="stable")
        ordered = events[order]
        return order, ordered.searchsorted(candidates, "left"), ordered.searchsorted(candidates, "right")

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
        recent = np.arange(len(self.whose)) >= (self.stops - RECENT)[self.whose]
        shape = (self.visitors, len(column.texts) + 1)
        cells = self.whose[recent] * shape[1] + column.codes[self.viewed[recent]]
        counts = np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)
        shares: Floats = counts / self._or_nan(np.minimum(self.lengths, RECENT))[:, None]
        shares[:, -1] = np.nan
        of_candidates: Floats = shares[self.before, column.codes[self.rows]]
        return of_candidates

    def price_to_viewed(self) -> Floats:
        return self.activities.prices[self.rows] / self._or_nan(self.mean_price)[self.before]

    @staticmethod
    def _or_nan(divisors: NDArray[Any]) -> Floats:
        return np.where(divisors == 0, np.nan, divisors)


DERIVED: tuple[Derived, ...] = (
    Derived("visitor_hours_since_event", "context", "number", None,
            "hours since the visitor's last event", Impressions.hours_since_event),
    Derived("visitor_views_1h", "context", "integer", None,
            "events in the last hour", lambda batch: batch.count(1)),
    Derived("visitor_views_7d", "context", "integer", None,
            "events in the last 7 days", lambda batch: batch.count(7 * 24)),
    Derived("visitor_clicks_7d", "context", "integer", None,
            "clicks in the last 7 days", lambda batch: batch.count(7 * 24, "click")),
    Derived("visitor_bookings_30d", "context", "integer", None,
            "bookings in the last 30 days", lambda batch: batch.count(30 * 24, "booking")),
    Derived("visitor_favourite_category", "context", "category", "category",
            "the category viewed most often", lambda batch: batch.favourite(batch.activities.category)),
    Derived("visitor_mean_price", "context", "number", None,
            "mean price of what was viewed", lambda batch: batch.mean_price),
    Derived("times_viewed", "activity", "integer", None,
            "events of this visitor and this activity", Impressions.times_viewed),
    Derived("hours_since_viewed", "activity", "number", None,
            "hours since the last of them", Impressions.hours_since_viewed),
    Derived("booked_before", "activity", "boolean", None,
            "whether this visitor booked this activity", Impressions.booked_before),
    Derived("same_category_share", "activity", "number", None,
            f"share of the last {RECENT} events in the activity's category",
            lambda batch: batch.recent_share(batch.activities.category)),
    Derived("same_city_share", "activity", "number", None,
            f"share of the last {RECENT} events in the activity's city",
            lambda batch: batch.recent_share(batch.activities.city)),
    Derived("price_to_viewed", "activity", "number", None,
            "the activity's price over the mean price of what was viewed", Impressions.price_to_viewed),
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
        self._of_visitors = [
            (column, feature.value) for column, feature in enumerate(chosen) if feature.role == "context"
        ]
        self._of_candidates = [
            (column, feature.value) for column, feature in enumerate(chosen) if feature.role == "activity"
        ]
        self._translations = {
            column: _translation(catalog.categories(feature.categories), features[feature.name] or ())
            for column, feature in enumerate(chosen)
            if feature.categories is not None
        }

    def values(self, history: History, moment: int, rows: Rows) -> Floats:
        """The features of a visitor before n candidates at a moment: shape (n, len(names)), float64.

        history: any events; those strictly before the moment count, within the bounds. moment: milliseconds since 1970.
        rows: of the candidates in the catalog, shape (n,); `len(catalog)` stands for an unknown one.
        A category is its index among the model's; what is missing or unknown is NaN.
        """
        of_visitor, of_candidates = self.of_batch([history], [moment], rows, [len(rows)])
        values = np.empty((len(rows), len(self.names)))
        values[:, [column for column, _ in self._of_visitors]] = of_visitor
        values[:, [column for column, _ in self._of_candidates]] = of_candidates
        return values

    def of_batch(
        self, histories: Sequence[History], moments: Sequence[int], rows: Rows, counts: Sequence[int]
    ) -> tuple[Floats, Floats]:
        """The features of v visitors, each at a moment before candidates: those of role `context` and of `activity`.

        counts: of each visitor's candidates; `rows` are those of all, one visitor behind the other, shape (n,).
        Shapes (v, context features) and (n, activity features), each in the order of `names`; the numbers are those of
        `values`, whoever else is in the batch. At least one visitor.
        """
        known = [history.before(moment, self._bounds) for history, moment in zip(histories, moments, strict=True)]
        impressions = Impressions(known, moments, rows, counts, self._activities)
        return (
            self._columns(impressions, self._of_visitors, len(histories)),
            self._columns(impressions, self._of_candidates, len(rows)),
        )

    def _columns(
        self,
        impressions: Impressions,
        features: Sequence[tuple[int, Callable[[Impressions], NDArray[Any]]]],
        count: int,
    ) -> Floats:
        values = np.empty((count, len(features)))
        for place, (column, function) in enumerate(features):
            value = function(impressions)
            translation = self._translations.get(column)
            values[:, place] = value if translation is None else translation[value]
        return values


def _column(catalog: Catalog, name: str) -> Column:
    texts = catalog.categories(name)
    codes = catalog.matrix([(name, texts)])[:, 0]
    return Column(texts, np.where(np.isnan(codes), len(texts), codes).astype(np.intp))


def _translation(texts: Sequence[str], categories: Sequence[str]) -> Floats:
    """From codes of the catalog to those of the model; the last is that of nothing."""
    codes = {text: float(code) for code, text in enumerate(categories)}
    return np.array([*(codes.get(text, np.nan) for text in texts), np.nan])
