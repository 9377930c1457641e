"""What the allocators keep for later."""

import ctypes
from contextlib import suppress
from typing import Final

import pyarrow as pa

LARGE_BYTES: Final = 524_288  # most batches need less at once, and the parts of a model are larger
_M_MMAP_THRESHOLD: Final = -3  # of glibc's malloc.h


def keep_large_apart() -> None:
    """Take what is large from the system and give it back, each block by itself; call it before there are threads.

    glibc would learn from the first large block that is freed to put the next ones between small ones that stay. And
    Arrow has an allocator of its own, which keeps something for each thread that there ever was. A C library without
    `mallopt` keeps its own counsel.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
    pa.set_memory_pool(pa.system_memory_pool())


def give_back() -> None:
    """Give the system the pages that nothing lies in any more.

    A model is loaded into what is free between everything that stays, and leaves new gaps when it goes. Without this a
    process that changes its models grows by the peak of each loading that found its gaps taken. A C library that has no
    `malloc_trim`, as glibc has, keeps its own counsel.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
