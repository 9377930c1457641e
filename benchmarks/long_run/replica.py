"""A service in a process of its own that is watched: its log, its metrics, and what it holds."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from benchmarks.errors import BenchError, Unreachable
from benchmarks.long_run.ledger import Ledger, Life
from benchmarks.long_run.samples import Sample, take_sample
from benchmarks.rolling_restarts import HOUSE, OK, START_SECONDS, Replica, ReplicaFailed
from benchmarks.server_side import read_metrics
from benchmarks.target import Answer

POLL_SECONDS = 0.1
POISONED_SERVICE = HOUSE / "tests" / "benchmarks" / "poisoned_service.py"


class SwapRefused(BenchError):
    """A process was told to look at its model, and serves on with the one before."""


class WatchedReplica(Replica):
    """`life` is that of the process that is there now, or was last. `samples` are of all of them, a list each."""

    def __init__(self, model: Path, environment: Mapping[str, str], folder: Path, ledger: Ledger) -> None:
        log = folder / "log.jsonl"
        super().__init__(model, environment, log)
        self.life = Life()
        self.samples: list[list[Sample]] = []
        self._ledger = ledger
        self._tasks_file = folder / "tasks"
        self._read_to = 0

    async def start(self) -> None:
        self._log.write_bytes(b"")
        self._tasks_file.write_text("0")
        self._read_to = 0
        self.life = Life()
        self.samples.append([])
        own = {
            "FRONTROW_CONTROL_MODEL": str(self._bundle),
            "FRONTROW_PORT": str(self.target.port),
            "TASKS_FILE": str(self._tasks_file),
            "PYTHONPATH": str(HOUSE),
        }
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(POISONED_SERVICE)),
                cwd=self._log.parent,
                env={**self._environment, **own},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    async def wait_until_ready(self) -> None:
        """Raises `ReplicaFailed` when the process ends before, or takes too long."""
        try:
            async with asyncio.timeout(START_SECONDS):
                while (await self.get("/readyz")).status != OK:
                    self.check()
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise ReplicaFailed(f"not ready after {START_SECONDS:g} s:\n{self._last_words()}") from None

    async def get(self, path: str) -> Answer:
        """The answer, or one with the status 0 where nobody answers."""
        return await asyncio.to_thread(self._get, path)

    async def serves(self, version: str) -> bool:
        """Whether that is the control model, which gets all requests. Raises `SwapRefused` where it never will be."""
        (model,) = (one for one in (await self.get("/v1/models")).json()["models"] if one["variant"] == "control")
        if model["refused"]:
            raise SwapRefused(f"{version} is not taken: {model['refused']}")
        return f"{model['name']}/{model['version']}" == version

    async def outcomes(self) -> Counter[str]:
        """What its metrics count of rankings by their outcome, and those `offered`."""
        counts: Counter[str] = Counter()
        for name, labels, value in await asyncio.to_thread(read_metrics, self.target):
            if name == "frontrow_requests_offered_total":
                counts["offered"] += int(value)
            if name == "frontrow_requests_total":
                counts[labels["outcome"]] += int(value)
        return counts

    def read_log(self) -> None:
        """Hand what it logged since the last time to the ledger."""
        with self._log.open("rb") as log:
            log.seek(self._read_to)
            lines, _, rest = log.read().rpartition(b"\n")
            self._read_to = log.tell() - len(rest)
        for line in lines.splitlines():
            if line.startswith(b"{"):  # and not what it tells a person
                self._ledger.read_log(self.life, line)

    def sample(self, seconds: float) -> Sample:
        """What it holds now; it is kept, too."""
        sample = take_sample(self._process.pid, self._tasks_file, seconds)
        self.samples[-1].append(sample)
        return sample

    def holds(self) -> tuple[int, int]:
        """Open descriptors and asyncio tasks, now."""
        sample = take_sample(self._process.pid, self._tasks_file, 0)
        return sample.descriptors, sample.tasks

    def _get(self, path: str) -> Answer:
        try:
            return self.target.request("GET", path)
        except Unreachable:
            return Answer(0, b"")
