"""From settings to a process that listens: models first, the port after."""

import importlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import click
import msgspec
import uvicorn
from uvicorn.supervisors import Multiprocess

from app.experiment import Variant
from app.logs import configure_logs
from app.models import fetch_models, load_models, warm_up
from app.processing import ProcessingError
from app.schemas import ShapeError
from app.settings import PREFIX, Settings, read_settings
from features import CatalogError
from registry import BundleError, Fetched, RegistryUnavailable

KEEP_ALIVE_SECONDS = 75  # longer than the idle time of common proxies, so that they close idle connections, not we
BACKLOG = 2_048
WORKER_START_SECONDS = 60

# A parent tells its workers here which bundles it resolved and verified, so that all of them serve the same.
_WORKER_BUNDLES = "WORKER_BUNDLES"


class Unusable(Exception):
    """What the settings name cannot be served. The port was never opened."""


def serve(overrides: Mapping[str, Any]) -> None:
    """Serve until told to stop. Raises `SettingsError` or `Unusable` before the port opens."""
    # What the service is made of is imported later: prometheus_client decides at its import whether it counts for one
    # process or for several.
    for name, value in overrides.items():
        os.environ[PREFIX + name.upper()] = str(value)
    settings = read_settings()
    configure_logs(settings.log_level)
    # As process 1 of a container nothing else ends us while models load. Later it is what uvicorn restores, and raises
    # again once it has shut down.
    signal.signal(signal.SIGTERM, _exit)
    if settings.workers > 1:
        _serve_with_workers(settings)
    else:
        _serve_alone(settings)


def _serve_alone(settings: Settings) -> None:
    service = _make_service(settings, _fetch(settings))
    from app.routes import Application  # noqa: PLC0415 see `serve`

    config = _config(settings, app=Application(service))
    _AnnouncingServer(config, lambda port: _announce(settings, port, service)).run()


def _serve_with_workers(settings: Settings) -> None:
    folder = tempfile.mkdtemp(prefix="frontrow-metrics-")
    try:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        fetched = _fetch(settings)
        service = _make_service(settings, fetched)
        os.environ[_WORKER_BUNDLES] = msgspec.json.encode(fetched, enc_hook=str).decode()
        config = _config(settings, app="app.server:worker_application", factory=True, workers=settings.workers)
        listener = config.bind_socket()
        _AnnouncingSupervisor(config, listener, lambda port: _announce(settings, port, service)).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def worker_application() -> Any:
    """The application of one worker process."""
    from app.routes import Application  # noqa: PLC0415 see `serve`

    settings = read_settings()
    configure_logs(settings.log_level)
    bundles = msgspec.json.decode(
        os.environ[_WORKER_BUNDLES], type=dict[Variant, Fetched], dec_hook=lambda kind, value: kind(value)
    )
    return Application(_make_service(settings, bundles))


def _fetch(settings: Settings) -> dict[Variant, Fetched]:
    """Ask for the models; what the service is made of is imported and warmed up meanwhile, since both take seconds."""
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(fetch_models, settings)
        for module in ("app.routes", "scoring.compiled"):
            importlib.import_module(module)
        if not pending.done():
            warm_up(settings)
        try:
            return pending.result()
        except (RegistryUnavailable, BundleError) as error:
            raise Unusable(str(error)) from error


def _make_service(settings: Settings, fetched: Mapping[Variant, Fetched]) -> Any:
    from app.service import Service  # noqa: PLC0415 see `serve`

    try:
        return Service(settings, load_models(settings, fetched))
    except (BundleError, CatalogError, ProcessingError, ShapeError) as error:
        raise Unusable(str(error)) from error


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
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
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

    def init_processes(self) -> None:
        super().init_processes()
        if all(worker.wait_until_ready(WORKER_START_SECONDS, self.should_exit) for worker in self.processes):
            self._announce(self.sockets[0].getsockname()[1])


def _announce(settings: Settings, port: int, service: Any) -> None:
    """Tell a person at a terminal what to try. A service that listens to the world has no such person."""
    if settings.host not in ("127.0.0.1", "localhost", "::1"):
        return
    url = f"http://{settings.host}:{port}"
    body = json.dumps(service.example())
    quoted = body.replace("'", "'\\''")
    click.echo(
        f"""
Frontrow is ready: {url}

  curl -s {url}/v1/rank -H 'Content-Type: application/json' -H 'X-Visitor-Id: ada' \\
    -d '{quoted}'

  {url}/docs        the API, to try in a browser
  {url}/v1/models   the two models and their features
  {url}/metrics     for Prometheus

Stop with Ctrl-C.
""",
        err=True,
    )


def _exit(signal_number: int, frame: FrameType | None) -> None:
    sys.exit(0)
