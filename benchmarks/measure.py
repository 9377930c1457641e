"""A series of runs against one target, with the server's own figures taken before and after each."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from benchmarks.figures import Figures, closed_loop_figures, figures
from benchmarks.generator import Patience, Run, Watch, run_closed_loop, run_open_loop
from benchmarks.schedule import Schedule
from benchmarks.server_side import ServerSide, Snapshot, compare, snapshot
from benchmarks.target import Target

COUNTED_WITHIN_SECONDS = 1.0
SCRAPE_AGAIN_SECONDS = 0.1

Progress = Callable[[str, float], AbstractContextManager[Watch]]
"""Given a label and the seconds it will take: a context that shows how far a run is."""


@dataclass(frozen=True)
class Measured:
    """One run: what was offered, as multiple of the capacity where that is known, and what both sides counted."""

    name: str
    capacities: float | None
    schedule: Schedule | None
    figures: Figures
    server: ServerSide


@dataclass(frozen=True)
class Bench:
    """Who is measured with what: `payloads` are sent in turn, an answer is good within `deadline_seconds`."""

    target: Target
    payloads: Sequence[bytes]
    deadline_seconds: float
    patience: Patience
    max_connections: int
    pid: int | None
    progress: Progress

    def closed_loop(self, connections: int, seconds: float) -> Measured:
        """Find out how many answers a second `connections` callers get that always have a request under way."""

        def run(watch: Watch) -> Run:
            return run_closed_loop(
                self.target,
                self.payloads,
                connections=connections,
                seconds=seconds,
                patience=self.patience,
                watch=watch,
            )

        name = f"closed loop, {connections} connections"
        finished, before = self._run(name, seconds, run)
        found = closed_loop_figures(finished, seconds, self.deadline_seconds)
        return Measured(name, None, None, found, self._compare(before, found))

    def open_loop(self, name: str, schedule: Schedule, capacity: float | None) -> Measured:
        """Offer the load of `schedule`, come what may."""

        def run(watch: Watch) -> Run:
            return run_open_loop(
                self.target,
                self.payloads,
                schedule,
                patience=self.patience,
                max_connections=self.max_connections,
                watch=watch,
            )

        finished, before = self._run(name, schedule.seconds, run)
        found = figures(finished, schedule, self.deadline_seconds)
        multiple = found.whole.rate / capacity if capacity else None
        return Measured(name, multiple, schedule, found, self._compare(before, found))

    def _run(self, label: str, seconds: float, run: Callable[[Watch], Run]) -> tuple[Run, Snapshot]:
        before = snapshot(self.target, self.pid)
        with self.progress(label, seconds) as watch:
            return run(watch), before

    def _compare(self, before: Snapshot, found: Figures) -> ServerSide:
        """Scrape again until the server has counted what it answered, which may be just after the answer."""
        give_up_at = time.monotonic() + COUNTED_WITHIN_SECONDS
        while True:
            server = compare(before, snapshot(self.target, self.pid), found.sends)
            if server.agree is not False or time.monotonic() > give_up_at:
                return server
            time.sleep(SCRAPE_AGAIN_SECONDS)
