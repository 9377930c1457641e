"""Why a caller got no result, by name.

Refused at the door (`Shed`: nothing was queued, so trying elsewhere is safe) -> too late while waiting (`Expired`)
-> scored and failed (`ScoringFailed`). Messages are put together only when somebody reads them: refusing stays cheap.
"""

from typing import ClassVar

from batching.report import Outcome


class BatchingError(Exception):
    """Any reason of this package. `outcome` is how the request that got it is counted."""

    outcome: ClassVar[Outcome] = Outcome.ERROR


class NotStarted(BatchingError):
    """The batcher was used before `start()`: a defect of the program, not of the request."""


class UnknownLane(BatchingError):
    """There is no lane of that name: a defect of the program, not of the request."""


class Shed(BatchingError):
    """Refused at the door. Nothing was queued, so trying elsewhere is safe.

    needed, allowed: the two numbers that did not fit, in rows for `QueueFull`, in seconds else.
    retry_after_seconds: when everything that is admitted now will be scored, as predicted.
    """

    outcome = Outcome.SHED
    reason: ClassVar[str]

    def __init__(self, lane: str, rows: int, *, needed: float, allowed: float, retry_after_seconds: float) -> None:
        super().__init__(lane, rows, needed, allowed)
        self.lane = lane
        self.rows = rows
        self.needed = needed
        self.allowed = allowed
        self.retry_after_seconds = retry_after_seconds


class QueueFull(Shed):
    """There is no room to wait."""

    reason = "queue_full"

    def __str__(self) -> str:
        return f"{self.lane}: with these {self.rows} rows {self.needed} would wait and {self.allowed} may"


class DeadlineOutOfReach(Shed):
    """The predicted finish is past the caller's deadline."""

    reason = "deadline"

    def __str__(self) -> str:
        return f"{self.lane}: {self.rows} rows need {self.needed * 1e3:.1f} ms and {self.allowed * 1e3:.1f} ms are left"


class Overloaded(Shed):
    """The predicted finish is further away than a request of this class may wait now."""

    reason = "overloaded"

    def __str__(self) -> str:
        return f"{self.lane}: {self.rows} rows need {self.needed * 1e3:.1f} ms and may take {self.allowed * 1e3:.1f} ms"


class Draining(Shed):
    """Intake has stopped; what was admitted before is still answered."""

    reason = "draining"

    def __str__(self) -> str:
        return f"{self.lane}: intake has stopped"


class Expired(BatchingError):
    """The deadline passed before scoring began. No row of it was scored (of an oversize request: not all of them)."""

    outcome = Outcome.EXPIRED

    def __init__(self, lane: str, rows: int, *, waited_seconds: float) -> None:
        super().__init__(lane, rows)
        self.lane = lane
        self.rows = rows
        self.waited_seconds = waited_seconds

    def __str__(self) -> str:
        return f"{self.lane}: {self.rows} rows waited {self.waited_seconds * 1e3:.1f} ms and could not finish in time"


class ScoringFailed(BatchingError):
    """Scoring raised because of this request: it did so for the request alone.

    `__cause__` is what was raised, and a note has its traceback.
    """

    def __init__(self, lane: str, rows: int) -> None:
        super().__init__(lane, rows)
        self.lane = lane
        self.rows = rows

    def __str__(self) -> str:
        return f"{self.lane}: scoring {self.rows} rows failed: {self.__cause__!r}"


class WrongLength(ScoringFailed):
    """The scorer answered a batch with too few or too many results, so nobody knows whose they are."""
