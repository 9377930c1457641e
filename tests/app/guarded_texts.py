"""Scans texts that end at a page which may not be read, in a process of its own that a crash may take down.

Standard output: how many texts were plain, and how many were not.
"""

import ctypes
import mmap

import numpy as np
from json_bodies import bodies, shape

from app.json_body import JsonBody
from app.words import PADDING

PAGES = 4


def guarded() -> tuple[mmap.mmap, np.ndarray]:
    """Memory whose last page may not be read."""
    size = PAGES * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    library = ctypes.CDLL(None, use_errno=True)
    if library.mprotect(ctypes.c_void_p(begin + size), mmap.PAGESIZE, 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    return memory, np.frombuffer(memory, np.uint8, count=size)


def main() -> None:
    _, space = guarded()
    body = JsonBody(shape(), one_by_one=False)
    counts = [0, 0]
    for number, whole in enumerate(bodies(400, seed=11)):
        ends = range(0, len(whole) + 1, 7) if number % 40 == 0 else (len(whole),)
        for end in ends:
            text = space[-end - PADDING :]
            text[:end] = np.frombuffer(whole[:end], np.uint8)
            text[end:] = 0
            _, end_of_list, *_ = body.scan(text)
            counts[end_of_list == 0] += 1
    print(*counts)


if __name__ == "__main__":
    main()
