"""What a process holds, from `/proc`, and how fast it grows."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MIB = 2**20
HOUR_SECONDS = 3_600.0
RELATED_SECONDS = 60  # memory comes in steps, so what lies less than this apart is no news of its own
FEWEST = 3 * RELATED_SECONDS

Floats = NDArray[np.float64]


class Sample(NamedTuple):
    """Bytes, and numbers of open descriptors, threads and asyncio tasks, so many seconds after the run began."""

    seconds: float
    rss: int
    pss: int
    descriptors: int
    threads: int
    tasks: int


class Slope(NamedTuple):
    """Growth in MiB an hour with its standard error, extrapolated from so many seconds."""

    mib_per_hour: float
    error: float
    seconds: float


def take_sample(pid: int, tasks_file: Path, seconds: float) -> Sample:
    """Raises `OSError` when there is no such process any more."""
    process = Path("/proc") / str(pid)
    return Sample(
        seconds,
        int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
        _pss(process),
        len(os.listdir(process / "fd")),  # noqa: PTH208 the number alone
        len(os.listdir(process / "task")),  # noqa: PTH208
        int(tasks_file.read_text()),
    )


def _pss(process: Path) -> int:
    for line in (process / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def slope(samples: Sequence[Sample], of: str, warm_up_seconds: float) -> Slope | None:
    """Of least squares, over the samples after the warm-up; None where they are too few to tell.

    The error is that of Newey and West (Econometrica 55, 1987), since neighbouring samples say much the same.
    """
    warm = [sample for sample in samples if sample.seconds >= warm_up_seconds]
    if len(warm) < FEWEST:
        return None
    hours = np.array([sample.seconds for sample in warm]) / HOUR_SECONDS
    values = np.array([getattr(sample, of) for sample in warm]) / MIB
    found, error = least_squares(hours, values, lags=RELATED_SECONDS)
    return Slope(found, error, warm[-1].seconds - warm[0].seconds)


def least_squares(x: Floats, y: Floats, *, lags: int) -> tuple[float, float]:
    """The slope of y over x, and its standard error with Bartlett weights for so many neighbours."""
    centred = x - x.mean()
    spread = float(centred @ centred)
    found = float(centred @ y) / spread
    scores = centred * (y - y.mean() - found * centred)
    variance = float(scores @ scores)
    for lag in range(1, min(lags, len(x) - 1) + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(scores[lag:] @ scores[:-lag])
    return found, float(np.sqrt(max(0.0, variance))) / spread
