"""Do callers notice when processes are replaced in turn? Two of them, a balancer, a steady load, many SIGTERMs.

    python -m benchmarks.rolling_restarts build/reference --terminations 50 --rate 200

Take 0.8 of the capacity of one process as the rate (`frontrow bench --closed` finds it): during each restart the other
process serves alone. The balancer does as a Kubernetes Service does: it assigns connections, not requests, leaves
those that are open alone, and hears of a failing `/readyz` late. The more callers share the rate, the longer a
connection rests between two requests, and the more of them are at rest when a process closes what it has left.
"""

import asyncio
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
from bisect import bisect
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import click
import numpy as np
import uvloop

from benchmarks.bodies import ask_example, check_answered, payloads, random_bodies
from benchmarks.errors import BenchError, Unreachable
from benchmarks.figures import Percentiles, percentiles
from benchmarks.pool import ConnectionPool
from benchmarks.record import NO_ANSWER, REFUSED, Record
from benchmarks.target import RANK_PATH, Target

HOST = "127.0.0.1"
POLL_SECONDS = 0.1
REACTION_SECONDS = 0.5  # from a failing readiness to the last new connection, as an endpoints controller takes
START_SECONDS = 120.0
STOP_SECONDS = 60.0
GIVE_UP_SECONDS = 5.0
CONNECTIONS_OF_A_CALLER = 64
PIECE_BYTES = 65_536
LAST_WORDS_BYTES = 2_000
OK = 200
SEED = 7
HOUSE = Path(__file__).parents[1]


class ReplicaFailed(BenchError):
    """A process did not start, or did not end as it should."""


class Replica:
    """One `frontrow serve` on a port that stays its own while it is down."""

    def __init__(self, bundle: Path, environment: Mapping[str, str], log: Path) -> None:
        self._bundle = bundle
        self._environment = {**os.environ, **environment}
        self._log = log
        # Stays bound, never listens: no outgoing connection is given this port between an end and the next start.
        self._claim = socket.socket()
        self._claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._claim.bind((HOST, 0))
        self.target = Target(HOST, self._claim.getsockname()[1], RANK_PATH, tls=False)

    async def start(self) -> None:
        options = ("--port", str(self.target.port), "--control", str(self._bundle), "--treatment", "")
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "frontrow", "serve", *options),
                cwd=HOUSE,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def check(self) -> None:
        """Raise ReplicaFailed when the process has ended."""
        if self._process.returncode is not None:
            raise ReplicaFailed(f"exit code {self._process.returncode} before it was ready:\n{self._last_words()}")

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def terminate(self) -> None:
        """Send SIGTERM and wait for the end; raises ReplicaFailed when it is late or not exit code 0."""
        self.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                code = await self._process.wait()
        except TimeoutError:
            raise ReplicaFailed(f"still there {STOP_SECONDS:g} s after SIGTERM:\n{self._last_words()}") from None
        if code:
            raise ReplicaFailed(f"exit code {code} after SIGTERM:\n{self._last_words()}")

    async def close(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self._claim.close()

    def _last_words(self) -> str:
        return self._log.read_bytes()[-LAST_WORDS_BYTES:].decode(errors="replace")


class Balancer:
    """Gives each new connection to one of the backends in rotation, by chance, and copies bytes both ways.

    A backend is in rotation from its first ready poll until `REACTION_SECONDS` after its first failing one.
    `counts` has the connections that a backend refused or reset.
    """

    def __init__(self, backends: Sequence[Target]) -> None:
        self._backends = backends
        self._rotation: list[Target] = []
        self._forwards: set[asyncio.Task[None]] = set()
        self._chance = random.Random(SEED)
        self.counts: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.target = Target(HOST, self._server.sockets[0].getsockname()[1], RANK_PATH, tls=False)
        self._watches = [asyncio.create_task(self._watch(backend)) for backend in self._backends]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in (*self._watches, *self._forwards):
            task.cancel()
        await asyncio.gather(*self._watches, *self._forwards, return_exceptions=True)

    def has(self, backend: Target) -> bool:
        """Whether new connections may go there."""
        return backend in self._rotation

    async def _watch(self, backend: Target) -> None:
        while True:
            ready = await asyncio.to_thread(is_ready, backend)
            if ready and not self.has(backend):
                self._rotation.append(backend)
            elif not ready and self.has(backend):
                await asyncio.sleep(REACTION_SECONDS)
                self._rotation.remove(backend)
            await asyncio.sleep(POLL_SECONDS)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._forward(reader, writer))
        self._forwards.add(task)
        task.add_done_callback(self._forwards.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            backend = self._chance.choice(self._rotation)
            backend_reader, backend_writer = await asyncio.open_connection(backend.host, backend.port)
        except (IndexError, OSError):  # IndexError: nobody is in rotation
            self.counts["refused"] += 1
            writer.close()
            return
        _, reset = await asyncio.gather(_copy(reader, backend_writer), _copy(backend_reader, writer))
        self.counts["reset"] += reset


def is_ready(backend: Target) -> bool:
    try:
        return backend.request("GET", "/readyz").status == OK
    except Unreachable:
        return False


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> bool:
    """Copy to the end and pass the end on; returns whether the end was a reset."""
    try:
        while piece := await source.read(PIECE_BYTES):
            sink.write(piece)
            await sink.drain()
    except ConnectionError:
        return True
    finally:
        sink.close()
    return False


class Load:
    """A steady open loop: each request is sent when it is due, by one of `callers` taken by chance.

    A caller keeps its connections until the server says `Connection: close`, and sends nothing twice. `failed` has the
    loop's time and the ending of each request that was answered with neither 200 nor 503.
    """

    def __init__(self, target: Target, bodies: Sequence[bytes], rate: float, callers: int) -> None:
        self._rate = rate
        self._loop = asyncio.get_running_loop()
        self._callers = [
            ConnectionPool(target, bodies, self._ended, limit=CONNECTIONS_OF_A_CALLER, give_up_seconds=GIVE_UP_SECONDS)
            for _ in range(callers)
        ]
        self.record = Record()
        self.failed: list[tuple[float, int]] = []

    async def __aenter__(self) -> Self:
        for caller in self._callers:
            await caller.open(1)
        self._tasks = [asyncio.create_task(work) for work in (self._send(), self._keep_house())]
        return self

    async def __aexit__(self, *_: object) -> None:
        sending, housekeeping = self._tasks
        sending.cancel()
        for caller in self._callers:
            await caller.drain()
        housekeeping.cancel()
        for caller in self._callers:
            await caller.close()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):  # any other error means that there was no load
                await task

    async def _send(self) -> None:
        chance = random.Random(SEED)
        start = self._loop.time()
        for number in itertools.count():
            due = start + number / self._rate
            await asyncio.sleep(due - self._loop.time())
            chance.choice(self._callers).submit(self.record.begin(due, self._loop.time()))

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            for caller in self._callers:
                caller.give_up_on_the_slow()

    def _ended(self, request: int, status: int, sent_at: float) -> None:
        now = self._loop.time()
        self.record.end(request, status, sent_at, now)
        if status not in (OK, REFUSED):
            self.failed.append((now, status))


@dataclass(frozen=True)
class Plan:
    """`environment` is that of the processes, on top of this one's."""

    bundle: Path
    environment: Mapping[str, str]
    terminations: int
    rate: float
    callers: int
    candidates: int


@dataclass(frozen=True)
class Outcome:
    """What the callers saw.

    `failures` has the seconds from the SIGTERM before to the end of each failed request, and that end in words;
    `at_balancer` the connections that a process refused or reset; `latency` the seconds of the answers with 200.
    """

    terminations: int
    seconds: float
    endings: Counter[int]
    failures: list[tuple[float, str]]
    at_balancer: Counter[str]
    latency: Percentiles | None


async def restart_in_turn(plan: Plan, replaced: Callable[[Load], None]) -> Outcome:
    """Replace two processes in turn under load; `replaced` hears of each one that is back."""
    clock = asyncio.get_running_loop().time
    terminated_at = []
    async with _running(plan) as (replicas, balancer, load):
        began_at = clock()
        for replica in itertools.islice(itertools.cycle(replicas), plan.terminations):
            terminated_at.append(clock())
            await replica.terminate()
            await _gone(balancer, replica)
            await replica.start()
            await _ready(balancer, replica)
            replaced(load)
        seconds = clock() - began_at
    record = load.record
    accepted = np.array(record.status) == OK
    return Outcome(
        plan.terminations,
        seconds,
        record.endings,
        [(at - terminated_at[bisect(terminated_at, at) - 1], _in_words(status)) for at, status in load.failed],
        balancer.counts,
        percentiles((np.array(record.finished) - np.array(record.due))[accepted]),
    )


@asynccontextmanager
async def _running(plan: Plan) -> AsyncIterator[tuple[list[Replica], Balancer, Load]]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        replicas = [Replica(plan.bundle, plan.environment, folder / f"{number}.log") for number in range(2)]
        for replica in replicas:
            stack.push_async_callback(replica.close)
            await replica.start()
        balancer = await stack.enter_async_context(Balancer([replica.target for replica in replicas]))
        for replica in replicas:
            await _ready(balancer, replica)
        requests = await asyncio.to_thread(_requests, balancer.target, plan.candidates)
        yield (
            replicas,
            balancer,
            await stack.enter_async_context(Load(balancer.target, requests, plan.rate, plan.callers)),
        )


def _requests(target: Target, candidates: int) -> list[bytes]:
    bodies = random_bodies(ask_example(target), (candidates, candidates), None)
    check_answered(target, bodies[0], {})
    return payloads(target, bodies, {})


async def _gone(balancer: Balancer, replica: Replica) -> None:
    """Wait until `replica` gets no connections, so that when it does again, it is the next process that does."""
    await _turn(balancer, replica, present=False)


async def _ready(balancer: Balancer, replica: Replica) -> None:
    """Wait until `replica` gets connections; raises ReplicaFailed when it ends before, or takes too long."""
    await _turn(balancer, replica, present=True)


async def _turn(balancer: Balancer, replica: Replica, *, present: bool) -> None:
    try:
        async with asyncio.timeout(START_SECONDS):
            while balancer.has(replica.target) is not present:
                if present:
                    replica.check()
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        where = "out of" if present else "in"
        raise ReplicaFailed(f"still {where} the balancer's rotation after {START_SECONDS:g} s") from None


def _in_words(status: int) -> str:
    return NO_ANSWER.get(status, str(status))


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--terminations", type=click.IntRange(1), default=50, show_default=True)
@click.option("--rate", type=click.FloatRange(0, min_open=True), default=200, show_default=True, help="Requests/s.")
@click.option("--callers", type=click.IntRange(1), default=50, show_default=True, help="Who share the rate by chance.")
@click.option("--candidates", type=click.IntRange(1), default=50, show_default=True, help="In each request.")
@click.option("--lame-duck-seconds", type=click.FloatRange(0), default=1.5, show_default=True, help="Of the processes.")
@click.option("--timeout-ms", type=click.FloatRange(1), default=1_000, show_default=True, help="Of a request.")
def main(
    *,
    bundle: Path,
    terminations: int,
    rate: float,
    callers: int,
    candidates: int,
    lame_duck_seconds: float,
    timeout_ms: float,
) -> None:
    """Replace two processes that serve BUNDLE in turn, and count what callers see. Exit code 1: a request failed."""
    environment = {
        "FRONTROW_LAME_DUCK_SECONDS": f"{lame_duck_seconds:g}",
        "FRONTROW_REQUEST_TIMEOUT_MS": f"{timeout_ms:g}",
        "FRONTROW_ACCESS_LOG_SHARE": "0",
    }
    plan = Plan(bundle.resolve(), environment, terminations, rate, callers, candidates)
    try:
        with click.progressbar(
            length=terminations, label="replacing processes", file=sys.stderr, item_show_func=_so_far
        ) as bar:
            outcome = uvloop.run(restart_in_turn(plan, lambda load: bar.update(1, load)))
    except BenchError as error:
        raise click.ClickException(str(error)) from error
    click.echo(markdown(plan, outcome), nl=False)
    if outcome.failures:
        sys.exit(1)


def _so_far(load: Load | None) -> str | None:
    return None if load is None else f"{len(load.record):,} requests, {len(load.failed)} failed"


def markdown(plan: Plan, outcome: Outcome) -> str:
    """One row with its heading, and a line for each kind of failure."""
    cells = {
        "SIGTERMs": f"{outcome.terminations}",
        "seconds": f"{outcome.seconds:.0f}",
        "callers": f"{plan.callers}",
        "requests/s": f"{plan.rate:g}",
        "requests": f"{outcome.endings.total():,}",
        "200": f"{outcome.endings[OK]:,}",
        "503": f"{outcome.endings[REFUSED]:,}",
        "failed": f"{len(outcome.failures):,}",
        "connections reset": f"{outcome.at_balancer['reset']}",
        "connections refused": f"{outcome.at_balancer['refused']}",
        "p50 ms": "" if outcome.latency is None else f"{1e3 * outcome.latency.p50:.1f}",
        "p99 ms": "" if outcome.latency is None else f"{1e3 * outcome.latency.p99:.1f}",
    }
    rows = (cells.keys(), ["--:"] * len(cells), cells.values())
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    kinds = sorted({end for _, end in outcome.failures})
    return table + "".join(f"\n{_failures(kind, outcome)}" for kind in kinds)


def _failures(end: str, outcome: Outcome) -> str:
    after = [f"{seconds:.2f}" for seconds, each in outcome.failures if each == end]
    return f"- {len(after)} x {end}, seconds after the SIGTERM before: {', '.join(after)}\n"


if __name__ == "__main__":
    main()
