"""`FeastStore` against a real local Feast repository; runs where Feast is installed (`make feast-test`)."""

import importlib.util
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fake_store import Clock, event, line, readable

from features import Bounds, StoreUnavailable, Visitors
from features.events import visitor_key
from features.feast import FeastStore
from features.stores.memory import MemoryStore

Repo = tuple[Path, Any]
DAY_MS = 24 * 3_600_000
installed = pytest.mark.skipif(importlib.util.find_spec("feast") is None, reason="Feast is not installed")
pytestmark = [
    pytest.mark.filterwarnings("default"),  # Feast's own, which are not ours to fix
    pytest.mark.timeout(240),
]


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    from feast_repo import make_repo

    folder = tmp_path_factory.mktemp("feast")
    return folder, make_repo(folder)


@pytest.fixture
async def store(repo: Repo, clock: Clock) -> AsyncIterator[FeastStore]:
    store = FeastStore(repo[0], bounds=Bounds(events=50, ttl_ms=DAY_MS), clock=clock)
    yield store
    await store.close()


async def fetched(store: FeastStore, *visitors: str) -> list[bytes | None]:
    return await store.fetch([visitor_key(visitor) for visitor in visitors])


@installed
async def test_histories_come_in_order_for_a_whole_batch(store: FeastStore, repo: Repo, clock: Clock) -> None:
    from feast_repo import put

    anna = [event(clock, 5, "A2", "anna", "click"), event(clock, 9, "A1", "anna")]
    put(repo[1], {"anna": anna, "bob": [event(clock, 7, "A1", "bob")]})
    found = await fetched(store, "bob", "nobody", "anna")
    assert found[1] is None
    assert readable(found[0], "bob", clock) == [line(7, "A1")]
    assert readable(found[2], "anna", clock) == [line(9, "A1"), line(5, "A2", "click")]


@installed
async def test_a_history_is_the_bytes_that_every_other_store_keeps(store: FeastStore, repo: Repo, clock: Clock) -> None:
    from feast_repo import put

    events = [event(clock, ago, f"A{ago % 7}", "carl", "view") for ago in range(80, 0, -1)]
    events += [event(clock, 2 * DAY_MS, "old", "carl"), events[0]]
    put(repo[1], {"carl": events})
    memory = MemoryStore(Bounds(events=50, ttl_ms=DAY_MS), clock=clock)
    await memory.append(events)
    assert await fetched(store, "carl") == await memory.fetch([visitor_key("carl")])


@installed
async def test_what_is_no_history_degrades_its_visitor_only(store: FeastStore, repo: Repo, clock: Clock) -> None:
    from feast_repo import put

    put(repo[1], {"dora": [event(clock, 5, kind="stare")], "emil": [event(clock, 5, "A1", "emil")]})  # type: ignore[arg-type]
    visitors = Visitors(store, wall_clock=clock, budget_seconds=60)
    dora, emil = await visitors.fetch(["dora", "emil"])
    assert dora.degraded
    assert not emil.degraded
    assert len(emil.history.at) == 1


@installed
async def test_feast_is_read_only(store: FeastStore, clock: Clock) -> None:
    with pytest.raises(StoreUnavailable, match="written by the pipeline that owns them"):
        await store.append([event(clock)])
    with pytest.raises(StoreUnavailable, match="deleted by the pipeline that owns them"):
        await store.delete(visitor_key("anna"))
    await store.ping()


@installed
async def test_a_store_that_is_gone_is_unavailable(tmp_path: Path, clock: Clock) -> None:
    from feast_repo import make_repo

    make_repo(tmp_path)
    store = FeastStore(tmp_path, clock=clock)
    await store.ping()
    (tmp_path / "online.db").write_bytes(b"this is no database")
    broken = FeastStore(tmp_path, clock=clock)
    with pytest.raises(StoreUnavailable, match="the Feast online store failed: "):
        await broken.ping()


@installed
def test_a_folder_without_the_view_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="no view 'visitor_events' of one entity"):
        FeastStore(tmp_path)


@installed
async def test_a_batch_of_64_visitors_comes_whole(
    store: FeastStore, repo: Repo, clock: Clock, record_property: Any
) -> None:
    from feast_repo import put

    put(repo[1], {f"v{n}": [event(clock, ago, f"A{ago}", f"v{n}") for ago in range(1, 51)] for n in range(64)})
    for size in (1, 64):
        took = []
        for _ in range(20):
            started = time.perf_counter()
            found = await fetched(store, *(f"v{n}" for n in range(size)))
            took.append(time.perf_counter() - started)
        assert len(found) == size
        assert all(value is not None for value in found)
        print(f"{size} visitors of 50 events: {1e3 * sorted(took)[10]:.1f} ms at the median")


def test_without_feast_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "feast", None)
    with pytest.raises(StoreUnavailable, match=r"frontrow\[feast\]"):
        FeastStore(tmp_path)
