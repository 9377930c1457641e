"""Lines of JSON in a folder, for whoever reads them later: bounded, lossy with a count, and never in anybody's way."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

Entry = TypeVar("Entry", bound=msgspec.Struct)

MAX_WAITING: Final = 100_000  # parts, as `offer` counts them
FILE_BYTES: Final = 64 * 2**20
BLOCK_BYTES: Final = 2**20


class Stats(NamedTuple):
    """Entries that were written, and that were dropped since too much waited or the disk refused them, and why."""

    written: int
    dropped: int
    error: Exception | None


class Journal:
    """Writes entries in a thread of its own to `<kind>-<nanoseconds>-<process>.jsonl` in a folder.

    Whatever cannot be written is dropped and counted. The folder's oldest files of this kind go when all of them
    together take `max_bytes`; several processes may share a folder. `offer` is called by one thread alone.
    """

    def __init__(self, folder: Path, kind: str, *, max_bytes: int, max_waiting: int = MAX_WAITING) -> None:
        self._folder = folder
        self._kind = kind
        self._max_bytes = max_bytes
        self._file_bytes = min(FILE_BYTES, max_bytes // 4)
        self._block_bytes = min(BLOCK_BYTES, self._file_bytes // 4)
        self._max_waiting = max_waiting
        self._queue: SimpleQueue[tuple[Any, int] | None] = SimpleQueue()
        # Each of these is written by one thread alone, so they need no lock.
        self._offered = 0
        self._refused = 0
        self._taken = 0
        self._written = 0
        self._failed = 0
        self._error: Exception | None = None
        self._file: int | None = None
        self._size = 0
        self._encode = msgspec.json.Encoder().encode
        self._thread = threading.Thread(target=self._run, name=f"{kind} journal", daemon=True)

    def start(self) -> None:
        """Begin to write. Raises `OSError` when the folder cannot be made or written to."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._open()
        self._thread.start()

    def offer(self, entry: msgspec.Struct, parts: int = 1) -> bool:
        """Have an entry written soon; False when it was dropped. `parts` is its share of what may wait."""
        if self._offered - self._taken + parts > self._max_waiting:
            self._refused += 1
            return False
        self._offered += parts
        self._queue.put((entry, parts))
        return True

    def stats(self) -> Stats:
        return Stats(self._written, self._refused + self._failed, self._error)

    def close(self, seconds: float = 5) -> None:
        """Write what was offered, for so long at most. Nothing may be offered any more."""
        self._queue.put(None)
        self._thread.join(seconds)

    def _run(self) -> None:
        block: list[bytes] = []
        size = 0
        while (taken := self._queue.get()) is not None:
            entry, parts = taken
            try:
                line = self._encode(entry) + b"\n"
                block.append(line)
                size += len(line)
            except Exception as error:  # noqa: BLE001 one entry that is no JSON must not end the journal
                self._failed += 1
                self._error = error
            self._taken += parts
            if self._queue.empty() or size >= self._block_bytes:
                self._write(block, size)
                block, size = [], 0
        self._write(block, size)
        self._close_file()

    def _write(self, block: list[bytes], size: int) -> None:
        if not block:
            return
        try:
            if self._file is None or self._size + size > self._file_bytes:
                self._open()
            assert self._file is not None  # `_open` raises or sets it
            if (took := os.write(self._file, b"".join(block))) != size:
                raise OSError(f"{self._folder}: {took} of {size} bytes were written")  # noqa: TRY301 as any other
            self._size += size
            self._written += len(block)
        except OSError as error:
            self._failed += len(block)
            self._error = error
            self._close_file()

    def _open(self) -> None:
        self._close_file()
        path = self._folder / f"{self._kind}-{time.time_ns():019}-{os.getpid()}.jsonl"
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = 0
        self._remove_oldest(path)

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _remove_oldest(self, current: Path) -> None:
        """Make room for a whole file. Names begin with the time, so their order is that of age."""
        sizes = {path: path.stat().st_size for path in files(self._folder, self._kind)}
        total = sum(sizes.values()) + self._file_bytes
        for path, size in sizes.items():
            if total <= self._max_bytes:
                return
            if path != current:
                path.unlink(missing_ok=True)
                total -= size


def files(place: Path, kind: str) -> list[Path]:
    """A folder's files of one kind, the oldest first; or the file itself."""
    return sorted(place.glob(f"{kind}-*.jsonl")) if place.is_dir() else [place]


class Reader(Generic[Entry]):
    """The entries of one kind in a folder or a file, the oldest first. `damaged` counts lines that are none."""

    def __init__(self, place: Path, kind: str, entry: type[Entry]) -> None:
        self._files = files(place, kind)
        self._decoder = msgspec.json.Decoder(entry)
        self.damaged = 0

    def __iter__(self) -> Iterator[Entry]:
        for path in self._files:
            with path.open("rb") as lines:
                for line in lines:
                    try:
                        yield self._decoder.decode(line)
                    except (msgspec.DecodeError, UnicodeDecodeError):
                        self.damaged += 1
