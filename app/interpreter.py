"""CPython, set up for answers within milliseconds."""

import gc
import sys

# A thread that wants to go on waits so long for one that runs Python. The scoring thread asks twice a batch, and a busy
# loop would make it wait 5 ms each time, which is the default and as long as a batch.
SWITCH_SECONDS = 0.00005

# What a request allocates dies with it, by reference counting. With the default of 700 the collector would look at
# all young objects several times a batch and find nothing.
YOUNG_OBJECTS = 50_000


def settle() -> None:
    """Call it when everything is loaded: it will stay, so the collector need not look at it, for 100 ms, ever again."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(YOUNG_OBJECTS)
    gc.collect()
    gc.freeze()
