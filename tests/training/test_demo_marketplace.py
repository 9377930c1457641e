from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet
import pytest

from features import DERIVED
from training.catalog import catalog_columns, check_catalog
from training.demo import ACTIVITY, CITIES, CONTEXT, VARIANTS, Marketplace, Size, make_marketplace, variant_features
from training.features import infer_features
from training.metrics import summary
from training.tables import RankingTable
from training.train import boost, evaluate

SMALL = Size(activities=360, visitors=100, sessions=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    make_marketplace(folder, SMALL)
    return folder


@pytest.fixture(scope="module")
def tables(folder: Path) -> tuple[RankingTable, RankingTable]:
    return Marketplace.at(folder).read()


@pytest.fixture(scope="module")
def market(tables: tuple[RankingTable, RankingTable]) -> RankingTable:
    return tables[0]


def test_the_same_size_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    make_marketplace(tmp_path, SMALL)
    for name in ("sessions.parquet", "latest.parquet", "catalog.parquet", "events.parquet"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_another_seed_gives_another_marketplace(folder: Path, tmp_path: Path) -> None:
    other = make_marketplace(tmp_path, Size(360, 100, 300, seed=1))
    assert other.sessions.read_bytes() != (folder / "sessions.parquet").read_bytes()


def test_the_same_marketplace_gives_the_same_models(market: RankingTable) -> None:
    for variant in VARIANTS:
        features = variant_features(market, variant)
        texts = {boost(market, features, variant.recipe, 5).booster.model_to_string() for _ in range(2)}
        assert len(texts) == 1


def test_progress_is_told_for_each_city(tmp_path: Path) -> None:
    calls = []
    make_marketplace(tmp_path, SMALL, progress=lambda: calls.append(1))
    assert len(calls) == len(CITIES)


def test_a_session_offers_twenty_different_activities_of_one_city(folder: Path) -> None:
    table = pyarrow.parquet.read_table(folder / "sessions.parquet")
    grouped = table.group_by("query").aggregate([("activity", "count_distinct"), ("city", "count_distinct")])
    assert set(grouped["activity_count_distinct"].to_pylist()) == {20}
    assert set(grouped["city_count_distinct"].to_pylist()) == {1}


def test_the_latest_sessions_come_after_the_others(folder: Path) -> None:
    before, after = (pyarrow.parquet.read_table(folder / f"{name}.parquet") for name in ("sessions", "latest"))
    assert pc.max(before["shown_at"]).as_py() <= pc.min(after["shown_at"]).as_py()
    assert (before.num_rows, after.num_rows) == (250 * 20, 50 * 20)


def test_most_offers_are_ignored_and_some_are_booked(market: RankingTable) -> None:
    shares = np.bincount(market.labels, minlength=4) / market.rows
    assert shares[0] > 0.6
    assert shares[1:].min() > 0.005


def test_context_is_what_a_session_shares_and_the_rest_is_in_the_catalog(folder: Path, market: RankingTable) -> None:
    features = infer_features(market, CONTEXT)
    assert infer_features(market, catalog=catalog_columns(folder / "catalog.parquet")) == features
    assert tuple(feature.name for feature in features) == (*CONTEXT, *ACTIVITY, *(one.name for one in DERIVED))
    check_catalog(folder / "catalog.parquet", features)
    catalog = pyarrow.parquet.read_table(folder / "catalog.parquet")
    assert catalog.column_names == ["id", "title", *ACTIVITY]
    assert catalog["id"][0].as_py() == "A1000"


def test_both_variants_have_features_of_every_role(market: RankingTable) -> None:
    control, treatment = (variant_features(market, variant) for variant in VARIANTS)
    assert set(control) < set(treatment)
    for features in (control, treatment):
        assert {feature.role for feature in features} == {"context", "activity", "derived"}


def test_events_are_of_all_kinds_and_some_precede_their_search(folder: Path, market: RankingTable) -> None:
    events = pyarrow.parquet.read_table(folder / "events.parquet")
    assert set(events["kind"].to_pylist()) == {"view", "click", "booking"}
    times = events["at"].to_pylist()
    assert times == sorted(times)
    viewed = np.asarray(market.columns["times_viewed"].to_numpy())
    assert 0.05 < (viewed > 0).mean() < 0.5


def test_nobody_books_the_same_activity_again_soon(market: RankingTable) -> None:
    booked_before = np.asarray(market.columns["booked_before"].to_numpy()) == 1
    assert booked_before.sum() > 10
    assert (market.labels[booked_before] == 3).mean() < (market.labels == 3).mean()


def test_what_visitors_want_can_be_learned(tables: tuple[RankingTable, RankingTable]) -> None:
    learn, latest = tables
    variant = VARIANTS[1]
    learned = evaluate(boost(learn, variant_features(learn, variant), variant.recipe, 40), latest)
    untrained = summary(latest.labels, np.zeros(latest.rows), latest.sizes)
    assert learned["ndcg@5"] > untrained["ndcg@5"] + 0.1
