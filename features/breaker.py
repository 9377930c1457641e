"""The circuit breaker: when to stop asking a store that does not answer, and when to ask again. Arithmetic only.

After Nygard, *Release It!*: closed while all is well, open after several failures on end, then now and then one probe.
"""

from enum import Enum


class Passage(Enum):
    """What the breaker says to a call."""

    CALL = "call"
    PROBE = "probe"  # ask, but let nobody wait for the answer
    NO = "no"


class Breaker:
    """Opens after `failures` on end. While open it lets one probe at a time through, `probe_seconds` apart.

    Every CALL and PROBE must be followed by `succeeded` or `failed`. Times are points of any one clock, in seconds.
    """

    def __init__(self, *, failures: int = 3, probe_seconds: float = 0.25) -> None:
        self._limit = failures
        self._probe_seconds = probe_seconds
        self._failures = 0
        self._probe_at = 0.0
        self._probing = False

    @property
    def open(self) -> bool:
        return self._failures >= self._limit

    def passage(self, now: float) -> Passage:
        if not self.open:
            return Passage.CALL
        if self._probing or now < self._probe_at:
            return Passage.NO
        self._probing = True
        return Passage.PROBE

    def succeeded(self, passage: Passage) -> None:
        """A call that began before the breaker opened proves nothing about now; a probe does."""
        if passage is Passage.PROBE:
            self._probing = False
        elif self.open:
            return
        self._failures = 0

    def failed(self, passage: Passage, now: float) -> None:
        if passage is Passage.PROBE:
            self._probing = False
        self._failures = min(self._failures + 1, self._limit)
        if self.open:
            self._probe_at = now + self._probe_seconds
