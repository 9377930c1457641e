"""The activity catalog, taken anew while rankings go on: a file that is looked at, and what follows when it changed."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import structlog

from app.beside import beside
from app.watch import Watch

log = structlog.get_logger("frontrow.catalog")

T = TypeVar("T")


class Version(NamedTuple):
    """What tells one version of a file from another."""

    modified_ns: int
    bytes: int
    inode: int


def version_of(path: Path) -> Version | None:
    """The version that is there now; None when none can be read."""
    try:
        found = path.stat()
    except OSError:
        return None
    return Version(found.st_mtime_ns, found.st_size, found.st_ino)


class CatalogWatch(Watch, Generic[T]):
    """Looks at a file every `seconds`; `load` prepares a new version, beside the loop, and `use` takes it, on the loop.

    A version that cannot be loaded is refused once, and what was used before stays in use. `seen` is the version that
    is in use at the start; `refused` is called for each refusal. The `lock` is held from before `load` until after
    `use`, so that nothing else changes meanwhile.
    """

    def __init__(
        self,
        path: Path,
        *,
        seconds: float,
        seen: Version | None,
        load: Callable[[], T],
        use: Callable[[T], None],
        refused: Callable[[], None],
        lock: asyncio.Lock,
    ) -> None:
        self._path = path
        self._seconds = seconds
        self._seen = seen
        self._load = load
        self._use = use
        self._refused = refused
        self._lock = lock

    async def look(self) -> None:
        """Take the file into use if it changed since the last look."""
        found = await beside(partial(version_of, self._path))
        if found == self._seen:
            return
        self._seen = found
        try:
            async with self._lock:
                self._use(await beside(self._load))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a snapshot, the one before it serves on
            self._refused()
            log.error("the catalog is not taken", path=str(self._path), reason=str(error) or repr(error))  # noqa: TRY400

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            await self.look()
