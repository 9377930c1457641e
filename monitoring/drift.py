"""Is the world still the one that the model learned from? Rows and scores of the traffic, in windows, against training.

A window is judged when its time is over and it has 500 rows. A distribution alarms once it was, in each of the last
three windows, further from training than chance explains and than matters (an index of 0.1 warns, 0.25 pages).
"""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import random
from threading import Lock
from typing import Final, Generic, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from monitoring.profile import Binner, Counts, Distribution, Profile
from monitoring.psi import Shift, shift

Level = Literal["none", "warn", "page"]
LEVELS: Final[tuple[Level, ...]] = ("none", "warn", "page")

WARN, PAGE = 0.1, 0.25
WINDOWS: Final = 3
LEAST_ROWS: Final = 500
FALSE_ALARMS: Final = 0.001  # the chance of one of all distributions being past its threshold in a window
KEPT_WINDOWS: Final = 48
ROWS_PER_SECOND: Final = 200  # 12,000 in the shortest window: more would cost more and tell no more
BLOCK: Final = 64  # rows that are counted at once: enough to share the cost, few enough not to hold the loop up

Request = TypeVar("Request")
Matrix = NDArray[np.float64]


class Reading(msgspec.Struct, frozen=True):
    """A distribution in the last window that was judged; `serving` and `psi` are None before there was one.

    chance: what `psi` stays below when nothing has changed. history: `psi` of the last windows, the latest last.
    """

    name: str
    labels: tuple[str, ...]
    training: list[int]
    serving: list[int] | None
    psi: float | None
    chance: float | None
    level: Level
    history: list[float]


class DriftReading(msgspec.Struct, frozen=True):
    """What one variant's drift looks like. Times in seconds since 1970; `counting` are the rows of the open window."""

    model: str
    window_seconds: float
    windows: int
    window_rows: int
    window_ended_at: float | None
    counting: int
    distributions: list[Reading]


def steps(found: Shift) -> NDArray[np.int64]:
    """How far past its threshold each window is: 0 not, 1 as far as a warning takes, 2 as far as a page takes."""
    past = found.psi > found.chance
    return np.asarray(past * ((found.psi >= WARN).astype(np.int64) + (found.psi >= PAGE)))


def judge(counts: Counts, distribution: Distribution, *, of: int) -> Shift:
    """Compare windows (..., bins) of one distribution `of` so many that are watched."""
    return shift(counts, distribution.counts, alpha=FALSE_ALARMS / of)


class Drift:
    """One variant's windows. The time is passed in, in seconds since 1970.

    One thread may count while another looks after the windows.
    """

    def __init__(self, profile: Profile, model: str, *, window_seconds: float, now: float) -> None:
        self._lock = Lock()
        self._profile = profile
        self._model = model
        self._window_seconds = window_seconds
        self._binner = Binner(profile)
        self._counts = np.zeros(self._binner.total, dtype=np.int64)
        self._rows = 0
        self._began_at = now
        self._ended_at: float | None = None
        self._last: Counts | None = None
        self._last_rows = 0
        self._windows = 0
        self._shifts: list[Shift] = []
        self._steps = [deque([0] * WINDOWS, maxlen=WINDOWS) for _ in profile.distributions]
        self._history: list[deque[float]] = [deque(maxlen=KEPT_WINDOWS) for _ in profile.distributions]

    def count(self, rows: Matrix) -> None:
        """Take in rows (n, features + 1); the last column is the score."""
        with self._lock:
            self._binner.count(rows, self._counts)
            self._rows += len(rows)

    def tick(self, now: float) -> bool:
        """Judge the window if it is over; True when it was."""
        if now - self._began_at < self._window_seconds or self._rows < LEAST_ROWS:
            return False
        with self._lock:
            self._last, self._counts = self._counts, np.zeros_like(self._counts)
            self._last_rows, self._rows = self._rows, 0
        self._judge(self._last)
        self._began_at = self._ended_at = now
        self._windows += 1
        return True

    def _judge(self, window: Counts) -> None:
        distributions = self._profile.distributions
        self._shifts = [
            judge(counts, one, of=len(distributions))
            for counts, one in zip(self._binner.split(window), distributions, strict=True)
        ]
        for place, found in enumerate(self._shifts):
            self._steps[place].append(int(steps(found)))
            self._history[place].append(float(found.psi))

    def reading(self) -> DriftReading:
        return DriftReading(
            model=self._model,
            window_seconds=self._window_seconds,
            windows=self._windows,
            window_rows=self._last_rows,
            window_ended_at=self._ended_at,
            counting=self._rows,
            distributions=[self._reading(place) for place in range(len(self._profile.distributions))],
        )

    def _reading(self, place: int) -> Reading:
        one = self._profile.distributions[place]
        found = self._shifts[place] if self._shifts else None
        return Reading(
            name=one.name,
            labels=one.labels,
            training=one.counts.tolist(),
            serving=None if self._last is None else self._binner.split(self._last)[place].tolist(),
            psi=None if found is None else float(found.psi),
            chance=None if found is None else found.chance,
            level=LEVELS[min(self._steps[place])],
            history=list(self._history[place]),
        )


class Sample:
    """Which rows of the traffic are looked at: at most one of a request, so that rows do not stand for each other.

    A request is taken with a probability proportional to its rows, so that every row has the same one, as in training.
    `widest` requests are taken always; it forgets, so that one huge request does not end the sampling.
    """

    __slots__ = ("_rows_per_second", "_widest", "left")

    FORGETTING: Final = 0.999

    def __init__(self, rows_per_second: int = ROWS_PER_SECOND) -> None:
        self._rows_per_second = rows_per_second
        self.left = rows_per_second  # in this second
        self._widest = 1.0

    def pick(self, rows: int) -> int | None:
        """The row to look at of a request with so many, or None."""
        self._widest = max(rows, self._widest * self.FORGETTING)
        place = int(random() * self._widest)  # noqa: S311 a sample, not a secret
        if place >= rows or self.left == 0:
            return None
        self.left -= 1
        return place

    def each_second(self) -> None:
        self.left = self._rows_per_second


class Watch(Generic[Request]):
    """Samples scored requests into `drift`, 64 rows at a time. `scored` is called by one thread at a time.

    make_rows: the rows (n, features) at these places of these requests.
    alone: a request of that one place, which is all that stays of it in memory until it is counted.
    """

    def __init__(
        self,
        drift: Drift,
        make_rows: Callable[[Sequence[tuple[Request, int]]], Matrix],
        alone: Callable[[Request, int], Request],
        *,
        rows_per_second: int = ROWS_PER_SECOND,
    ) -> None:
        self.drift = drift
        self._make_rows = make_rows
        self._alone = alone
        self._sample = Sample(rows_per_second)
        self._picked: list[tuple[Request, int]] = []
        self._scores: list[float] = []

    def scored(self, requests: Sequence[Request], offsets: Sequence[int], scores: Matrix) -> None:
        """Take in a batch; the scores of its requests are one after the other, those of the n-th from `offsets[n]`."""
        if not self._sample.left:  # for most of each second on a busy service, so it had better cost nothing
            return
        for request, (start, stop) in zip(requests, pairwise(offsets), strict=True):
            place = self._sample.pick(stop - start)
            if place is not None:
                self._look(request, place, scores[start + place])

    def _look(self, request: Request, place: int, score: float) -> None:
        self._picked.append((self._alone(request, place), 0))
        self._scores.append(score)
        if len(self._picked) == BLOCK:
            self.drift.count(np.column_stack((self._make_rows(self._picked), self._scores)))
            self._picked.clear()
            self._scores.clear()

    def each_second(self, now: float) -> bool:
        """Look after the windows; True when one was judged."""
        self._sample.each_second()
        return self.drift.tick(now)
