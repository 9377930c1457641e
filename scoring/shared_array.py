"""An array that is made once on a machine and mapped by all processes that want it."""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_OLD_SECONDS: Final = 600


def held_in_common(
    folder: Path | None, make: Callable[[], NDArray[Any]], *, of: Iterable[bytes | NDArray[Any]]
) -> NDArray[Any]:
    """The read-only array that `make` gives, or has given another process for the same `folder` and the same `of`.

    Whoever comes first makes it, the others wait and map its file. Without a folder it is this process's own. Files of
    more than ten minutes make room for a new one; those who have mapped them keep them.
    """
    if folder is None:
        made = make()
        made.setflags(write=False)
        return made
    path = folder / f"{_digest(of)}.npy"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _remove_old(folder)
            unfinished = path.with_suffix(f".{os.getpid()}.npy")
            np.save(unfinished, make())
            unfinished.replace(path)
    return np.asarray(np.load(path, mmap_mode="r"))


def _remove_old(folder: Path) -> None:
    for file in folder.glob("*.npy"):
        with suppress(FileNotFoundError):
            if time.time() - file.stat().st_mtime > _OLD_SECONDS:
                file.unlink()


def _digest(parts: Iterable[bytes | NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
