"""Programs that run while a canary is judged on this machine, and end with it."""

import http.client
import json
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from release.errors import ReleaseError
from release.tools import find, run

LOOPBACK = "127.0.0.1"
READY_SECONDS = 60
END_SECONDS = 20
LAST_BYTES = 2_000


class ServerError(ReleaseError):
    """A program that was started did not get ready, or ended too early."""


class Server:
    """A child process, its output in a file."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._command = command
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 no shell; commands of ours
                [find(command[0]), *command[1:]], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )

    def check(self) -> None:
        """Raise `ServerError` with its last words if it ended."""
        if self._process.poll() is not None:
            said = self._log.read_bytes()[-LAST_BYTES:].decode(errors="replace").strip()
            raise ServerError(f"{self._command[0]} ended with {self._process.returncode}:\n{said}")

    def wait(self, seconds: float) -> None:
        """Wait for its own end."""
        self._process.wait(seconds)

    def end(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def started(command: Sequence[str], log: Path) -> Iterator[Server]:
    """A program that runs for as long as the block. Raises `ServerError` if it ended by itself before."""
    server = Server(command, log)
    try:
        yield server
        server.check()
    finally:
        server.end()


@contextmanager
def container(name: str, command: Sequence[str], port: int) -> Iterator[None]:
    """A container that is ready for as long as the block, and gone after it. `command` starts it detached."""
    run("docker", "rm", "--force", name)
    run(*command)
    try:
        wait_until_ready(port, name)
        yield
    finally:
        run("docker", "rm", "--force", name)


@contextmanager
def prometheus(targets: Mapping[str, int], *, scrape_seconds: float, log: Path) -> Iterator[str]:
    """The URL of a Prometheus that scrapes; `targets` are ports by the value of the label `arm`."""
    port = free_port()
    jobs = [{"targets": [f"{LOOPBACK}:{target}"], "labels": {"arm": arm}} for arm, target in targets.items()]
    every = f"{round(scrape_seconds * 1e3)}ms"
    settings = {
        "global": {"scrape_interval": every, "scrape_timeout": every},
        "scrape_configs": [{"job_name": "frontrow", "static_configs": jobs}],
    }
    with tempfile.TemporaryDirectory(prefix="frontrow-prometheus-") as folder:
        config = Path(folder, "prometheus.yml")
        config.write_text(json.dumps(settings))  # JSON is YAML
        command = (
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={LOOPBACK}:{port}",
            "--log.level=warn",
        )
        with started(command, log) as server:
            # It is ready seconds before it knows its targets.
            _wait_for("prometheus", lambda: _scrape_targets(port) == len(targets), server)
            yield f"http://{LOOPBACK}:{port}"


def wait_until_ready(port: int, name: str) -> None:
    """Wait for `/readyz` of a service on this machine. Raises `ServerError` after 60 s."""
    _wait_for(f"{name} on port {port}", lambda: _get(port, "/readyz")[0] == 200, None)


def version(port: int) -> dict[str, Any]:
    """What the service on this port of this machine says of itself."""
    status, body = _get(port, "/version")
    if status != 200:
        raise ServerError(f"/version on port {port} answered {status}")
    answer: dict[str, Any] = json.loads(body)
    return answer


def free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _wait_for(name: str, is_there: Callable[[], bool], server: Server | None) -> None:
    give_up_at = time.monotonic() + READY_SECONDS
    while time.monotonic() < give_up_at:
        if server is not None:
            server.check()
        with suppress(OSError):
            if is_there():
                return
        time.sleep(0.1)
    raise ServerError(f"{name} was not ready after {READY_SECONDS} s")


def _scrape_targets(port: int) -> int:
    status, body = _get(port, "/api/v1/targets")
    return len(json.loads(body)["data"]["activeTargets"]) if status == 200 else 0


def _get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as error:
        raise ConnectionError(f"port {port}: {type(error).__name__}") from error
    finally:
        connection.close()
