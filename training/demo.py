"""The demo marketplace: activities, visitors with tastes, and what they searched, clicked and booked. All invented.

The same size and seed give the same bytes. A visitor's taste is hidden: it shows in what is booked and, because it goes
with country and party, partly in the context. What a good ranker can learn are interactions between the two sides: a
party of four and a theme park, a German visitor and a German guide, a late trip and free cancellation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.random import Generator
from numpy.typing import NDArray

from registry import Feature
from training.features import infer_features
from training.tables import RankingTable
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
NOT_FEATURES = ("visitor", "activity", "shown_at")

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
_FIRST_DAY = np.datetime64("2026-03-02T00:00:00", "s")  # a Monday
_DAYS = 120
_CANDIDATES = 20

Arrays = dict[str, NDArray[Any]]
Progress = Callable[[], None]


@dataclass(frozen=True)
class Size:
    """How large the marketplace is. Sessions of the last sixth of the time are kept apart for testing."""

    activities: int = 2_000
    visitors: int = 3_000
    sessions: int = 6_000
    seed: int = 2026


@dataclass(frozen=True)
class Marketplace:
    """Where the tables were written: sessions to learn from, later ones to test on, and the activity catalog."""

    sessions: Path
    latest: Path
    catalog: Path


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
        ("device", "days_to_trip", "party_size", "category", "price", "rating", "reviews", "popularity"),
        Recipe(rounds=100, leaves=31, learning_rate=0.1, threads=1),
    ),
    Variant("treatment", "challenger", None, Recipe(rounds=160, leaves=31, learning_rate=0.08, threads=1)),
)
ALIASES = tuple(variant.alias for variant in VARIANTS)


def variant_features(table: RankingTable, variant: Variant) -> tuple[Feature, ...]:
    """List the features of a demo table that this variant uses."""
    used = variant.features or (*CONTEXT, *ACTIVITY)
    return tuple(feature for feature in infer_features(table, CONTEXT) if feature.name in used)


def make_marketplace(folder: Path, size: Size = Size(), *, progress: Progress = lambda: None) -> Marketplace:
    """Write the three parquet tables into `folder`; `progress` is called after each of the `len(CITIES)` cities."""
    rng = np.random.default_rng(size.seed)
    activities = _activities(rng, size.activities)
    sessions = _sessions(rng, size)
    shown = _candidates(rng, activities["city"], sessions["city"], progress)
    query = np.repeat(np.arange(size.sessions), _CANDIDATES)
    context = {name: values[query] for name, values in sessions.items()}
    offered = {name: values[shown] for name, values in activities.items()}
    table = pa.table(
        {
            "query": query,
            "visitor": context["visitor"],
            "shown_at": context["shown_at"],
            "activity": offered["id"],
            "label": _labels(rng, context, offered),
            **{name: context[name] for name in CONTEXT},
            **{name: _nullable(offered[name]) for name in ACTIVITY},
        }
    )
    catalog = pa.table({name: _nullable(activities[name]) for name in ("id", "title", *ACTIVITY)})
    return _write(folder, table, catalog, learned=size.sessions * 5 // 6 * _CANDIDATES)


def _write(folder: Path, table: pa.Table, catalog: pa.Table, learned: int) -> Marketplace:
    folder.mkdir(parents=True, exist_ok=True)
    market = Marketplace(folder / "sessions.parquet", folder / "latest.parquet", folder / "catalog.parquet")
    pyarrow.parquet.write_table(table.slice(0, learned), market.sessions)
    pyarrow.parquet.write_table(table.slice(learned), market.latest)
    pyarrow.parquet.write_table(catalog, market.catalog)
    return market


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
    minutes = np.sort(rng.integers(_DAYS * 24 * 60, size=size.sessions))
    shown_at = _FIRST_DAY + minutes.astype("timedelta64[m]")
    family = visitors["taste"][visitor] == list(TASTES).index("family")
    return {
        "visitor": np.array([f"V{10000 + number}" for number in range(size.visitors)])[visitor],
        "shown_at": shown_at,
        "city": np.array(CITIES)[rng.integers(len(CITIES), size=size.sessions)],
        "taste": visitors["taste"][visitor],
        "thrift": visitors["thrift"][visitor],
        "device": np.where(rng.random(size.sessions) < 0.8, visitors["device"][visitor], "tablet"),
        "language": visitors["language"][visitor],
        "country": visitors["country"][visitor],
        "days_to_trip": np.floor(rng.gamma(0.9, 14, size.sessions)).astype(np.int64),
        "party_size": np.where(family, rng.integers(3, 7, size.sessions), rng.integers(1, 5, size.sessions)),
        "weekend": minutes // (24 * 60) % 7 >= 5,
        "hour": minutes // 60 % 24,
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


def _candidates(rng: Generator, city: NDArray[Any], searched: NDArray[Any], progress: Progress) -> NDArray[np.int64]:
    """Draw different activities of the searched city for each session, session after session."""
    shown = np.empty((len(searched), _CANDIDATES), dtype=np.int64)
    for name in CITIES:
        sessions, offered = np.flatnonzero(searched == name), np.flatnonzero(city == name)
        dice = rng.random((len(sessions), len(offered)))
        shown[sessions] = offered[np.argsort(dice, axis=1)[:, :_CANDIDATES]]
        progress()
    return shown.ravel()


def _labels(rng: Generator, context: Arrays, offered: Arrays) -> NDArray[np.int64]:
    """0 shown, 1 clicked, 2 in the basket, 3 booked: each step more likely the more a visitor wants the activity."""
    wish = _utility(context, offered) + rng.gumbel(0, 0.6, len(offered["price"]))
    steps = [rng.random(len(wish)) < 1 / (1 + np.exp(hurdle - 1.6 * wish)) for hurdle in (3.4, 3.0, 2.6)]
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
    likes = taste + 0.8 * bundle + 0.7 * (nightly & evening)
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
