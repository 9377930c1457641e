"""SIGHUP, by which a running service is told to look at its models."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

_STDERR = 2


def hold_sighup() -> None:
    """Let SIGHUP wait, for this process and those that it starts, until somebody listens: it would end them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def take_held_sighup() -> bool:
    """Whether one came meanwhile; it is taken off."""
    if signal.SIGHUP not in signal.sigpending():
        return False
    signal.sigwait({signal.SIGHUP})
    return True


def listen_to_sighup(heard: Callable[[], None]) -> Callable[[], None]:
    """Call `heard` on the running loop at each SIGHUP, also at one that was held; gives what ends that.

    It is also what a terminal says when it is closed: then the process ends, as any other does.
    """
    if threading.current_thread() is not threading.main_thread():  # only that one may listen
        return _do_nothing
    loop, terminal = asyncio.get_running_loop(), Terminal()

    def handle(*_: Any) -> None:
        if terminal.is_closed():
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            signal.raise_signal(signal.SIGHUP)
        else:
            loop.call_soon_threadsafe(heard)

    before = signal.signal(signal.SIGHUP, handle)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    return partial(signal.signal, signal.SIGHUP, before)  # type: ignore[return-value] # of which nobody asks


class Terminal:
    """The one that this process says things on, if there is one."""

    def __init__(self) -> None:
        self._was_there = os.isatty(_STDERR)

    def is_closed(self) -> bool:
        return self._was_there and not os.isatty(_STDERR)


def _do_nothing() -> None:
    pass
