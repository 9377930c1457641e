"""Ends what takes too long: the oldest first, and a few in a turn of the event loop.

A crowd of connections that came together comes to its end together. With a timer for each, all of them would be ended
in one turn, and whoever is served meanwhile would wait for that.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

ENDS_IN_A_TURN = 4

Ended = Callable[[], None]


class Deadlines:
    """Calls each function that is still watched so many seconds after it came.

    They have the same time, so that they end in the order in which they came, and one timer does for all.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due: OrderedDict[Ended, float] = OrderedDict()  # by the loop's time
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, ended: Ended) -> None:
        """From now on, unless it is watched already."""
        if ended not in self._due:
            self._due[ended] = asyncio.get_running_loop().time() + self._seconds
            if self._timer is None:
                self._come_again()

    def forget(self, ended: Ended) -> None:
        self._due.pop(ended, None)

    def _come_again(self) -> None:
        """When the first is due; in the next turn of the loop if it is already."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(next(iter(self._due.values())), self._end_some) if self._due else None

    def _end_some(self) -> None:
        now = asyncio.get_running_loop().time()
        try:
            for _ in range(ENDS_IN_A_TURN):
                if not self._due or next(iter(self._due.values())) > now:
                    break
                ended, _due_at = self._due.popitem(last=False)
                ended()
        finally:
            self._come_again()
