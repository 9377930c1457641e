"""When a call is tried again: pure arithmetic, shared by both clients. Time is passed in, nothing here sleeps."""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from frontrow_client.errors import DeadlinePassed, NoRanking

DEFAULT_TIMEOUT_SECONDS = 1.0


class RetryBudget:
    """A bucket of retries that calls fill: in any stretch of n calls at most `share * n + spare` retries.

    A service that is full does not get emptier by being asked again, so what callers may add to its load is bounded
    for all calls together, and not call by call. The token bucket is that of Finagle's `RetryBudget`, and as gRPC's
    retry throttling (proposal A6) it knows no clock. Threads and tasks may share one.
    """

    def __init__(self, share: float = 0.1, spare: int = 10) -> None:
        """`share` of a retry is earned by each call; up to `spare` are kept for later, and there at first."""
        if not (0 <= share <= 1 and spare >= 0):
            raise ValueError(f"a share from 0 to 1 and a spare of 0 or more are allowed, got {share:g} and {spare}")
        self.share = share
        self.spare = spare
        self._retries = float(spare)
        self._lock = threading.Lock()

    def earn(self) -> None:
        """Note a call, before its first attempt."""
        with self._lock:
            self._retries = min(float(self.spare), self._retries + self.share)

    def spend(self) -> bool:
        """Take a retry, if there is one."""
        with self._lock:
            if self._retries < 1:
                return False
            self._retries -= 1
            return True


@dataclass(frozen=True, slots=True)
class Backoff:
    """Full jitter: a rest from 0 to a ceiling that doubles, in seconds.

    M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015: of the schemes compared there, callers
    that all failed at once meet least when each draws its rest from the whole range.
    """

    base_seconds: float = 0.02
    most_seconds: float = 1.0

    def rest_seconds(self, retry: int, chance: float) -> float:
        """Before a `retry`, counted from 1; `chance` is from 0 to 1."""
        return chance * min(self.most_seconds, self.base_seconds * 2.0 ** (retry - 1))


@dataclass(frozen=True, slots=True)
class Policy:
    """What all calls of a client share. `retries` is the most that one call makes."""

    budget: RetryBudget = field(default_factory=RetryBudget)
    backoff: Backoff = field(default_factory=Backoff)
    retries: int = 1
    chance: Callable[[], float] = random.random


class Call:
    """One call, from its first attempt to its deadline: `begin` each attempt, and ask `rest_seconds` after a failure.

    Times are points of one monotonic clock, in seconds.
    """

    def __init__(self, policy: Policy, now: float, timeout_seconds: float) -> None:
        self.due_at = now + timeout_seconds
        self.attempts = 0
        self._policy = policy
        self._timeout_seconds = timeout_seconds
        policy.budget.earn()

    def begin(self, now: float) -> float:
        """Begin an attempt: the seconds that are left for it, more than 0. Raises `DeadlinePassed`."""
        remaining = self.due_at - now
        if remaining <= 0:
            raise self.late()
        self.attempts += 1
        return remaining

    def rest_seconds(self, failure: NoRanking, now: float) -> float:
        """How long to rest before the next attempt. Raises `failure` where there had better be none.

        `Retry-After` is what a server asks for at least, so the jitter comes on top. Nobody rests for a deadline: what
        could only come too late is given up at once.
        """
        if not failure.repeatable or self.attempts > self._policy.retries:
            raise failure
        jitter = self._policy.backoff.rest_seconds(self.attempts, self._policy.chance())
        rest = failure.retry_after_seconds + jitter
        if now + rest >= self.due_at or not self._policy.budget.spend():
            raise failure
        return rest

    def late(self) -> DeadlinePassed:
        return DeadlinePassed(f"there was no answer within {1e3 * self._timeout_seconds:.0f} ms")
