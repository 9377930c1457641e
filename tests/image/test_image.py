"""The image as a cluster runs it: no network, no capabilities, a read-only root, a user without a name."""

import asyncio
import json
import shutil
import socket
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from image_containers import CODE_VERSION, Container, Image, docker, inspect, running
from image_models import IDS

pytestmark = [pytest.mark.real("docker"), pytest.mark.timeout(600), pytest.mark.xdist_group("docker")]

MAX_IMAGE_BYTES = 600_000_000
REQUEST = {"context": {"days_to_trip": 12}, "candidates": [*IDS[:20], {"id": "new", "features": {"price": 12.5}}]}


def test_it_ranks_with_no_network_no_capability_and_a_read_only_root(container: Container) -> None:
    answer = container.ask("/v1/rank", REQUEST)

    assert answer.status == 200, answer
    assert {entry["id"] for entry in answer.body["ranking"]} == {*IDS[:20], "new"}
    assert answer.body["unknown_candidates"] == []
    assert len({entry["score"] for entry in answer.body["ranking"]}) > 1
    assert container.ask("/healthz").status == container.ask("/readyz").status == 200


def test_it_runs_as_a_user_that_owns_nothing_and_can_write_nothing(container: Container) -> None:
    assert (
        container.python("import os; print(os.getuid(), os.getgid(), os.getgroups())").strip() == "65532 65532 [65532]"
    )
    assert "CapEff:\t0000000000000000" in container.run("cat", "/proc/1/status").stdout
    for place in ("/x", "/frontrow/x", "/models/control/x", "/venv/x"):
        assert container.run("touch", place, check=False).returncode != 0, place
    assert container.run("find", "/frontrow", "/models", "/venv", "-writable", "-not", "-type", "l").stdout == ""


def test_it_is_not_writable_for_its_user_even_with_a_writable_root(image: Image) -> None:
    refused = docker("run", "--rm", "--network", "none", "--entrypoint", "touch", image.tag, "/x", check=False)

    assert refused.returncode != 0
    assert "Permission denied" in refused.stderr


def test_the_answer_the_version_and_the_labels_name_the_same_code_and_models(
    container: Container, image: Image
) -> None:
    version = container.ask("/version").body
    headers = container.ask("/v1/rank", REQUEST).headers
    bundles = [json.loads((image.bundles / name / "bundle.json").read_text()) for name in ("control", "treatment")]
    labels = image.labels

    assert version["code_version"] == labels["org.opencontainers.image.revision"] == CODE_VERSION
    assert version["build_time"] == labels["org.opencontainers.image.created"] == "2026-01-01T00:00:00Z"
    assert [(model["name"], model["version"]) for model in version["models"]] == [
        (bundle["name"], bundle["version"]) for bundle in bundles
    ]
    assert [model["sha256"] for model in version["models"]] == [bundle["files"]["model.lgb"] for bundle in bundles]
    assert labels["frontrow.model.control"] == headers["x-model-version"] == "activity-ranker/7"
    assert labels["frontrow.model.treatment"] == "activity-ranker/8"
    assert headers["x-code-version"] == CODE_VERSION
    assert image.tag.endswith(f":{CODE_VERSION}-c7-t8")


def test_docker_finds_it_healthy(container: Container) -> None:
    give_up_at = time.monotonic() + 60
    while (health := inspect(container.id)["State"]["Health"])[
        "Status"
    ] == "starting" and time.monotonic() < give_up_at:
        time.sleep(0.1)

    assert health["Status"] == "healthy", health


def test_it_carries_nothing_that_installs_compiles_or_trains(container: Container) -> None:
    find = "import importlib.util as u, sys; print([m for m in sys.argv[1:] if u.find_spec(m)])"
    which = "import shutil, sys; print([c for c in sys.argv[1:] if shutil.which(c)])"

    modules = ("pip", "setuptools", "ensurepip", "mlflow", "pandas", "sqlalchemy", "pytest", "training", "benchmarks")
    assert container.python(find, *modules).strip() == "[]"
    commands = ("pip", "pip3", "uv", "gcc", "cc", "g++", "clang", "ld", "make", "git", "curl", "wget")
    assert container.python(which, *commands).strip() == "[]"


def test_the_compiled_engine_scores_with_what_is_left_of_the_libraries(container: Container) -> None:
    assert [model["engine"] for model in container.ask("/version").body["models"]] == ["compiled", "compiled"]


def test_a_damaged_bundle_ends_the_start_with_exit_code_3_and_the_name_of_the_file(
    image: Image, tmp_path: Path
) -> None:
    damaged = shutil.copytree(image.bundles / "treatment", tmp_path / "treatment")
    (damaged / "model.lgb").write_bytes(
        (damaged / "model.lgb").read_bytes().replace(b"leaf_value=", b"leaf_value=1", 1)
    )
    tmp_path.chmod(0o755)

    with running(image.tag, "--volume", f"{damaged}:/models/treatment:ro") as container:
        assert container.exit_code() == 3
        assert "/models/treatment/model.lgb: sha256" in container.output()


async def test_stopping_under_load_answers_every_request_and_ends_with_exit_code_0(image: Image) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    patient = ("--env", "FRONTROW_LAME_DUCK_SECONDS=8", "--env", "FRONTROW_REQUEST_TIMEOUT_MS=10000")

    with running(image.tag, *patient, network="host", port=port) as container:
        container.ask("/readyz", until=200)
        balancer = Balancer(f"http://127.0.0.1:{port}")
        async with asyncio.timeout(90), asyncio.TaskGroup() as tasks:
            for _ in range(8):
                tasks.create_task(balancer.send_requests())
            await balancer.take_answers(100)
            tasks.create_task(asyncio.to_thread(docker, "stop", "--time", "45", container.id))
            await balancer.wait_until_it_is_not_ready()
            await balancer.take_answers(100)
            balancer.leave.set()

        assert Counter(balancer.statuses) == {200: len(balancer.statuses)}
        assert inspect(container.id)["State"]["ExitCode"] == 0


class Balancer:
    """Sends requests over kept-alive connections until told to leave. A request without an answer raises."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._answers: asyncio.Queue[int] = asyncio.Queue()
        self.statuses: list[int] = []
        self.leave = asyncio.Event()

    async def send_requests(self) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=30, trust_env=False) as client:
            while not self.leave.is_set():
                status = (await client.post("/v1/rank", json=REQUEST)).status_code
                self.statuses.append(status)
                self._answers.put_nowait(status)

    async def take_answers(self, count: int) -> None:
        """Wait for so many answers more than those that are there already."""
        while not self._answers.empty():
            self._answers.get_nowait()
        for _ in range(count):
            await self._answers.get()

    async def wait_until_it_is_not_ready(self) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=30, trust_env=False) as client:
            while (await client.get("/readyz")).status_code == 200:
                pass


def test_it_is_no_larger_than_600_megabytes(image: Image, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\nimage: {image.bytes / 1e6:.0f} MB unpacked, base image included")

    assert image.bytes <= MAX_IMAGE_BYTES
