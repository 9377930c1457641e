"""What happened to each request, kept in flat arrays so that keeping it costs the generator next to nothing."""

from array import array
from collections import Counter

PENDING = 0
DROPPED = -1
GAVE_UP = -2
BROKEN = -3
NO_ANSWER = {DROPPED: "dropped", GAVE_UP: "gave up", BROKEN: "broken connection"}
"""Why a request has no HTTP status. Dropped: never sent, as every allowed connection was taken."""

REFUSED = 503

_NEVER = float("nan")


class Record:
    """One line a request, in the order of being due. Times are seconds from the start of the run.

    `due`: when it should be sent; `begun`: when the generator got to it; `finished`: when its last answer was
    complete (NaN: never); `status`: HTTP status of its last answer, or one of `NO_ANSWER`; `retries`: how often it
    was sent again. `endings` counts how every send ended, retries too. `refusals` has the seconds that each 503
    took, from being due, for a retry from its sending; `refused` the request of each.
    """

    def __init__(self) -> None:
        self.due = array("d")
        self.begun = array("d")
        self.finished = array("d")
        self.status = array("h")
        self.retries = array("b")
        self.refusals = array("d")
        self.refused = array("q")
        self.endings: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self.due)

    def begin(self, due: float, now: float) -> int:
        """Open the line of the next request; returns its number."""
        self.due.append(due)
        self.begun.append(now)
        self.finished.append(_NEVER)
        self.status.append(PENDING)
        self.retries.append(0)
        return len(self.due) - 1

    def end(self, request: int, status: int, sent: float, now: float) -> None:
        """One send of `request` ended; a later retry of it overwrites the line."""
        self.endings[status] += 1
        self.status[request] = status
        if status > 0:
            self.finished[request] = now
        if status == REFUSED:
            self.refused.append(request)
            self.refusals.append(now - (sent if self.retries[request] else self.due[request]))

    def again(self, request: int) -> None:
        """`request` is sent once more."""
        self.retries[request] += 1
        self.status[request] = PENDING
