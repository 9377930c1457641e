"""Real Redis servers for tests, without persistence, on free ports; and what can stand between one and its client.

A pytest plugin: `redis` is a server that is empty, `own_redis` one that a test may pause or kill. Tests that are marked
`real("redis")` are skipped where there is none, and fail in CI.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis import Redis

BINARY = shutil.which("redis-server")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self.start()

    def start(self) -> None:
        """Start, empty, and wait until it answers."""
        assert BINARY is not None
        options = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning")
        self._process = subprocess.Popen([BINARY, "--port", str(self.port), *options], cwd=self._folder)
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            assert self._process.poll() is None, "redis-server ended"
            assert time.monotonic() < deadline, "redis-server does not listen after 10 s"
            time.sleep(0.01)

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def calls(self, command: str) -> int:
        """How often the server ran a command, as it counted."""
        with Redis(port=self.port) as client:
            return int(client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])

    def client(self) -> Redis:
        return Redis(port=self.port)


@asynccontextmanager
async def tcp_server(handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]) -> AsyncIterator[int]:
    """A server on a free port; yields the port."""
    server = await asyncio.start_server(handle, "127.0.0.1", 0)  # type: ignore[arg-type]
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


class SlowProxy:
    """Passes bytes between a client and a Redis server; answers are `delay_seconds` late, or are `garbage`."""

    def __init__(self, server: RedisServer) -> None:
        self.delay_seconds = 0.0
        self.garbage: bytes | None = None
        self.answered = asyncio.Event()  # the server has, and the answer is on its way
        self._port = server.port

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await asyncio.gather(self._pass(reader, to_server, late=False), self._pass(from_server, writer, late=True))
        writer.close()
        to_server.close()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, late: bool) -> None:
        while data := await source.read(65536):
            if late:
                self.answered.set()
                await asyncio.sleep(self.delay_seconds)
            sink.write(data if self.garbage is None or not late else self.garbage)
            await sink.drain()
        sink.close()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if any("redis" in marker.args for marker in item.iter_markers("real")) and BINARY is None:
        if os.environ.get("CI") and os.environ.get("REAL_PARTS") == "1":
            pytest.fail("redis-server is not installed, and CI has to have it")
        pytest.skip("redis-server is not installed")


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for tests that leave it running; empty for each of them through `redis`."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def redis(shared_redis: RedisServer) -> RedisServer:
    with shared_redis.client() as client:
        client.flushall()
        client.config_resetstat()
    return shared_redis


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server for a test that pauses or kills it."""
    server = RedisServer(tmp_path)
    yield server
    server.resume()
    server.kill()
