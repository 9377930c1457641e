"""A bundle with every kind of feature, its catalog and profile, and rankings that its model answered."""

from datetime import UTC, datetime
from pathlib import Path

import lightgbm
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet

from features import Catalog, DerivedFeatures, History
from features.events import activity_key
from monitoring.journal import Journal
from monitoring.ranking_log import KIND, LoggedCandidate, LoggedRanking, RankingEntry, pack
from registry import Feature, Model, load_model, write_bundle
from training.profile import profile

CATEGORIES = ("food", "museum", "tour")
DEVICES = ("desktop", "mobile")
ACTIVITIES = 40
_READ: dict[Path, tuple[Catalog, DerivedFeatures]] = {}
NOON = 1_770_000_000_000
FEATURES = (
    Feature("device", "context", "category", DEVICES),
    Feature("days_to_trip", "context", "integer"),
    Feature("category", "activity", "category", CATEGORIES),
    Feature("price", "activity", "number"),
    Feature("visitor_views_7d", "derived", "integer"),
    Feature("same_category_share", "derived", "number"),
)


def write_model(folder: Path, *, seed: int = 0, trees: int = 12, activities_seed: int = 5) -> Model:
    """A model over 40 activities, with a profile of what it learned from."""
    random = np.random.default_rng(seed)
    catalog = folder.parent / f"{folder.name}.parquet"
    pyarrow.parquet.write_table(_catalog(activities_seed), catalog)
    matrix = _training(random, catalog, 4_000)
    wants = matrix[:, 4] / 10 + np.nan_to_num(matrix[:, 5])
    labels = matrix[:, 3] * -0.02 + (matrix[:, 2] == 1) + wants + random.normal(0, 0.3, len(matrix))
    booster = lightgbm.train(
        {"objective": "regression", "verbosity": -1, "num_threads": 1, "num_leaves": 7},
        lightgbm.Dataset(matrix, labels, feature_name=[one.name for one in FEATURES]),
        num_boost_round=trees,
    )
    scores = np.asarray(booster.predict(matrix))
    write_bundle(
        folder,
        model_text=booster.model_to_string().encode(),
        features=FEATURES,
        golden_rows=matrix[:20],
        example=[{"device": "mobile", "price": 39.0}],
        name="activity-ranker",
        version=str(7 + seed),
        source="models:/activity-ranker/7",
        trained_at=datetime(2026, 1, 1, tzinfo=UTC),
        profile=msgspec.json.encode(profile(FEATURES, matrix, scores)),
        catalog=catalog.read_bytes(),
    )
    return load_model(folder, "reference")


def write_log(folder: Path, model: Model, count: int = 60, *, variant: str = "control", every_ms: int = 60_000) -> None:
    """Rankings as a service would have written them, one a minute."""
    journal = Journal(folder, KIND, max_bytes=2**26)
    journal.start()
    for number in range(count):
        assert journal.offer(ranking(model, number, variant, every_ms))
    journal.close()
    assert journal.stats().written == count


def ranking(model: Model, number: int, variant: str = "control", every_ms: int = 60_000) -> RankingEntry:
    """One ranking, its rows made in another way than a replay makes them: as a table of columns."""
    random = np.random.default_rng(number)
    catalog, derived = _known(model)
    ids = [f"A{one}" for one in random.choice(ACTIVITIES + 3, 8, replace=False)]
    moment = NOON + every_ms * number
    history = _history(random, moment) if number % 3 else History(*(np.empty(0, np.int64),) * 2, np.empty(0, np.uint64))
    context = {"device": DEVICES[number % 2], "days_to_trip": int(random.integers(0, 60))}
    places = np.array([catalog.rows.get(one, len(catalog)) for one in ids])
    rows = np.full((8, len(FEATURES)), np.nan)
    rows[:, 0], rows[:, 1] = number % 2, context["days_to_trip"]
    rows[:, 2:4] = catalog.matrix([("category", CATEGORIES), ("price", None)])[places]
    rows[:, 4:] = derived.values(history, moment, places)
    rows[2, 3] = 12.5
    scores = model.engine.score(rows)
    given = {"price": 12.5, "category": None}
    return RankingEntry(
        request_id=f"request-{number}",
        moment=moment,
        experiment="ranker",
        variant=variant,
        reason="hash",
        model=f"{model.bundle.name}/{model.bundle.version}",
        sha256=model.bundle.sha256,
        candidates=[*ids[:2], LoggedCandidate(ids[2], given), *ids[3:]],
        scores=scores.tolist(),
        ranking=[ids[place] for place in (-scores).argsort(kind="stable")],
        context=context,
        unit=f"{number:032x}",
        history=pack(history),
    )


def read_again(entry: RankingEntry) -> LoggedRanking:
    return msgspec.json.decode(msgspec.json.encode(entry), type=LoggedRanking)


def _known(model: Model) -> tuple[Catalog, DerivedFeatures]:
    path = model.bundle.catalog
    assert path is not None
    if path not in _READ:
        catalog = Catalog.read(path)
        _READ[path] = catalog, DerivedFeatures({one.name: one.categories for one in FEATURES[4:]}, catalog)
    return _READ[path]


def _history(random: np.random.Generator, moment: int) -> History:
    events = 20
    at = np.sort(moment - random.integers(1, 6 * 86_400_000, events))
    keys = np.array([activity_key(f"A{one}") for one in random.integers(0, ACTIVITIES, events)], dtype=np.uint64)
    return History(at, random.integers(0, 3, events), keys)


def _training(random: np.random.Generator, catalog: Path, rows: int) -> np.ndarray:
    items = Catalog.read(catalog).matrix([("category", CATEGORIES), ("price", None)])[:-1]
    chosen = items[random.integers(0, len(items), rows)]
    views = random.integers(0, 20, rows).astype(float)
    return np.column_stack(
        (
            random.integers(0, 2, rows),
            random.integers(0, 60, rows),
            chosen,
            views,
            np.where(views > 0, random.integers(0, 11, rows) / 10, np.nan),
        )
    ).astype(float)


def _catalog(seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    return pa.table(
        {
            "id": [f"A{number}" for number in range(ACTIVITIES)],
            "category": random.choice(CATEGORIES, ACTIVITIES),
            "price": random.gamma(3, 15, ACTIVITIES).round(2),
        }
    )
