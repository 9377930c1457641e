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
from numba.core.caching import CacheImpl, CompileResultCacheImpl, FunctionCache, UserProvidedCacheLocator


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


@cache
def _processor() -> str:
    """A name for what machine code made here may ask of a processor."""
    features = binding.get_host_cpu_features().flatten()
    return hashlib.sha256(f"{binding.get_host_cpu_name()} {features}".encode()).hexdigest()[:16]
