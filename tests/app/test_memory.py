"""What the allocator keeps, and gives back."""

import platform
import subprocess
import sys

import pytest

BLOCKS, BLOCK_BYTES = 1_000, 100_000
LARGE_BLOCKS = 100
PROGRAM = f"""
import os
from pathlib import Path
from app.memory import give_back

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

pairs = [(bytes({BLOCK_BYTES}), bytes(2_000)) for _ in range({BLOCKS})]
for goes, _ in pairs:
    assert not any(goes[::4_096])
stays = [stays for _, stays in pairs]
del pairs, goes
before = held()
give_back()
print(before - held())
"""


LARGE = f"""
import os
from pathlib import Path
import pyarrow as pa
from app.memory import LARGE_BYTES, keep_large_apart

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

keep_large_apart()
b"x" * (32 * LARGE_BYTES)  # glibc would learn from this one
before = held()
pairs = [(b"x" * (2 * LARGE_BYTES), bytes(2_000)) for _ in range({LARGE_BLOCKS})]
peak = held()
stays = [stays for _, stays in pairs]
del pairs
print((peak - before) // LARGE_BYTES, (held() - before) // LARGE_BYTES, pa.default_memory_pool().backend_name)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that keeps pages and has `malloc_trim`")
def test_pages_between_what_stays_go_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) > BLOCKS * BLOCK_BYTES // 2


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that learns what is large")
def test_what_is_large_goes_back_as_it_came() -> None:
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, timeout=60, check=True)
    peak, after, pool = done.stdout.split()
    assert int(peak) >= 2 * LARGE_BLOCKS
    assert int(after) <= 2
    assert pool == "system"
