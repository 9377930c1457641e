"""The time between SIGTERM and the end of intake."""

import asyncio
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any


def begin_lame_duck_on_sigterm(begin: Callable[[], None], lame_duck_seconds: float) -> None:
    """From now on SIGTERM calls `begin`, and stops the server `lame_duck_seconds` later; a second one stops it at once.

    The time between lets load balancers see that the service is not ready while it still answers, so that none of
    their requests meets a closed port. Call it from the running server: what handled SIGTERM until now stops it.
    """
    loop = asyncio.get_running_loop()
    stop: Any = signal.getsignal(signal.SIGTERM)
    if not callable(stop):
        return

    def start() -> None:
        begin()
        loop.call_later(lame_duck_seconds, stop, signal.SIGTERM, None)

    def handle(signal_number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, stop)
        loop.call_soon_threadsafe(start)

    signal.signal(signal.SIGTERM, handle)
