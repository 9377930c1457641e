"""From settings to a process that listens: models first, the port after."""

import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

import click
import uvicorn
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.supervisors import Multiprocess

from app.hangup import Terminal, hold_sighup, take_held_sighup
from app.logs import configure_logs
from app.settings import PREFIX, Settings, Unusable, read_settings

BACKLOG = 2_048
WORKER_START_SECONDS = 60


def serve(overrides: Mapping[str, Any]) -> None:
    """Serve until told to stop. Raises `SettingsError` or `Unusable` before the port opens."""
    # What the service is made of is imported by whoever serves: a process that starts others need not hold it.
    for name, value in overrides.items():
        os.environ[PREFIX + name.upper()] = str(value)
    settings = read_settings()
    configure_logs(settings.log_level)
    # As process 1 of a container nothing else ends us while models load. Later it is what uvicorn restores, and raises
    # again once it has shut down.
    signal.signal(signal.SIGTERM, _exit)
    hold_sighup()
    if settings.workers > 1:
        _serve_with_workers(settings)
    else:
        _serve_alone(settings)


def _serve_alone(settings: Settings) -> None:
    from app.launch import make_application  # noqa: PLC0415 see `serve`

    application, example = make_application(settings)
    config = _config(settings, app=application)
    _AnnouncingServer(config, lambda port: _announce(settings, port, example)).run()


def _serve_with_workers(settings: Settings) -> None:
    """Serve from processes that hold in common what they can. This one stays small: it only starts them."""
    folder = tempfile.mkdtemp(prefix="frontrow-workers-")
    try:
        os.environ["WORKER_FOLDER"] = folder
        example = _rehearse()
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        config = _config(settings, app="app.launch:worker_application", factory=True, workers=settings.workers)
        listener = config.bind_socket()
        _AnnouncingSupervisor(config, listener, lambda port: _announce(settings, port, example)).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _rehearse() -> str:
    """Try everything in a process that ends before the others begin. Raises what `serve` raises.

    Leaves in the workers' folder what they serve; gives a body that works.
    """
    context = multiprocessing.get_context("spawn")
    answers, answer = context.Pipe(duplex=False)
    child = context.Process(target=_rehearse_here, args=(answer,), daemon=True)  # a daemon ends with its parent
    child.start()
    answer.close()
    try:
        outcome: str | Exception = answers.recv()
    except EOFError:
        child.join()
        raise Unusable(f"the models could not be tried out: exit code {child.exitcode}") from None
    child.join()
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _rehearse_here(answer: Connection) -> None:
    from app.launch import rehearse  # noqa: PLC0415 only in the child

    rehearse(answer)


def _config(settings: Settings, **application: Any) -> uvicorn.Config:
    return uvicorn.Config(
        **application,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="app.protocol:HttpProtocol",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=int(settings.drain_seconds) + 1,
    )


class _AnnouncingServer(uvicorn.Server):
    """Says where it listens once it does."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[int], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce(self.servers[0].sockets[0].getsockname()[1])


class _AnnouncingSupervisor(Multiprocess):
    """Says where its workers listen once all of them do."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket, announce: Callable[[int], None]) -> None:
        super().__init__(config, sockets=[listener])
        self._announce = announce
        self._terminal = Terminal()

    def init_processes(self) -> None:
        super().init_processes()
        self._pids = self._live_pids()
        if all(worker.wait_until_ready(WORKER_START_SECONDS, self.should_exit) for worker in self.processes):
            self._announce(self.sockets[0].getsockname()[1])

    def handle_signals(self) -> None:
        """SIGHUP is held here, so that a worker that is being started begins with it held."""
        if take_held_sighup():
            if self._terminal.is_closed():
                self.should_exit.set()
            for pid in self._live_pids():
                os.kill(pid, signal.SIGHUP)
        super().handle_signals()

    def keep_subprocess_alive(self) -> None:
        """Replace workers that ended, and forget the gauges of those that are there no more."""
        super().keep_subprocess_alive()
        before, self._pids = self._pids, self._live_pids()
        for pid in before - self._pids:
            mark_process_dead(pid)  # type: ignore[no-untyped-call]

    def _live_pids(self) -> set[int]:
        return {worker.pid for worker in self.processes if worker.pid is not None}


def _announce(settings: Settings, port: int, example: str) -> None:
    """Tell a person at a terminal what to try. A service that listens to the world has no such person."""
    if settings.host not in ("127.0.0.1", "localhost", "::1"):
        return
    url = f"http://{settings.host}:{port}"
    quoted = example.replace("'", "'\\''")
    click.echo(
        f"""
Frontrow is ready: {url}

  curl -s {url}/v1/rank -H 'Content-Type: application/json' -H 'X-Visitor-Id: ada' \\
    -d '{quoted}'

  {url}             the console
  {url}/docs        the API, to try in a browser
  {url}/v1/models   the two models and their features
  {url}/metrics     for Prometheus

Stop with Ctrl-C.
""",
        err=True,
    )


def _exit(signal_number: int, frame: FrameType | None) -> None:
    sys.exit(0)
