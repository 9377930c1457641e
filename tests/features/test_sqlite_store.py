import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fake_store import Clock, event, line, readable

from features import Bounds, StoreUnavailable, open_store
from features.events import visitor_key
from features.stores.sqlite import SqliteStore

HOUSE = Path(__file__).parents[2]
ANNA = visitor_key("anna")

APPENDING = """
import asyncio, sys
from pathlib import Path
from features import Event
from features.stores.sqlite import SqliteStore

async def main(path, start, now):
    store = SqliteStore(path)
    for number in range(start, start + 20):
        await store.append([Event("anna", f"A{number}", "view", now - number)])
    await store.close()

asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "made for it" / "histories.db"


@pytest.fixture
async def sqlite(path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, Bounds(ttl_ms=60_000), clock=clock)
    yield store
    await store.close()


async def test_a_history_survives_the_end_of_its_process(path: Path, clock: Clock) -> None:
    first = open_store(f"sqlite:{path}")
    await first.append([event(clock, 5)])
    await first.close()
    second = open_store(f"sqlite:{path}")
    (value,) = await second.fetch([ANNA])
    await second.close()
    assert readable(value, "anna", clock) == [line(5)]


async def test_processes_that_append_at_the_same_time_lose_nothing(path: Path, clock: Clock) -> None:
    store = SqliteStore(path, clock=clock)
    children = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", APPENDING, path, str(start), str(clock.ms), cwd=HOUSE
        )
        for start in (0, 20)
    ]
    assert [await asyncio.wait_for(child.wait(), 60) for child in children] == [0, 0]
    (value,) = await store.fetch([ANNA])
    await store.close()
    assert readable(value, "anna", clock) == [line(number, f"A{number}") for number in range(39, -1, -1)]


async def test_a_fetch_does_not_wait_for_another_process_that_writes(
    sqlite: SqliteStore, path: Path, clock: Clock
) -> None:
    await sqlite.append([event(clock)])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(sqlite.append([event(clock, 1)]))
    (value,) = await sqlite.fetch([ANNA])
    assert not waiting.done()
    assert readable(value, "anna", clock) == [line(0)]
    other.execute("COMMIT")
    other.close()
    await waiting


async def test_an_append_that_cannot_have_the_file_says_so_and_the_next_one_works(
    sqlite: SqliteStore, path: Path, clock: Clock
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match=r"histories\.db: database is locked"):
        await sqlite.append([event(clock)])
    other.execute("COMMIT")
    other.close()
    await sqlite.append([event(clock)])


async def test_histories_past_their_time_to_live_leave_the_file(sqlite: SqliteStore, path: Path, clock: Clock) -> None:
    await sqlite.append([event(clock, visitor=f"visitor {number}") for number in range(50)])
    clock.seconds += 61
    assert await sqlite.fetch([visitor_key("visitor 1")]) == [None]
    await sqlite.append([event(clock)])
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM histories").fetchone() == (1,)
    connection.close()


async def test_a_visitor_who_is_deleted_leaves_no_bytes_in_the_file(path: Path, clock: Clock) -> None:
    store = SqliteStore(path, clock=clock)
    await store.append([event(clock, visitor="anna"), event(clock, visitor="ben")])
    await store.delete(ANNA)
    await store.close()
    remaining = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert visitor_key("ben") in remaining
    assert ANNA not in remaining


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no database, but long enough to be mistaken for one " * 100)
    with pytest.raises(StoreUnavailable, match=r"notes\.txt: file is not a database"):
        SqliteStore(path)
