"""Bundles of models that look at histories, over the marketplace of `app_models`, and what their rows should be."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from app_models import ACTIVITIES, CANDIDATES, CATEGORIES, DEVICES

from features import KINDS, Catalog, DerivedFeatures, History, declare
from features.events import activity_key
from registry import Feature, write_bundle

HOUR_MS = 3_600_000
SESSIONS = 150
SENT = (
    Feature("device", "context", "category", DEVICES),
    Feature("days_to_trip", "context", "integer"),
    Feature("category", "activity", "category", CATEGORIES),
    Feature("price", "activity", "number"),
)
OF_VISITOR = ("visitor_hours_since_event", "visitor_views_7d", "visitor_favourite_category", "visitor_mean_price")
OF_PAIR = ("times_viewed", "hours_since_viewed", "booked_before", "same_category_share", "price_to_viewed")


def write_history_models(folder: Path, catalog: Path) -> None:
    """Bundles `pairs`, whose model looks at visitors and at pairs, and `visitors`, whose model looks at visitors."""
    activities = Catalog.read(catalog)
    for name, derived in (("pairs", (*OF_VISITOR, *OF_PAIR)), ("visitors", OF_VISITOR)):
        declared = [Feature(one.name, "derived", one.type, one.categories) for one in declare(activities, derived)]
        features = (*SENT, *declared)
        rows, labels = _sessions(activities, features)
        write_bundle(
            folder / name,
            model_text=_train(rows, labels, features),
            features=features,
            golden_rows=rows[:60],
            example=[{"device": "mobile", "days_to_trip": 3, "category": "museum", "price": 20.5}],
            name="activity-ranker",
            version=name,
            source=f"models:/activity-ranker/{name}",
            trained_at=datetime(2026, 1, 1, tzinfo=UTC),
            run_id=f"run-{name}",
            catalog=catalog.read_bytes(),
        )


def expected_rows(
    features: Sequence[Feature],
    catalog: Catalog,
    body: Mapping[str, Any],
    history: History,
    moment: int,
) -> np.ndarray:
    """What a model should score for a request, value by value; only the derived ones are made as the service does."""
    ids = [one if isinstance(one, str) else one["id"] for one in body["candidates"]]
    own = [{} if isinstance(one, str) else one.get("features") or {} for one in body["candidates"]]
    context = body.get("context") or {}
    rows = np.full((len(ids), len(features)), np.nan)
    for column, feature in enumerate(features):
        for row, (activity, given) in enumerate(zip(ids, own, strict=True)):
            if feature.role == "context":
                rows[row, column] = feature.encode(context.get(feature.name))
            elif feature.role == "activity":
                value = given.get(feature.name)
                value = catalog.value(activity, feature.name) if value is None else value
                rows[row, column] = feature.encode(value)
    derived = {column: feature for column, feature in enumerate(features) if feature.role == "derived"}
    if derived:
        made = DerivedFeatures({feature.name: feature.categories for feature in derived.values()}, catalog)
        places = np.array([catalog.rows.get(activity, len(catalog)) for activity in ids])
        rows[:, list(derived)] = made.values(history, moment, places)
    return rows


def _sessions(catalog: Catalog, features: Sequence[Feature]) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(11)
    keys = np.array([activity_key(activity) for activity in catalog.rows], dtype=np.uint64)
    ids = list(catalog.rows)
    parts = []
    for _ in range(SESSIONS):
        moment = 10**12
        events = int(random.integers(0, 15))
        history = History(
            np.sort(moment - random.integers(1, 200 * HOUR_MS, events)),
            random.integers(0, len(KINDS), events),
            keys[random.integers(0, ACTIVITIES // 2, events)],
        )
        body = {
            "context": {"device": str(random.choice(DEVICES)), "days_to_trip": int(random.integers(0, 90))},
            "candidates": [ids[place] for place in random.choice(ACTIVITIES, CANDIDATES, replace=False)],
        }
        parts.append(expected_rows(features, catalog, body, history, moment))
    rows = np.concatenate(parts)
    price = (rows[:, 3] - rows[:, 3].mean()) / rows[:, 3].std()
    wish = random.normal(0, 0.5, len(rows)) - price
    for column, feature in enumerate(features):
        if feature.role == "derived":  # what a visitor is like says something only about activities that differ
            value = np.nan_to_num(rows[:, column]) * (price if feature.name in OF_VISITOR else 1)
            wish += value / (value.std() or 1)
    return rows, np.digitize(wish, np.quantile(wish, [0.7, 0.9]))


def _train(rows: np.ndarray, labels: np.ndarray, features: Sequence[Feature]) -> bytes:
    parameters = {
        "objective": "lambdarank",
        "num_leaves": 15,
        "min_data_in_leaf": 5,
        "verbosity": -1,
        "num_threads": 1,
        "seed": 1,
    }
    data = lightgbm.Dataset(
        rows,
        labels,
        group=[CANDIDATES] * SESSIONS,
        feature_name=[feature.name for feature in features],
        categorical_feature=[place for place, feature in enumerate(features) if feature.categories is not None],
    )
    text: str = lightgbm.train(parameters, data, 20).model_to_string()
    return text.encode()
