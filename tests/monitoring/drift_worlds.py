"""A training profile with features of every kind, and rows of the same world or of a changed one."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from monitoring.profile import Profile, parse_profile
from registry import Feature
from training.profile import profile

CITIES = tuple(f"city-{number:02}" for number in range(30))
DEVICES = ("desktop", "mobile", "tablet")
FEATURES = (
    Feature("price", "activity", "number"),
    Feature("rating", "activity", "number"),
    Feature("days_to_trip", "context", "integer"),
    Feature("free_cancellation", "activity", "boolean"),
    Feature("device", "context", "category", DEVICES),
    Feature("city", "activity", "category", CITIES),
    Feature("hours_since_event", "derived", "number"),
)
COLUMNS = {feature.name: column for column, feature in enumerate(FEATURES)}
TRAINED = 50_000

Rows = NDArray[np.float64]


def rows(count: int, seed: int) -> Rows:
    """Rows of the usual world, the score last."""
    random = np.random.default_rng(seed)
    shares = 1 / np.arange(1, len(CITIES) + 1)
    columns = [
        random.gamma(3, 15, count).round(2),
        np.where(random.random(count) < 0.1, np.nan, random.normal(4, 0.5, count)),
        random.integers(0, 90, count).astype(float),
        (random.random(count) < 0.3).astype(float),
        random.choice(3, count, p=(0.35, 0.55, 0.10)).astype(float),
        random.choice(len(CITIES), count, p=shares / shares.sum()).astype(float),
        np.where(random.random(count) < 0.6, np.nan, random.exponential(40, count)),
        random.normal(0, 1, count),
    ]
    return np.column_stack(columns)


def trained_profile(count: int = TRAINED, seed: int = 1) -> Profile:
    sample = rows(count, seed)
    return parse_profile(profile(FEATURES, sample[:, :-1], sample[:, -1]), FEATURES)


def half_a_deviation(values: Rows) -> Rows:
    return values + 0.5 * np.nanstd(values)


def without_tablets(values: Rows) -> Rows:
    return np.where(values == DEVICES.index("tablet"), DEVICES.index("mobile"), values)


def all_missing(values: Rows) -> Rows:
    return np.full_like(values, np.nan)


def in_cents(values: Rows) -> Rows:
    return values * 100


CHANGES: dict[str, tuple[str, Callable[[Rows], Rows]]] = {
    "a shift of half a standard deviation": ("rating", half_a_deviation),
    "a category that disappears": ("device", without_tablets),
    "a feature that turns missing": ("price", all_missing),
    "a changed unit": ("price", in_cents),
}
