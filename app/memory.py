"""What the allocator keeps for later."""

import ctypes
from contextlib import suppress


def give_back() -> None:
    """Give the system the pages that nothing lies in any more.

    A model is loaded into what is free between everything that stays, and leaves new gaps when it goes. Without this a
    process that changes its models grows by the peak of each loading that found its gaps taken. A C library that has no
    `malloc_trim`, as glibc has, keeps its own counsel.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
