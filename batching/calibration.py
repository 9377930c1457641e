"""Measuring what a batch costs, before it is scored for anybody."""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import TypeVar

from batching.policy import Cost, Limits
from batching.thread import Executor

P = TypeVar("P")


def calibrate(
    score: Callable[[Sequence[P]], object],
    sample: Callable[[int], P],
    *,
    limits: Limits | None = None,
    repeats: int = 20,
    clock: Callable[[], float] = time.perf_counter,
) -> Cost:
    """Measure `seconds = a + b * rows` of a scorer, in the calling thread.

    `sample(rows)` makes a request of so many rows. Takes the median of `repeats` timings at 1, B/4 and B rows, where B
    is `limits.max_batch_rows`, or less when that takes much longer than `limits.max_batch_seconds`.
    The first calls warm up caches and compilers and are not counted.
    """
    limits = limits or Limits()

    def timing(request: P) -> float:
        started = clock()
        score([request])
        return clock() - started

    timing(sample(1))
    most = 1
    while most < limits.max_batch_rows and timing(sample(most)) < limits.max_batch_seconds:
        most = min(2 * most, limits.max_batch_rows)
    requests = {rows: sample(rows) for rows in sorted({1, max(1, most // 4), most})}
    # In turns rather than one size after the other: a busy moment of the machine then touches all sizes alike.
    rounds = [{rows: timing(request) for rows, request in requests.items()} for _ in range(repeats)]
    return fit([(rows, median(each[rows] for each in rounds)) for rows in requests])


def fit(points: Sequence[tuple[int, float]]) -> Cost:
    """The line through (rows, seconds) with the least squares of *relative* errors, both parts kept positive."""
    least = 1e-9
    weights = [1 / max(least, seconds) ** 2 for _, seconds in points]
    total = sum(weights)
    mean_rows = sum(w * rows for w, (rows, _) in zip(weights, points, strict=True)) / total
    mean_seconds = sum(w * seconds for w, (_, seconds) in zip(weights, points, strict=True)) / total
    covariance = sum(w * (r - mean_rows) * (s - mean_seconds) for w, (r, s) in zip(weights, points, strict=True))
    variance = sum(w * (r - mean_rows) ** 2 for w, (r, _) in zip(weights, points, strict=True))
    row_seconds = max(least, covariance / variance if variance else least)
    return Cost(max(least, mean_seconds - row_seconds * mean_rows), row_seconds)


async def measure_handover(
    executor: Executor, *, clock: Callable[[], float] = time.perf_counter, repeats: int = 50
) -> float:
    """Median seconds from handing nothing over to an idle executor until the loop has it back."""
    loop = asyncio.get_running_loop()
    samples = []
    for _ in range(repeats):
        back: asyncio.Future[float] = loop.create_future()
        started = clock()
        executor.submit(_nothing, partial(_hand_back, back))
        work_seconds = await back
        samples.append(clock() - started - work_seconds)
    return median(samples)


def _nothing() -> None:
    """The work of measuring a hand-over."""


def _hand_back(back: asyncio.Future[float], _: None, seconds: float) -> None:
    back.set_result(seconds)
