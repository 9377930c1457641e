"""`frontrow serve`, all of it, whose models fail at one value of a feature, and which tells how many tasks it has.

Run as a script it takes the settings of `frontrow serve`, and two variables more: `POISON` is `feature=value`, and
`TASKS_FILE` a file that holds the number of asyncio tasks of a moment ago.
"""

import asyncio
import os
from collections.abc import Sequence
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from app import server
from app.ranking import Scorer
from app.rows import Rows
from app.service import Service

TELL_SECONDS = 0.1

_start, _values = Service.start, Scorer.values


async def start_and_tell(service: Service) -> None:
    await _start(service)
    _tell(asyncio.get_running_loop(), os.open(os.environ["TASKS_FILE"], os.O_WRONLY))


def _tell(loop: asyncio.AbstractEventLoop, file: int) -> None:
    os.pwrite(file, b"%8d" % len(asyncio.all_tasks(loop)), 0)
    loop.call_later(TELL_SECONDS, _tell, loop, file)


def values_unless_poisoned(scorer: Scorer, made: Sequence[Rows], offsets: Sequence[int]) -> NDArray[np.float64]:
    """Fail all the rows that came with a poisoned one, as an engine does that cannot score it."""
    name, _, poison = os.environ["POISON"].partition("=")
    column = [feature.name for feature in scorer.model.bundle.features].index(name)
    if poisoned := sum(float(poison) in rows.own[:, column] for rows in made):
        raise ValueError(f"{poisoned} of {len(made)} requests are poisoned")
    return _values(scorer, made, offsets)


if __name__ == "__main__":
    with patch.object(Service, "start", start_and_tell), patch.object(Scorer, "values", values_unless_poisoned):
        server.serve({})
