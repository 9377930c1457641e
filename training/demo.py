"""The demo marketplace: activities, visitors with tastes, and what they viewed, clicked and booked. All invented.

The same size and seed give the same bytes. A visitor's taste is hidden, and so is what this trip is for. Both show in
what is viewed and booked; the taste goes with country and party, and so partly shows in the context, too. What a good
ranker can learn are interactions between the two sides (a party of four and a theme park, a German visitor and a German
guide, a late trip and free cancellation), and what the events of this visitor say about the next one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.random import Generator
from numpy.typing import NDArray

from features import KINDS, Catalog
from registry import Feature
from training.features import infer_features
from training.files import Columns
from training.history import read_events, with_history
from training.tables import RankingTable, read_table
from training.train import Recipe

CONTEXT = ("device", "language", "country", "days_to_trip", "party_size", "weekend", "hour")
ACTIVITY = (
    "category",
    "city",
    "price",
    "duration_hours",
    "rating",
    "reviews",
    "popularity",
    "free_cancellation",
    "distance_km",
    "guide_language",
)
COLUMNS = Columns(time="shown_at", visitor="visitor", activity="activity")

CITIES = (
    *("Amsterdam", "Barcelona", "Berlin", "Edinburgh", "Florence", "Lisbon"),
    *("London", "Madrid", "Paris", "Prague", "Rome", "Vienna"),
)
CATEGORIES = {  # name -> (typical price, typical hours, what it is called)
    "museum": (24, 2.0, "museum ticket"),
    "walking_tour": (22, 2.5, "old town walk"),
    "food_tour": (78, 3.5, "food tasting"),
    "boat_tour": (32, 1.5, "boat tour"),
    "day_trip": (95, 9.0, "day trip"),
    "theme_park": (55, 7.0, "park ticket"),
    "bike_tour": (38, 3.0, "bike tour"),
    "nightlife": (45, 4.0, "night out"),
    "cooking_class": (88, 3.0, "cooking class"),
    "viewpoint": (28, 1.0, "skyline ticket"),
}
TASTES = {  # hidden archetype -> how much it likes each category, in the order above
    "culture": (1.3, 0.9, 0.1, 0.0, 0.2, -1.2, -0.4, -1.0, 0.1, 0.3),
    "family": (0.1, -0.6, -0.4, 0.6, 0.0, 1.6, 0.1, -1.8, -0.2, 0.5),
    "party": (-0.9, -0.3, 0.4, 0.5, -0.5, -0.2, 0.2, 1.7, -0.3, 0.3),
    "outdoors": (-0.8, 0.5, -0.2, 0.5, 1.1, -0.3, 1.3, -0.6, -0.6, 0.0),
    "gourmet": (0.0, 0.1, 1.5, -0.1, -0.1, -1.0, -0.3, 0.3, 1.3, -0.2),
}
COUNTRIES = {  # country -> language, and how often each taste comes from there
    "DE": ("de", (3, 2, 1, 4, 1)),
    "US": ("en", (3, 3, 2, 1, 2)),
    "GB": ("en", (2, 2, 4, 1, 1)),
    "FR": ("fr", (3, 1, 1, 2, 4)),
    "ES": ("es", (1, 3, 3, 1, 3)),
    "IT": ("it", (2, 2, 1, 1, 5)),
    "NL": ("en", (1, 2, 2, 5, 1)),
}
_FIRST_DAY_MS = int(np.datetime64("2026-03-02", "ms").astype(np.int64))  # a Monday
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_DAYS = 120
_TRIP_DAYS = 20  # so long a visitor looks for one city and one kind of trip
_CANDIDATES = 20

# What histories are worth: a visitor comes back for what was viewed, and does not book the same twice.
_VIEWED_WISH = 0.9
_BOOKED_WISH = -5.0
_PURPOSE_WISH = 1.4

Arrays = dict[str, NDArray[Any]]
Progress = Callable[[], None]


@dataclass(frozen=True)
class Size:
    """How large the marketplace is. Sessions of the last sixth of the time are kept apart for testing."""

    activities: int = 2_000
    visitors: int = 1_000
    sessions: int = 6_000
    seed: int = 2026


@dataclass(frozen=True)
class Marketplace:
    """Where the tables were written: sessions to learn from, later ones to test on, activities, and all events."""

    sessions: Path
    latest: Path
    catalog: Path
    events: Path

    @classmethod
    def at(cls, folder: Path) -> "Marketplace":
        return cls(*(folder / f"{name}.parquet" for name in ("sessions", "latest", "catalog", "events")))

    def read(self) -> tuple[RankingTable, RankingTable]:
        """The two tables of sessions, with the derived features of their visitors."""
        catalog, events = Catalog.read(self.catalog), read_events(self.events)
        learn, test = (
            with_history(read_table(path, columns=COLUMNS), catalog, events) for path in (self.sessions, self.latest)
        )
        return learn, test


@dataclass(frozen=True)
class Variant:
    """A model of the demo: which features it uses (None: all) and how it is boosted."""

    name: str
    alias: str
    features: tuple[str, ...] | None
    recipe: Recipe


# One thread: next to other work on two cores, LightGBM's threads wait for each other longer than they help.
VARIANTS = (
    Variant(
        "control",
        "champion",
        (
            *("device", "days_to_trip", "party_size", "category", "price", "rating", "reviews", "popularity"),
            *("visitor_favourite_category", "visitor_mean_price", "times_viewed", "hours_since_viewed"),
        ),
        Recipe(rounds=100, leaves=31, learning_rate=0.1, threads=1),
    ),
    Variant("treatment", "challenger", None, Recipe(rounds=160, leaves=31, learning_rate=0.08, threads=1)),
)
ALIASES = tuple(variant.alias for variant in VARIANTS)


def variant_features(table: RankingTable, variant: Variant) -> tuple[Feature, ...]:
    """List the features of a demo table that this variant uses."""
    features = infer_features(table, CONTEXT)
    return tuple(one for one in features if variant.features is None or one.name in variant.features)


def make_marketplace(folder: Path, size: Size = Size(), *, progress: Progress = lambda: None) -> Marketplace:
    """Write the four parquet tables into `folder`; `progress` is called after each of the `len(CITIES)` cities."""
    rng = np.random.default_rng(size.seed)
    activities = _activities(rng, size.activities)
    sessions = _sessions(rng, size)
    past = _Past.nothing(size.sessions)
    for city in CITIES:
        _live_through(rng, past, city, sessions, activities)
        progress()
    folder.mkdir(parents=True, exist_ok=True)
    market = Marketplace.at(folder)
    table, learned = _session_table(sessions, activities, past), size.sessions * 5 // 6 * _CANDIDATES
    pyarrow.parquet.write_table(table.slice(0, learned), market.sessions)
    pyarrow.parquet.write_table(table.slice(learned), market.latest)
    pyarrow.parquet.write_table(_events_table(sessions, activities, past), market.events)
    catalog = pa.table({name: _nullable(activities[name]) for name in ("id", "title", *ACTIVITY)})
    pyarrow.parquet.write_table(catalog, market.catalog)
    return market


def _session_table(sessions: Arrays, activities: Arrays, past: "_Past") -> pa.Table:
    query = np.repeat(np.arange(len(past.shown)), _CANDIDATES)
    context = {name: values[query] for name, values in sessions.items()}
    offered = {name: values[past.shown.ravel()] for name, values in activities.items()}
    return pa.table(
        {
            "query": query,
            "visitor": context["visitor"],
            "shown_at": pa.array(context["at"]).cast(pa.timestamp("ms")),
            "activity": offered["id"],
            "label": past.labels.ravel(),
            **{name: context[name] for name in CONTEXT},
            **{name: _nullable(offered[name]) for name in ACTIVITY},
        }
    )


def _events_table(sessions: Arrays, activities: Arrays, past: "_Past") -> pa.Table:
    session, activity, kind, at = (np.array(column) for column in zip(*past.events, strict=True))
    order = np.argsort(at, kind="stable")
    return pa.table(
        {
            "visitor": sessions["visitor"][session[order]],
            "activity": activities["id"][activity[order]],
            "kind": np.array(KINDS)[kind[order]],
            "at": pa.array(at[order]).cast(pa.timestamp("ms")),
        }
    )


def _activities(rng: Generator, count: int) -> Arrays:
    category = rng.integers(len(CATEGORIES), size=count)
    prices, hours, nouns = (np.array(column) for column in zip(*CATEGORIES.values(), strict=True))
    quality = rng.normal(size=count)
    popularity = 1 / (1 + np.exp(-(0.7 * quality + rng.normal(size=count) - 0.5)))
    reviews = np.floor(np.exp(rng.normal(3.2, 1.4, count) + 1.5 * popularity))
    rating = np.clip(4.4 + 0.3 * quality + rng.normal(0, 0.15, count), 2.5, 5.0).round(1)
    adjectives = np.array(["Classic", "Small-group", "Private", "Sunset", "Skip-the-line", "Hidden", "Grand", "Early"])
    chosen = adjectives[rng.integers(len(adjectives), size=count)]
    cities = np.array(CITIES)[np.arange(count) % len(CITIES)]
    guides = rng.choice(["none", "en", "de", "fr", "es", "it"], count, p=[0.2, 0.4, 0.12, 0.1, 0.1, 0.08])
    return {
        "id": np.array([f"A{1000 + number}" for number in range(count)]),
        "title": np.array(
            [f"{how} {what} in {city}" for how, what, city in zip(chosen, nouns[category], cities, strict=True)]
        ),
        "category": np.array(list(CATEGORIES))[category],
        "city": cities,
        "price": np.maximum(5, prices[category] * np.exp(rng.normal(0, 0.45, count))).round(2),
        "duration_hours": np.maximum(0.5, np.round(hours[category] * np.exp(rng.normal(0, 0.25, count)) * 2) / 2),
        "rating": np.where(reviews < 5, np.nan, rating),  # nobody knows yet
        "reviews": reviews.astype(np.int64),
        "popularity": popularity.round(4),
        "free_cancellation": rng.random(count) < 0.6,
        "distance_km": rng.gamma(1.6, 1.8, count).round(2),
        "guide_language": guides,
    }


def _sessions(rng: Generator, size: Size) -> Arrays:
    visitors = _visitors(rng, size.visitors)
    visitor = rng.integers(size.visitors, size=size.sessions)
    since = np.sort(rng.integers(_DAYS * _DAY_MS, size=size.sessions))
    trip = since // (_TRIP_DAYS * _DAY_MS)
    trips = (size.visitors, _DAYS // _TRIP_DAYS)
    family = visitors["taste"][visitor] == list(TASTES).index("family")
    return {
        "visitor": np.array([f"V{10000 + number}" for number in range(size.visitors)])[visitor],
        "at": _FIRST_DAY_MS + since,
        "city": np.array(CITIES)[rng.integers(len(CITIES), size=trips)[visitor, trip]],
        "purpose": np.array(list(CATEGORIES))[rng.integers(len(CATEGORIES), size=trips)[visitor, trip]],
        "taste": visitors["taste"][visitor],
        "thrift": visitors["thrift"][visitor],
        "device": np.where(rng.random(size.sessions) < 0.8, visitors["device"][visitor], "tablet"),
        "language": visitors["language"][visitor],
        "country": visitors["country"][visitor],
        "days_to_trip": np.floor(rng.gamma(0.9, 14, size.sessions)).astype(np.int64),
        "party_size": np.where(family, rng.integers(3, 7, size.sessions), rng.integers(1, 5, size.sessions)),
        "weekend": since // _DAY_MS % 7 >= 5,
        "hour": since // _HOUR_MS % 24,
    }


def _visitors(rng: Generator, count: int) -> Arrays:
    country = rng.integers(len(COUNTRIES), size=count)
    languages, shares = zip(*COUNTRIES.values(), strict=True)
    odds = np.array(shares, dtype=np.float64)
    reached = np.cumsum(odds / odds.sum(axis=1, keepdims=True), axis=1)[country]
    own = np.array(languages)[country]
    return {
        "country": np.array(list(COUNTRIES))[country],
        "language": np.where(rng.random(count) < 0.15, "en", own),
        "taste": (rng.random(count)[:, None] > reached).sum(axis=1),
        "thrift": np.exp(rng.normal(-0.3, 0.4, count)),
        "device": rng.choice(["mobile", "desktop"], count, p=[0.65, 0.35]),
    }


# ---- what happened: city by city, because nobody sees an activity of one while searching another


class _Past(NamedTuple):
    """`shown` and `labels` (sessions, candidates); events as (session, activity, code of the kind, milliseconds)."""

    shown: NDArray[np.int64]
    labels: NDArray[np.int64]
    events: list[tuple[int, int, int, int]]

    @classmethod
    def nothing(cls, sessions: int) -> "_Past":
        shown, labels = (np.empty((sessions, _CANDIDATES), dtype=np.int64) for _ in range(2))
        return cls(shown, labels, [])


def _live_through(rng: Generator, past: _Past, city: str, sessions: Arrays, activities: Arrays) -> None:
    """Let the visitors of one city browse and search, in order of time: what they did changes what they want."""
    searches, offers = np.flatnonzero(sessions["city"] == city), np.flatnonzero(activities["city"] == city)
    wishes = _utility(
        {name: values[searches, None] for name, values in sessions.items()},
        {name: values[offers] for name, values in activities.items()},
    )
    wake: dict[str, NDArray[np.float64]] = {}  # visitor -> how their past changes each wish
    for session, wish in zip(searches.tolist(), wishes, strict=True):
        changed = wake.setdefault(str(sessions["visitor"][session]), np.zeros(len(offers)))
        viewed, events = _browse(rng, wish, int(sessions["at"][session]))
        changed[viewed[changed[viewed] == 0]] = _VIEWED_WISH
        shown = rng.permutation(np.argsort(rng.random(len(offers)) - 0.6 * (changed > 0))[:_CANDIDATES])
        labels = _labels(rng, (wish + changed)[shown])
        events += _outcome(rng, shown, labels, int(sessions["at"][session]))
        changed[shown[labels == 3]] = _BOOKED_WISH
        past.shown[session], past.labels[session] = offers[shown], labels
        past.events.extend((session, int(offers[place]), kind, at) for place, kind, at in events)


def _browse(rng: Generator, wish: NDArray[np.float64], at: int) -> tuple[NDArray[np.int64], list[tuple[int, int, int]]]:
    """What was viewed in the hours before a search, mostly what is wished for; one in three comes straight here."""
    views = 0 if rng.random() < 0.33 else 1 + rng.poisson(4)
    odds = np.exp(1.2 * (wish - wish.max()))
    viewed = rng.choice(len(wish), size=views, p=odds / odds.sum())
    times = at - 1_000 - np.floor(rng.exponential(8 * _HOUR_MS, views)).astype(np.int64)
    kinds = (rng.random(views) < 0.3).astype(np.int64)  # a click where it was looked at closely
    return viewed, list(zip(viewed.tolist(), kinds.tolist(), times.tolist(), strict=True))


def _outcome(
    rng: Generator, shown: NDArray[np.int64], labels: NDArray[np.int64], at: int
) -> list[tuple[int, int, int]]:
    """The clicks and bookings that a search led to, within minutes."""
    clicked = np.flatnonzero(labels)
    delays = rng.integers(2_000, 600_000, size=len(clicked)).tolist()
    events = []
    for place, delay in zip(clicked.tolist(), delays, strict=True):
        events.append((int(shown[place]), KINDS.index("click"), at + delay))
        if labels[place] == 3:
            events.append((int(shown[place]), KINDS.index("booking"), at + delay + 60_000))
    return events


def _labels(rng: Generator, wish: NDArray[np.float64]) -> NDArray[np.int64]:
    """0 shown, 1 clicked, 2 in the basket, 3 booked: each step more likely the more a visitor wants the activity."""
    felt = wish + rng.gumbel(0, 0.6, len(wish))
    steps = [rng.random(len(wish)) < 1 / (1 + np.exp(hurdle - 1.6 * felt)) for hurdle in (5.2, 6.2, 7.0)]
    labels: NDArray[np.int64] = np.cumprod(steps, axis=0).sum(axis=0)
    return labels


def _utility(context: Arrays, offered: Arrays) -> NDArray[np.float64]:
    category = np.searchsorted(sorted(CATEGORIES), offered["category"])
    order = np.argsort(list(CATEGORIES))
    taste = np.array(list(TASTES.values()))[context["taste"], order[category]]
    guided = offered["guide_language"] != "none"
    understood = offered["guide_language"] == context["language"]
    mobile = context["device"] == "mobile"
    soon = context["days_to_trip"] <= 2
    evening = context["hour"] >= 18
    nightly = np.isin(offered["category"], ["nightlife", "food_tour"])
    bundle = np.isin(offered["category"], ["theme_park", "boat_tour"]) & (context["party_size"] >= 4)
    purpose = _PURPOSE_WISH * (offered["category"] == context["purpose"])
    likes = taste + purpose + 0.8 * bundle + 0.7 * (nightly & evening)
    price = -context["thrift"] * (0.6 + 0.3 * mobile + 0.1 * context["party_size"]) * np.log(offered["price"] / 40)
    trust = 1.6 * np.nan_to_num(offered["rating"] - 4.4, nan=-0.2) + 0.12 * np.log1p(offered["reviews"])
    effort = -0.12 * offered["distance_km"] * (1 + 1.5 * soon) - 0.5 * (mobile & (offered["duration_hours"] > 6))
    plans = 0.9 * (offered["free_cancellation"] & (context["days_to_trip"] > 14)) + 0.5 * (
        context["weekend"] & (offered["duration_hours"] > 5)
    )
    talk = np.where(guided, np.where(understood, 0.9, np.where(offered["guide_language"] == "en", 0.1, -1.2)), 0.0)
    return np.asarray(likes + price + trust + effort + plans + talk + 0.8 * offered["popularity"])


def _nullable(values: NDArray[Any]) -> pa.Array:
    return pa.array(values, from_pandas=True)
