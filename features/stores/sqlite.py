"""Histories in an SQLite file: for several worker processes of one machine, and still there after a restart."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from features.events import Event, oldest_record, records_by_visitor
from features.history import Bounds, merge, newest_at
from features.stores.protocol import StoreUnavailable

T = TypeVar("T")

BUSY_SECONDS = 1.0  # the longest wait for another process that writes
SWEEP = 100  # expired histories that an append takes along: more than it can add, so that they do not pile up

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS histories (visitor BLOB PRIMARY KEY, value BLOB NOT NULL, expires_at INTEGER NOT NULL)
        WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS histories_by_expiry ON histories (expires_at);
"""


class SqliteStore:
    """One table in a file in WAL mode: readers never wait for a writer.

    Reads and writes each have a connection and a thread, so that a ranking waits for neither. What was appended
    survives the end of the process; a power cut may take the last moments.
    """

    name = "sqlite"

    def __init__(
        self,
        path: Path,
        bounds: Bounds = Bounds(),  # noqa: B008 - immutable
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open the file, or make it. Raises `StoreUnavailable`."""
        self._path = path
        self._bounds = bounds
        self._clock = clock
        with self._named_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = _connect(path)
            self._writer.executescript(_SCHEMA)
            self._reader = _connect(path)
            self._reader.execute("PRAGMA query_only = ON")
        self._writing = ThreadPoolExecutor(1, "histories-write")
        self._reading = ThreadPoolExecutor(1, "histories-read")

    async def append(self, events: Sequence[Event]) -> None:
        records = records_by_visitor(events)
        await self._run(self._writing, lambda: self._append(records))

    async def fetch(self, visitors: Sequence[bytes]) -> list[bytes | None]:
        return await self._run(self._reading, lambda: self._fetch(visitors))

    async def delete(self, visitor: bytes) -> None:
        await self._run(
            self._writing, lambda: self._writer.execute("DELETE FROM histories WHERE visitor = ?", (visitor,))
        )

    async def ping(self) -> None:
        await self._run(self._reading, lambda: self._reader.execute("SELECT 1 FROM histories LIMIT 1"))

    async def close(self) -> None:
        for executor, connection in ((self._reading, self._reader), (self._writing, self._writer)):
            await asyncio.get_running_loop().run_in_executor(executor, connection.close)
            executor.shutdown(wait=False)

    async def _run(self, executor: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        with self._named_errors():
            return await asyncio.get_running_loop().run_in_executor(executor, work)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"{self._path.name}: {error}") from error

    # In the threads

    def _fetch(self, visitors: Sequence[bytes]) -> list[bytes | None]:
        places = ", ".join("?" * len(visitors))
        found = dict(
            self._reader.execute(
                f"SELECT visitor, value FROM histories WHERE visitor IN ({places}) AND expires_at >= ?",  # noqa: S608 - question marks
                (*visitors, self._now()),
            )
        )
        return [found.get(visitor) for visitor in visitors]

    def _append(self, records: dict[bytes, list[bytes]]) -> None:
        now = self._now()
        oldest = oldest_record(now - self._bounds.ttl_ms)
        with self._transaction():
            for visitor, new in records.items():
                self._put(visitor, merge(self._known(visitor), new, visitor, limit=self._bounds.events, oldest=oldest))
            self._writer.execute(
                "DELETE FROM histories WHERE visitor IN (SELECT visitor FROM histories WHERE expires_at < ? LIMIT ?)",
                (now, SWEEP + len(records)),
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._writer.execute("BEGIN IMMEDIATE")  # the lock before the read, or another process changes what was read
        try:
            yield
        except BaseException:
            self._writer.execute("ROLLBACK")
            raise
        self._writer.execute("COMMIT")

    def _known(self, visitor: bytes) -> bytes | None:
        row = self._writer.execute("SELECT value FROM histories WHERE visitor = ?", (visitor,)).fetchone()
        return None if row is None else row[0]

    def _put(self, visitor: bytes, value: bytes | None) -> None:
        if value is None:
            self._writer.execute("DELETE FROM histories WHERE visitor = ?", (visitor,))
        else:
            expires_at = newest_at(value) + self._bounds.ttl_ms
            self._writer.execute("REPLACE INTO histories VALUES (?, ?, ?)", (visitor, value, expires_at))

    def _now(self) -> int:
        return int(1e3 * self._clock())


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA secure_delete = ON")  # what is forgotten is overwritten
    return connection
