"""The event loop's pulse: how late it beats, and the gauges that are refreshed with it."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable

from batching import Priority, Shed

INTERVAL_SECONDS = 0.01
BEATS_PER_WINDOW = 100

# A loop that stays late is full of work that was accepted already; the least important requests give way first.
# Shares of the longest time that a request may take, which is its caller's where that is shorter.
LAG_SHARE = {Priority.CRITICAL: 1.0, Priority.NORMAL: 0.5, Priority.SHEDDABLE: 0.25}
STANDING_BEATS = 3


class LoopLate(Shed):
    """The event loop is late with what it accepted already. Nothing was queued, so trying elsewhere is safe."""

    reason = "loop_lag"

    def __str__(self) -> str:
        return f"the service is {self.needed * 1e3:.0f} ms late, and {self.allowed * 1e3:.0f} ms are too late for this"


class Heartbeat:
    """Beats every 10 ms, and calls `each_second` once a second of beats.

    `longest_lag_seconds` is the longest of the last second.
    """

    def __init__(self, each_second: Callable[[], None]) -> None:
        self.beats = 0
        self._standing_lag_seconds = 0.0
        self._lags = deque([0.0] * STANDING_BEATS, maxlen=BEATS_PER_WINDOW)
        self._each_second = each_second
        self._loop: asyncio.AbstractEventLoop | None = None
        self._due_at = math.inf
        self._reading_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def longest_lag_seconds(self) -> float:
        return max(self._lags)

    def lag_seconds(self) -> float:
        """How late the loop is for what it reads now.

        The least lag of the latest beats: one late beat is a hiccup, several in a row are a loop with more work than
        time. Or how long the next beat is overdue, for what is read now may have waited so long; and with it the time
        since the loop began to read all that is there, for the scores of a crowd's last will wait until the others'
        were looked at.
        """
        if self._loop is None:
            return 0.0
        now = time.monotonic()
        if self._reading_since is None:
            self._reading_since = now
            self._loop.call_soon(self._has_read)  # it runs once everything that is there was read
        lag = now - self._reading_since
        if now > self._due_at:
            lag += now - self._due_at
        return max(self._standing_lag_seconds, lag)

    def _has_read(self) -> None:
        self._reading_since = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._schedule()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._loop = None
        self._due_at = math.inf

    def _schedule(self) -> None:
        assert self._loop is not None  # only a started heart beats
        self._due_at = time.monotonic() + INTERVAL_SECONDS
        self._timer = self._loop.call_later(INTERVAL_SECONDS, self._beat)

    def _beat(self) -> None:
        self._lags.append(max(0.0, time.monotonic() - self._due_at))
        self._standing_lag_seconds = min(self._lags[beat] for beat in range(-STANDING_BEATS, 0))
        self.beats += 1
        if self.beats % BEATS_PER_WINDOW == 0:
            self._each_second()
        self._schedule()
