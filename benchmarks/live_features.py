"""What histories cost a ranking, what a failing store does to it, and what a new catalog does. Prints tables.

    python -m benchmarks.live_features BUNDLE

BUNDLE is a folder with a model that has derived features (`frontrow demo`, then `frontrow bundle`). Starts servers and
a Redis of its own. Rankings are of 50 known activities; "without" are the same ones without a visitor's id, which ask
no store. Nothing else should run on the machine.
"""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import uvloop

from benchmarks.errors import BenchError, Unreachable
from benchmarks.generator import Patience, run_closed_loop
from benchmarks.target import RANK_PATH, Target
from features import Catalog

HOST = "127.0.0.1"
HOUSE = Path(__file__).parents[1]
CANDIDATES = 50
VISITORS = 1_000
EVENTS = 20  # of a visitor
START_SECONDS = 120.0
PAUSE_SECONDS = 5.0
SLOW_SECONDS = 0.3
FAULT_SECONDS = 4.0
BETWEEN_SECONDS = 3.0
GARBAGE = b"\x00HTTP/1.1 200 OK\r\n\r\n"
OK, ACCEPTED = 200, 202
POLL_SECONDS = 0.1
LOOK_SECONDS = 0.5  # between scrapes that tell whether the catalog is new; each costs the service about 1 ms
SEED = 3


class Answer(NamedTuple):
    """Of one ranking: when it was due, seconds from then to the answer, its status, and whether it was degraded."""

    due: float
    seconds: float
    status: int
    degraded: bool


class Caller:
    """One keep-alive connection."""

    def __init__(self, target: Target) -> None:
        self._target = target

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._target.host, self._target.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ask(self, payload: bytes) -> tuple[int, bytes]:
        """Status and body."""
        self._writer.write(payload)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return int(head.split(b" ", 2)[1]), await self._reader.readexactly(length)


class Rankings:
    """Requests for one service: any 50 activities of its catalog, for any visitor."""

    def __init__(self, target: Target, catalog: Path, visitors: int = VISITORS) -> None:
        self.target = target
        self.visitors = visitors
        document = target.request("GET", "/openapi.json").json()
        content = document["paths"][RANK_PATH]["post"]["requestBody"]["content"]["application/json"]
        self._context = content["example"].get("context", {})
        self._ids = list(Catalog.read(catalog).rows)
        self._random = np.random.default_rng(SEED)

    def payload(self, visitor: int | None) -> bytes:
        ids = [self._ids[place] for place in self._random.integers(len(self._ids), size=CANDIDATES).tolist()]
        body = json.dumps({"context": self._context, "candidates": list(dict.fromkeys(ids))}).encode()
        who = "" if visitor is None else f"X-Visitor-Id: v{visitor % self.visitors}\r\n"
        return _request(RANK_PATH, body, who)

    async def remember(self) -> None:
        """Give every visitor a history."""
        async with Caller(self.target) as caller:
            for first in range(0, self.visitors, 50):
                visitors = range(first, min(first + 50, self.visitors))
                events = [self._event(visitor, age) for visitor in visitors for age in range(EVENTS)]
                status, body = await caller.ask(_request("/v1/events", json.dumps(events).encode()))
                if status != ACCEPTED:
                    raise BenchError(f"events were answered {status}: {body.decode()}")

    def _event(self, visitor: int, age: int) -> dict[str, Any]:
        activity = self._ids[int(self._random.integers(len(self._ids)))]
        at = int(1e3 * time.time()) - 600_000 * (age + 1)
        return {"visitor_id": f"v{visitor}", "activity_id": activity, "type": "view", "at": at}


def _request(path: str, body: bytes, headers: str = "") -> bytes:
    lines = f"POST {path} HTTP/1.1\r\nHost: frontrow\r\nContent-Type: application/json\r\n{headers}"
    return f"{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


# ---- servers ----


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def service(bundle: Path, **settings: object) -> Iterator[Target]:
    """A `frontrow serve` that is ready."""
    defaults = {"treatment_model": "", "log_level": "error", "lame_duck_seconds": 0, "port": free_port()}
    named = {f"FRONTROW_{name.upper()}": str(value) for name, value in (defaults | settings).items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "frontrow", "serve", "--control", str(bundle.resolve())],
        cwd=HOUSE,
        env={**os.environ, **named},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    target = Target(HOST, int(named["FRONTROW_PORT"]), RANK_PATH, tls=False)
    try:
        _wait_until_ready(process, target)
        yield target
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _wait_until_ready(process: "subprocess.Popen[bytes]", target: Target) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if target.request("GET", "/readyz").status == OK:
                return
        except Unreachable:
            pass
        time.sleep(0.1)
    raise BenchError(f"the service is not ready: exit code {process.poll()}")


class RedisServer:
    """A Redis without persistence that can be killed, paused and started again, empty."""

    def __init__(self) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            raise BenchError("redis-server is not installed")
        self.port = free_port()
        self._command = [binary, "--port", str(self.port), "--bind", HOST, "--save", "", "--loglevel", "warning"]
        self.start()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        time.sleep(0.3)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.resume()
        self.kill()


class Proxy:
    """Stands between a client and Redis: answers are late by `delay_seconds`, or `garbage`."""

    def __init__(self, redis: RedisServer) -> None:
        self._redis = redis
        self.delay_seconds = 0.0
        self.garbage: bytes | None = None

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        """The URL to reach Redis by."""
        server = await asyncio.start_server(self._accept, HOST, 0)
        yield f"redis://{HOST}:{server.sockets[0].getsockname()[1]}/0"
        server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_redis, to_redis = await asyncio.open_connection(HOST, self._redis.port)
            await asyncio.gather(self._pass(reader, to_redis, late=False), self._pass(from_redis, writer, late=True))
        except (OSError, asyncio.CancelledError):
            pass
        writer.close()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, late: bool) -> None:
        while data := await source.read(65_536):
            if late and self.delay_seconds:
                await asyncio.sleep(self.delay_seconds)
            sink.write(data if self.garbage is None or not late else self.garbage)
            await sink.drain()
        sink.close()


# ---- what is measured ----


async def added_cost(rankings: Rankings, pairs: int) -> str:
    """One connection; each pair is a ranking with a history and one without, in turns of who is first."""
    times = np.empty((pairs, 2))
    async with Caller(rankings.target) as caller:
        for pair in range(-50, pairs):
            for with_history in (True, False) if pair % 2 else (False, True):
                payload = rankings.payload(pair if with_history else None)
                started = time.perf_counter()
                status, _ = await caller.ask(payload)
                if status != OK:
                    raise BenchError(f"a ranking was answered {status}")
                times[pair, int(not with_history)] = 1e3 * (time.perf_counter() - started)
    p50, p99 = np.percentile(times, [50, 99], axis=0)
    added = np.percentile(times[:, 0] - times[:, 1], 50)
    return f"{p50[1]:.3f} | {p50[0]:.3f} | {p50[0] - p50[1]:+.3f} | {added:+.3f} | {p99[1]:.2f} | {p99[0]:.2f}"


def throughput(rankings: Rankings, *, connections: int, seconds: float, rounds: int) -> tuple[float, float]:
    """Answers a second with histories and without, medians of rounds that take turns."""
    payloads = {
        True: [rankings.payload(visitor) for visitor in range(500)],
        False: [rankings.payload(None) for _ in range(500)],
    }
    rates: dict[bool, list[float]] = {True: [], False: []}
    for number in range(rounds):
        for with_history in (True, False) if number % 2 else (False, True):
            run = run_closed_loop(
                rankings.target,
                payloads[with_history],
                connections=connections,
                seconds=seconds,
                patience=Patience(),
                watch=lambda _seconds, _record: None,
            )
            rates[with_history].append(np.sum(np.array(run.record.status) == OK) / seconds)
    return float(np.median(rates[True])), float(np.median(rates[False]))


class Load:
    """Rankings at a steady rate, whatever becomes of them; `answers` has them all."""

    def __init__(self, rankings: Rankings, rate: float) -> None:
        self._rankings = rankings
        self._rate = rate
        self.answers: list[Answer] = []
        self._over = False

    @asynccontextmanager
    async def coming(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._send())
        try:
            yield
        finally:
            self._over = True
            await task

    async def _send(self) -> None:
        idle: list[Caller] = []
        under_way: set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()
        due, number = loop.time(), 0
        while not self._over:
            due, number = due + 1 / self._rate, number + 1
            await asyncio.sleep(max(0.0, due - loop.time()))
            task = loop.create_task(self._ask(idle, self._rankings.payload(number), due))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)
        for caller in idle:
            await caller.__aexit__()

    async def _ask(self, idle: list[Caller], payload: bytes, due: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            caller = idle.pop() if idle else await Caller(self._rankings.target).__aenter__()
            status, body = await caller.ask(payload)
        except (OSError, asyncio.IncompleteReadError):
            self.answers.append(Answer(due, loop.time() - due, 0, degraded=False))
            return
        idle.append(caller)
        self.answers.append(Answer(due, loop.time() - due, status, b'"degraded":true' in body))

    def between(self, start: float, stop: float) -> list[Answer]:
        return [answer for answer in self.answers if start <= answer.due < stop]


def summary(answers: Sequence[Answer]) -> str:
    """Rankings, failed ones, share of degraded ones, p50 and p99 in ms."""
    p50, p99 = np.percentile([1e3 * answer.seconds for answer in answers], [50, 99])
    failed = sum(answer.status != OK for answer in answers)
    degraded = sum(answer.degraded for answer in answers) / len(answers)
    return f"{len(answers):,} | {failed} | {degraded:.0%} | {p50:.2f} | {p99:.2f}"


async def faults(bundle: Path, rate: float) -> None:
    """A store that fails in the middle of a load, one fault after the other."""
    with RedisServer() as redis, ExitStack() as stack:
        proxy = Proxy(redis)
        async with proxy.listening() as url:
            target = await asyncio.to_thread(stack.enter_context, service(bundle, feature_store=url))
            rankings = await asyncio.to_thread(Rankings, target, bundle / "catalog.parquet")
            await rankings.remember()
            load = Load(rankings, rate)
            async with load.coming():
                await asyncio.sleep(BETWEEN_SECONDS)
                start = asyncio.get_running_loop().time()
                await asyncio.sleep(BETWEEN_SECONDS)
                click.echo(f"| none | {summary(load.between(start, start + BETWEEN_SECONDS))} | |")
                for name, fault in _faults(redis, proxy).items():
                    await _fault(name, fault, load)


async def _fault(name: str, fault: Callable[[], Awaitable[None]], load: Load) -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    await fault()  # returns when the store is well again
    well = loop.time()
    await asyncio.sleep(BETWEEN_SECONDS)
    after = [answer.due + answer.seconds for answer in load.between(well, loop.time()) if answer.degraded]
    recovery = max(after, default=well) - well
    click.echo(f"| {name} | {summary(load.between(start, well))} | {recovery:.2f} |")


def _faults(redis: RedisServer, proxy: Proxy) -> Mapping[str, Callable[[], Awaitable[None]]]:
    async def killed() -> None:
        redis.kill()
        await asyncio.sleep(FAULT_SECONDS)
        await asyncio.to_thread(redis.start)

    async def paused() -> None:
        redis.pause()
        await asyncio.sleep(PAUSE_SECONDS)
        redis.resume()

    async def slow() -> None:
        proxy.delay_seconds = SLOW_SECONDS
        await asyncio.sleep(FAULT_SECONDS)
        proxy.delay_seconds = 0.0

    async def garbage() -> None:
        proxy.garbage = GARBAGE
        await asyncio.sleep(FAULT_SECONDS)
        proxy.garbage = None

    async def emptied() -> None:
        redis.kill()
        await asyncio.to_thread(redis.start)

    return {
        "killed, back empty": killed,
        f"paused {PAUSE_SECONDS:g} s": paused,
        f"slow by {1e3 * SLOW_SECONDS:.0f} ms": slow,
        "garbage": garbage,
        "restarted at once, empty": emptied,
    }


async def refresh(bundle: Path, activities: int, rate: float) -> None:
    """A catalog of so many activities, replaced in the middle of a load."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        snapshot = Path(folder) / "catalog.parquet"
        _write_snapshot(bundle, snapshot, activities)
        settings = {"catalog": snapshot, "catalog_poll_seconds": POLL_SECONDS, "catalog_budget_mb": 4_096}
        target = await asyncio.to_thread(stack.enter_context, service(bundle, **settings))
        rankings = await asyncio.to_thread(Rankings, target, snapshot)
        await rankings.remember()
        load = Load(rankings, rate)
        loop = asyncio.get_running_loop()
        async with load.coming():
            await asyncio.sleep(BETWEEN_SECONDS)  # of warming up
            begin = start = loop.time()
            loaded_at = await asyncio.to_thread(_loaded_at, target)
            while start < begin + FAULT_SECONDS:  # asked as often as later on: a scrape costs something as well
                await asyncio.to_thread(_loaded_at, target)
                await asyncio.sleep(LOOK_SECONDS)
                start = loop.time()
            snapshot.touch()
            while await asyncio.to_thread(_loaded_at, target) == loaded_at:  # noqa: ASYNC110 - another process sets it
                await asyncio.sleep(LOOK_SECONDS)
            stop = loop.time()
            await asyncio.sleep(1)
        click.echo(f"| before | {summary(load.between(begin, start))} |")
        click.echo(f"| during ({stop - start:.2f} s) | {summary(load.between(start, stop))} |")


def _write_snapshot(bundle: Path, snapshot: Path, activities: int) -> None:
    table = pyarrow.parquet.read_table(bundle / "catalog.parquet")
    chosen = np.random.default_rng(SEED).integers(len(table), size=activities)
    ids = pa.array([f"activity-{number}" for number in range(activities)])
    table = table.take(pa.array(chosen)).drop_columns(["id"]).append_column("id", ids)
    pyarrow.parquet.write_table(table, snapshot)


def _loaded_at(target: Target) -> float:
    text = target.request("GET", "/metrics").body.decode()
    lines = [line for line in text.splitlines() if line.startswith("frontrow_catalog_loaded_timestamp_seconds{")]
    return float(lines[0].split()[1])


STORES = ("memory", "sqlite", "redis")


def costs(bundle: Path, *, pairs: int, connections: int, seconds: float, rounds: int) -> None:
    click.echo("\nmilliseconds at one connection, in pairs\n")
    click.echo("| store | p50 without | p50 with | difference | p50 of differences | p99 without | p99 with |")
    click.echo("|---|---|---|---|---|---|---|")
    rates = []
    with RedisServer() as redis, tempfile.TemporaryDirectory() as folder:
        urls = {"memory": "memory:", "sqlite": f"sqlite:{folder}/histories.db", "redis": redis.url}
        for store in STORES:
            with service(bundle, feature_store=urls[store]) as target:
                rankings = Rankings(target, bundle / "catalog.parquet")
                uvloop.run(rankings.remember())
                click.echo(f"| {store} | {uvloop.run(added_cost(rankings, pairs))} |")
                found = throughput(rankings, connections=connections, seconds=seconds, rounds=rounds)
                rates.append((store, *found))
    click.echo(f"\nrankings a second, {connections} connections, in turns\n")
    click.echo("| store | without | with | ratio |\n|---|---|---|---|")
    for store, with_history, without in rates:
        click.echo(f"| {store} | {without:,.0f} | {with_history:,.0f} | {with_history / without:.2f} |")


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--only", type=click.Choice(["costs", "faults", "refresh"]), help="One part of it.")
@click.option("--pairs", default=3_000, show_default=True, help="Rankings with and without, at one connection.")
@click.option("--connections", default=32, show_default=True, help="Of the throughput.")
@click.option("--seconds", default=5.0, show_default=True, help="Of each round of the throughput.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--rate", default=200.0, show_default=True, help="Rankings a second under faults and refresh.")
@click.option("--activities", default=100_000, show_default=True, help="Of the catalog that is replaced.")
def main(
    *,
    bundle: Path,
    only: str | None,
    pairs: int,
    connections: int,
    seconds: float,
    rounds: int,
    rate: float,
    activities: int,
) -> None:
    if only in (None, "costs"):
        costs(bundle, pairs=pairs, connections=connections, seconds=seconds, rounds=rounds)
    head = "| {} | rankings | failed | degraded | p50 ms | p99 ms |{}"
    if only in (None, "faults"):
        click.echo(f"\nfaults of Redis at {rate:g} rankings a second; a budget of 10 ms\n")
        click.echo(head.format("while it is", " s until all have histories again |") + "\n" + 7 * "|---" + "|")
        uvloop.run(faults(bundle, rate))
    if only in (None, "refresh"):
        click.echo(f"\na catalog of {activities:,} activities is replaced at {rate:g} rankings a second\n")
        click.echo(head.format("", "") + "\n" + 6 * "|---" + "|")
        uvloop.run(refresh(bundle, activities, rate))


if __name__ == "__main__":
    main()
