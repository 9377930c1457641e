"""Machine code that is kept is that of the source as it is, wherever its parts stand."""

import os
import subprocess
import sys
from pathlib import Path

HOUSE = Path(__file__).parents[2]
HELPER = """
from numba import njit

@njit
def step(number):
    return number + {step}
"""
KERNEL = """
from scoring.kernel_cache import compiled
import helper

step = helper.step

def _twice(number):
    return step(step(number))

twice = compiled(_twice)
print(twice(1), sum(twice.stats.cache_hits.values()))
"""


def run(folder: Path, *, step: int) -> list[int]:
    """The kernel's result where its helper takes such steps, and how often machine code was found."""
    (folder / "helper.py").write_text(HELPER.format(step=step))
    (folder / "kernel.py").write_text(KERNEL)
    places = {"NUMBA_CACHE_DIR": str(folder / "kept"), "PYTHONPATH": f"{HOUSE}:{folder}"}
    command = [sys.executable, "-B", "kernel.py"]
    said = subprocess.run(command, cwd=folder, env=os.environ | places, check=True, capture_output=True, text=True)
    return [int(word) for word in said.stdout.split()]


def test_a_kernel_is_compiled_anew_when_what_it_calls_has_changed(tmp_path: Path) -> None:
    assert run(tmp_path, step=1) == [3, 0]
    assert run(tmp_path, step=1) == [3, 1]
    assert run(tmp_path, step=5) == [11, 0]
    assert run(tmp_path, step=5) == [11, 1]
