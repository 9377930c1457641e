"""Callers that always have a request under way, made by wrk.

wrk is one thread in C, so that the callers cost little of a machine of which the server needs the rest: some 17 us a
request at 24,000 a second, where the generator of `frontrow bench` would itself be the limit.
"""

import json
import resource
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchError
from benchmarks.target import Target

SCRIPT = Path(__file__).with_name("wrk.lua")
PATIENCE_SECONDS = 10


class NoGenerator(BenchError):
    """wrk is not installed."""


@dataclass(frozen=True)
class ClosedLoop:
    """What so many callers got: `answers` with success, those a second, and `failures`, which are all other ends.

    Latencies are in seconds and of every answer; `generator_share`: CPU of the generator, of one core.
    """

    connections: int
    answers: int
    per_second: float
    p50: float
    p99: float
    max: float
    failures: int
    generator_share: float


def check_generator() -> None:
    """Raises NoGenerator."""
    if shutil.which("wrk") is None:
        raise NoGenerator("wrk is not installed; it is in Debian's and Homebrew's packages under that name")


def write_payloads(payloads: Sequence[bytes], path: Path) -> None:
    """Write whole HTTP requests for `wrk.lua`."""
    path.write_bytes(b"".join(b"%d\n%b" % (len(payload), payload) for payload in payloads))


def drive(target: Target, payloads: Path, *, connections: int, seconds: float) -> ClosedLoop:
    """Keep a request under way on each of `connections`; raises BenchError when wrk fails."""
    seconds = max(1, round(seconds))  # wrk counts whole ones
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={PATIENCE_SECONDS}s", "-s", str(SCRIPT)]
    cpu, wall = _children_cpu_seconds(), time.monotonic()
    done = subprocess.run(
        [*command, target.url, "--", str(payloads)],
        capture_output=True,
        text=True,
        timeout=seconds + 6 * PATIENCE_SECONDS,
        check=False,
    )
    cpu, wall = _children_cpu_seconds() - cpu, time.monotonic() - wall
    if done.returncode:
        raise BenchError(f"wrk exits with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    return read_result(done.stdout, connections, generator_share=cpu / wall)


def read_result(said: str, connections: int, *, generator_share: float) -> ClosedLoop:
    """Read what `wrk.lua` printed as the last line."""
    found = json.loads(said.splitlines()[-1])
    answers = found["answers"] - found["refused"]
    return ClosedLoop(
        connections=connections,
        answers=answers,
        per_second=answers / found["microseconds"] * 1e6,
        p50=found["p50"] / 1e6,
        p99=found["p99"] / 1e6,
        max=found["max"] / 1e6,
        failures=found["refused"] + found["broken"] + found["late"],
        generator_share=generator_share,
    )


def _children_cpu_seconds() -> float:
    """CPU seconds of children that have ended; the server has not."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
