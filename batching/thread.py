"""The one thread that scores."""

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol


class Executor(Protocol):
    """Where batches are scored: one at a time, beside the event loop."""

    def submit(self, work: Callable[[], Any], done: Callable[[Any, float], None]) -> None:
        """Run `work`, which never raises, and then `done(its result, its seconds)` on the event loop."""

    def collect(self) -> None:
        """Call what is `done` by now, without waiting for the event loop to come to it."""

    def close(self) -> None:
        """Return when nothing runs any more. Nothing is submitted after this."""


class ScoringThread:
    """An `Executor` of one thread and a queue each way.

    Beside `loop.run_in_executor` it saves two futures and a lock each way, and half of the hand-over's time.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._finished: deque[Callable[[], None]] = deque()
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[Any, float], None]] | None] = (
            queue.SimpleQueue()
        )
        # A daemon, so that a scorer that never returns cannot keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="scoring", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], Any], done: Callable[[Any, float], None]) -> None:
        self._jobs.put((work, done))

    def collect(self) -> None:
        while self._finished:
            self._finished.popleft()()

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, done = job
            started = time.perf_counter()
            result = work()
            seconds = time.perf_counter() - started
            self._finished.append(partial(done, result, seconds))
            try:
                self._loop.call_soon_threadsafe(self.collect)
            except RuntimeError:  # the loop is closed, and with it everybody who could wait
                return
            del job, work, done, result  # an idle thread keeps no batch alive
