"""A real `mlflow server`: models come over HTTP, and its death is survived."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient
from registry_models import EXPERIMENT, FEATURES, register, tags_of

from registry import ModelNotFound, RegistryUnavailable, fetch, load_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PATIENCE_SECONDS = 140


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def listens(url: str, server: "subprocess.Popen[bytes]") -> bool:
    """Whether the server answers; fails when it ended."""
    assert server.poll() is None, "mlflow server ended before it answered"
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """URL and process of a server with a database and artifacts of its own."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--artifacts-destination", str(tmp_path / "store")),
    ]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=os.environ | quiet, stdout=log, stderr=log, start_new_session=True, cwd=tmp_path
        )
    try:
        waiting = threading.Event()
        for _ in range(600):
            if listens(url, process):
                break
            waiting.wait(0.2)
        else:
            pytest.fail(f"mlflow server did not answer: {(tmp_path / 'server.log').read_text()[-2000:]}")
        yield url, process
    finally:
        kill(process)


def kill(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def test_a_model_comes_over_http_and_outlives_the_server(
    server: tuple[str, "subprocess.Popen[bytes]"],
    files: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    url, process = server
    client = MlflowClient(url, registry_uri=url)
    client.create_experiment(EXPERIMENT)
    version = register(client, "remote", files, tags_of(files))
    client.set_registered_model_alias("remote", "champion", version)
    uri, cache = "models:/remote@champion", tmp_path / "bundles"

    first = fetch(uri, cache=cache, tracking_uri=url, timeout_seconds=PATIENCE_SECONDS)
    assert (first.origin, first.detail) == ("registry", f"remote/1 of MLflow at {url}, downloaded")
    bundle = load_model(first.folder).bundle
    assert (bundle.features, bundle.sha256) == (FEATURES, tags_of(files)["sha256"])
    assert bundle.read("catalog.parquet") == files["frontrow/catalog.parquet"]
    with pytest.raises(ModelNotFound, match=rf"^MLflow at {url} has no models:/remote@challenger: "):
        fetch("models:/remote@challenger", cache=cache, tracking_uri=url, timeout_seconds=PATIENCE_SECONDS)

    kill(process)
    stale = fetch(uri, cache=cache, tracking_uri=url, timeout_seconds=PATIENCE_SECONDS)
    assert (stale.folder, stale.origin, stale.fetched_at) == (first.folder, "last-known-good", first.fetched_at)
    assert load_model(stale.folder).bundle == bundle
    with pytest.raises(
        RegistryUnavailable, match=rf"^MLflow at {url} cannot be used: .*Connection refused.* no last"
    ) as one:
        fetch(uri, cache=tmp_path / "empty", tracking_uri=url, timeout_seconds=PATIENCE_SECONDS)
    assert "\n" not in str(one.value)


def test_a_server_that_takes_the_connection_and_never_answers_is_left_at_the_limit(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        taken: list[socket.socket] = []
        taker = threading.Thread(target=lambda: taken.append(listener.accept()[0]))
        taker.start()
        with pytest.raises(RegistryUnavailable, match=rf"^MLflow at {url} did not answer within 20 s, and there is no"):
            fetch("models:/remote/1", cache=tmp_path / "bundles", tracking_uri=url, timeout_seconds=20)
        taker.join(60)
        with taken[0] as connection:
            connection.settimeout(30)
            assert connection.recv(65_536).startswith(b"GET /api/2.0/mlflow/model-versions/get")


def test_a_server_that_is_no_mlflow_is_unavailable_and_not_a_registry_without_the_model(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    other = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )
    try:
        assert other.stdout is not None
        port = int(other.stdout.readline().split(b" port ")[1].split()[0])
        url = f"http://127.0.0.1:{port}"
        with pytest.raises(RegistryUnavailable, match=rf"^MLflow at {url} cannot be used: .*error code 404"):
            fetch("models:/remote/1", cache=tmp_path / "bundles", tracking_uri=url, timeout_seconds=PATIENCE_SECONDS)
    finally:
        other.kill()
        other.communicate(timeout=30)
