"""Long work beside the event loop."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def beside(work: Callable[[], T]) -> T:
    """What `work` gives or raises, in a thread of its own that does not keep the process from ending.

    Those of `asyncio.to_thread` would: a loop that closes waits for them, and MLflow may take a minute.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()  # whoever waits may leave; the work goes on

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to who asked
            outcome.set_exception(error)
        else:
            outcome.set_result(result)

    threading.Thread(target=run, name="beside", daemon=True).start()
    return await asyncio.wrap_future(outcome)
