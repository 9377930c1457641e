import numpy as np
import pytest

from features import Bounds, Catalog, DerivedFeatures, Visitors
from features.stores.memory import MemoryStore
from registry import Feature
from training.demo import VARIANTS, Marketplace, Size, make_marketplace, variant_features
from training.errors import ReplayError
from training.replay import Replay

COUNT = 50
ENDS_AT = 1_790_000_000_000


class Clock:
    ms = 0

    def __call__(self) -> float:
        return self.ms / 1e3


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Marketplace:
    return make_marketplace(tmp_path_factory.mktemp("demo"), Size(activities=360, visitors=40, sessions=360))


@pytest.fixture(scope="module")
def features(market: Marketplace) -> tuple[Feature, ...]:
    return variant_features(market.read()[0], VARIANTS[1])


@pytest.fixture(scope="module")
def replay(market: Marketplace, features: tuple[Feature, ...]) -> Replay:
    return Replay(market, features, count=COUNT, ends_at=ENDS_AT)


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return np.array_equal(one.view(np.uint64), other.view(np.uint64))


def test_events_come_in_order_and_before_their_session(replay: Replay) -> None:
    last = 0
    for session in replay.sessions:
        times = [last, *(event.at for event in session.events), session.moment]
        assert times == sorted(times)
        assert all(event.at < session.moment for event in session.events)
        last = session.moment
    assert last == ENDS_AT


def test_a_request_carries_what_no_history_tells(replay: Replay, features: tuple[Feature, ...]) -> None:
    derived = {feature.name for feature in features if feature.role == "derived"}
    for place, session in enumerate(replay.sessions):
        assert len(session.body["candidates"]) == 20
        sent = set(session.body["context"])
        if place % 3 == 2:
            sent |= session.body["candidates"][0]["features"].keys()
        else:
            assert all(isinstance(candidate, str) for candidate in session.body["candidates"])
        assert sent
        assert not sent & derived


def test_the_moment_of_the_table_gives_the_rows_of_the_table(replay: Replay, features: tuple[Feature, ...]) -> None:
    for place, session in enumerate(replay.sessions):
        assert same_bits(replay.rows(place, features), replay.rows(place, features, session.moment))


@pytest.mark.parametrize("delay_ms", [0, 12_345])
async def test_a_store_that_was_told_the_events_gives_the_rows_that_training_computed(
    replay: Replay, market: Marketplace, features: tuple[Feature, ...], delay_ms: int
) -> None:
    clock = Clock()
    visitors = Visitors(MemoryStore(Bounds(), clock=clock), wall_clock=clock, budget_seconds=10)
    catalog = Catalog.read(market.catalog)
    columns = [column for column, feature in enumerate(features) if feature.role == "derived"]
    derived = DerivedFeatures({features[column].name: features[column].categories for column in columns}, catalog)
    histories = 0
    for place, session in enumerate(replay.sessions):
        clock.ms = session.moment + delay_ms
        await visitors.record(session.events)
        (visitor,) = await visitors.fetch([session.visitor])
        ids = [one if isinstance(one, str) else one["id"] for one in session.body["candidates"]]
        rows = np.array([catalog.rows[one] for one in ids])
        served = derived.values(visitor.history, visitor.moment, rows)
        expected = replay.rows(place, features, visitor.moment)[:, columns]
        assert same_bits(served, np.ascontiguousarray(expected)), place
        histories += len(visitor.history.at) > 0
    assert histories > COUNT / 2
    await visitors.close()


def test_more_sessions_than_there_are_cannot_be_replayed(market: Marketplace, features: tuple[Feature, ...]) -> None:
    with pytest.raises(ReplayError, match=r"latest.parquet has 60 sessions and 61 are to be replayed"):
        Replay(market, features, count=61)
