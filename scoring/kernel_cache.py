"""Where the machine code of kernels is kept, so that a start that finds it compiles nothing.

numba reads only where it may also write, and fails when it cannot. An image fills `NUMBA_CACHE_DIR` when it is built
and serves from a root that is read-only.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from llvmlite import binding
from numba import config, njit
from numba.core.caching import (
    CacheImpl,
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    UserProvidedCacheLocator,
)


class _OfThisProcessor(UserProvidedCacheLocator):  # type: ignore[misc]
    """A folder for each kind of processor below `NUMBA_CACHE_DIR`; one that is there need not be writable."""

    def __init__(self, py_func: Any, py_file: str) -> None:
        super().__init__(py_func, py_file)
        self._cache_path: str = str(Path(config.CACHE_DIR, _processor(), self.get_suitable_cache_subpath(py_file)))

    def ensure_cache_path(self) -> None:
        if not Path(self._cache_path).is_dir():
            super().ensure_cache_path()


class _Implementation(CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (_OfThisProcessor, *CacheImpl._locator_classes)  # noqa: SLF001 a subclass is meant to


class KernelCache(FunctionCache):  # type: ignore[misc]
    """numba's cache of one function's machine code. Raises `RuntimeError` when there is no place for it at all."""

    _impl_class = _Implementation

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        # numba looks at the file of the function alone, and would serve what another file's functions once were in it.
        self._cache_file = IndexDataCacheFile(self._cache_path, self._impl.filename_base, _sources(function))

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep it where that is possible: a full disk or a folder that cannot be written is no reason to fail."""
        with suppress(OSError):
            super().save_overload(sig, data)


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """Compile a function that Python calls; its machine code is kept where there is a place for it."""
    dispatcher = njit(**options)(function)
    with suppress(RuntimeError):  # there is none
        dispatcher._cache = KernelCache(function)  # noqa: SLF001 as `cache=True` does, with numba's own
    return dispatcher


def _sources(function: Callable[..., Any]) -> str:
    """A digest of all files whose functions are compiled into this one."""
    inside, files = [function], set[str]()
    for one in inside:
        files.add(one.__code__.co_filename)
        for name in one.__code__.co_names:
            other = one.__globals__.get(name)
            called = getattr(other, "py_func", getattr(other, "_defn", None))  # of a kernel, or of an intrinsic
            if called is not None and called not in inside:
                inside.append(called)
    return hashlib.sha256(b"".join(Path(file).read_bytes() for file in sorted(files))).hexdigest()


@cache
def _processor() -> str:
    """A name for what machine code made here may ask of a processor."""
    features = binding.get_host_cpu_features().flatten()
    return hashlib.sha256(f"{binding.get_host_cpu_name()} {features}".encode()).hexdigest()[:16]
