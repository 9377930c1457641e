"""Long work beside the event loop, which gives way to it."""

import asyncio
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from time import perf_counter, sleep
from typing import TypeVar

T = TypeVar("T")

# Of two threads that both want the interpreter each gets half of it, and rankings need more than that. So the work
# rests most of the time; a swap of models takes a second then, instead of a quarter.
WORK_SECONDS = 0.0005
REST_SECONDS = 0.003


async def beside(work: Callable[[], T]) -> T:
    """What `work` gives or raises, in a thread of its own that does not keep the process from ending.

    Those of `asyncio.to_thread` would: a loop that closes waits for them, and MLflow may take a minute. The thread
    rests after each half millisecond, wherever it calls or returns then: a single call that keeps the interpreter for
    longer is to be made in parts.
    """
    return await asyncio.wrap_future(_begun(work))  # not from a variable: see `_run`


def _begun(work: Callable[[], T]) -> Future[T]:
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()  # whoever waits may leave; the work goes on
    threading.Thread(target=_run, args=(work, outcome), name="beside", daemon=True).start()
    return outcome


def _run(work: Callable[[], T], outcome: Future[T]) -> None:
    sys.setprofile(Rests())
    try:
        outcome.set_result(work())
    except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to who asked
        outcome.set_exception(error)
    finally:
        del outcome  # it holds the error, whose frames hold what they have: a circle, with a model half made in it


class Rests:
    """What the interpreter calls at every call and return of a thread."""

    def __init__(self, *, clock: Callable[[], float] = perf_counter, rest: Callable[[float], None] = sleep) -> None:
        self._clock = clock
        self._rest = rest
        self._resumed_at = clock()

    def __call__(self, *_: object) -> None:
        if self._clock() - self._resumed_at > WORK_SECONDS:
            self._rest(REST_SECONDS)
            self._resumed_at = self._clock()
