"""CPython, set up for answers within milliseconds."""

import asyncio
import gc
import sys

# A thread that wants to go on waits so long for one that runs Python. The scoring thread asks twice a batch, and a busy
# loop would make it wait 5 ms each time, which is the default and as long as a batch.
SWITCH_SECONDS = 0.00005

# What a request allocates dies with it, by reference counting. With the default of 700 the collector would look at
# all young objects several times a batch and find nothing.
YOUNG_OBJECTS = 50_000

# So it would hardly ever come by, and CPython keeps tuples and the like that were freed until it does, by the ten
# thousand. Coming takes it two or three milliseconds.
TIDY_SECONDS = 60.0


def settle() -> None:
    """Call it when everything is loaded: it will stay, so the collector need not look at it, for 100 ms, ever again."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(YOUNG_OBJECTS)
    gc.collect()
    gc.freeze()


class Tidying:
    """Has the collector come by so often on the running loop, whatever there is to collect, until told to `end`."""

    def __init__(self, seconds: float = TIDY_SECONDS) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._come_later()

    def end(self) -> None:
        self._timer.cancel()

    def _come_later(self) -> None:
        self._timer = self._loop.call_later(self._seconds, self._tidy)

    def _tidy(self) -> None:
        gc.collect()
        self._come_later()
