"""A server as a tree of processes: started, waited for, weighed, and ended with all its children."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from benchmarks.errors import Unreachable
from benchmarks.peers.errors import NotStarted
from benchmarks.peers.peer import Launch
from benchmarks.target import Target

START_SECONDS = 120.0
STOP_SECONDS = 10.0
CHILDREN_SECONDS = 1.0
ASK_AGAIN_SECONDS = 0.02
LAST_LINES = 3


class Server:
    """A running server; `log` has what it printed."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log
        self._started_at = time.monotonic()
        self.pid = process.pid

    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started_at

    def wait_for(self, target: Target) -> None:
        """Ask until `target` answers GET with 200.

        Raises NotStarted after `START_SECONDS`, or when the process has ended before.
        """
        while not _is_ready(target):
            if self._process.poll() is not None:
                raise NotStarted(f"it ended with exit code {self._process.returncode}: {self.last_words()}")
            if self.seconds() > START_SECONDS:
                raise NotStarted(f"not ready within {START_SECONDS:g} s: {self.last_words()}")
            time.sleep(ASK_AGAIN_SECONDS)

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all its processes."""
        for process in _tree(self.pid):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def memory_bytes(self) -> int:
        """Memory of all its processes; what several share counts once (PSS)."""
        return sum(_memory_of(process) for process in _tree(self.pid))

    def last_words(self) -> str:
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return " / ".join(lines[-LAST_LINES:]) or "it said nothing"


@contextmanager
def running(launch: Launch, log: Path) -> Iterator[Server]:
    """Start a server in a session of its own; at the end nothing of it is left."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            launch.command,
            cwd=launch.folder,
            env={**_clean_environment(), **launch.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Server(process, log)
    finally:
        _end(process)


def end_servers_when_told_to_stop() -> None:
    """Make SIGTERM an ordinary end of this process, so that no server outlives it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def run_to_end(launch: Launch, log: Path) -> None:
    """Run what has to be done before a server starts; raises NotStarted when it fails."""
    with running(launch, log) as preparing:
        deadline = time.monotonic() + START_SECONDS
        while (code := preparing.exit_code()) is None and time.monotonic() < deadline:
            time.sleep(ASK_AGAIN_SECONDS)
        if code != 0:
            raise NotStarted(f"preparing it ended with {code}: {preparing.last_words()}")


def _clean_environment() -> dict[str, str]:
    """The environment without settings of Frontrow, which would be meant for another service."""
    return {name: value for name, value in os.environ.items() if not name.startswith("FRONTROW_")}


def _is_ready(target: Target) -> bool:
    try:
        return target.request("GET", target.path).status == 200
    except Unreachable:
        return False


def _tree(pid: int) -> list[psutil.Process]:
    """The root, those that descend from it, and those of its session: who has lost a parent is still found by that."""
    found = {process for process in psutil.process_iter() if _session_of(process.pid) == pid}
    with suppress(psutil.NoSuchProcess):
        found.update(psutil.Process(pid).children(recursive=True))
    return list(found)


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _memory_of(process: psutil.Process) -> int:
    try:
        memory = process.memory_full_info()
    except psutil.NoSuchProcess:
        return 0
    return int(getattr(memory, "pss", memory.rss))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the root to end, then end whatever is left of its tree."""
    tree = _tree(process.pid)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
    process.wait()
    _, alive = psutil.wait_procs(tree, timeout=CHILDREN_SECONDS)
    for survivor in alive:
        survivor.kill()
    psutil.wait_procs(alive, timeout=STOP_SECONDS)
