"""Frontrow as this suite runs it: with a limit of 1 s for a request, as long as the callers here have patience.

Its default of 100 ms would refuse what a busy machine makes late, and the 10 s of the comparison with its peers are
more than anybody here waits.
"""

from dataclasses import replace

from benchmarks.peers.peer import Launch, Place
from benchmarks.peers.roster import FRONTROW as COMPARED

TIMEOUT_MS = 1_000


def launch(place: Place) -> Launch:
    compared = COMPARED.launch(place)
    return replace(compared, environment={**compared.environment, "FRONTROW_REQUEST_TIMEOUT_MS": str(TIMEOUT_MS)})


FRONTROW = replace(COMPARED, launch=launch)
