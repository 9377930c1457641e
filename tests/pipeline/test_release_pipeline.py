"""The whole way, with real parts: git, MLflow, Docker, an OCI registry, Prometheus, load, the judge, and back.

`make release-test` starts a Docker Engine and an OCI registry and runs this. The tests build on each other.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from git_houses import GitHouse

HOUSE = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.real("docker"),
    pytest.mark.slow,
    pytest.mark.timeout(1_200),
    pytest.mark.xdist_group("docker"),
]

# Two minutes in place of ten, at fifty requests a second to each arm: as many as the judge needs to exclude what it
# has to. A machine that runs everything at once is promised half a second in place of a tenth.
SHORT = (
    *("--rate", "50", "--scrape-seconds", "1"),
    *("--judge", "--period-minutes 2 --slo-ms 500"),
)


class Run(NamedTuple):
    exit_code: int
    output: str


class Platform(NamedTuple):
    """A repository with this work tree as its first commit, and where it releases to."""

    house: GitHouse
    repository: str
    port: int

    def frontrow(self, *words: str, timeout: float = 900) -> Run:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("FRONTROW_", "MLFLOW_"))
        }
        done = subprocess.run(
            [sys.executable, "-m", "frontrow", *words],
            cwd=self.house.folder,
            env=environment,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        print(f"$ frontrow {' '.join(words)}\n{done.stdout}")
        return Run(done.returncode, done.stdout)

    def release(self, *words: str) -> Run:
        return self.frontrow(
            "release", "run", "--repository", self.repository, "--port", str(self.port), *SHORT, *words
        )

    def history(self) -> list[dict[str, Any]]:
        """The record, the newest first."""
        return list(json.loads(self.frontrow("release", "history", "--json").output))

    def version(self) -> dict[str, Any]:
        return dict(httpx.get(f"http://127.0.0.1:{self.port}/version", trust_env=False, timeout=10).json())

    def faulty_image(self, fault: str) -> str:
        """The live image with other code, pushed; its name by digest."""
        live = next(release for release in self.history() if release["event"] != "refused")
        folder = self.house.folder / "build" / "faulty"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(HOUSE / "tests" / "pipeline" / "faulty_code.py", folder)
        code = f"faulty-{fault.lower()}"
        (folder / "Dockerfile").write_text(
            f"FROM {live['repository']}@{live['digest']}\n"
            "COPY faulty_code.py /frontrow/\n"
            f"ENV FRONTROW_PROCESSING=faulty_code:{fault} FRONTROW_CODE_VERSION={code}\n"
            f"LABEL org.opencontainers.image.revision={code}\n"
        )
        tag = f"{self.repository}:{code}"
        docker("build", "--quiet", "--network", "host", "--tag", tag, str(folder))
        docker("push", "--quiet", tag)
        (digest,) = json.loads(docker("image", "inspect", "--format", "{{json .RepoDigests}}", tag))
        return str(digest)


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def containers() -> set[str]:
    return set(docker("ps", "--all", "--format", "{{.Names}}").split())


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    for name, there in (
        (
            "docker",
            shutil.which("docker")
            and subprocess.run(["docker", "version"], check=False, capture_output=True).returncode == 0,
        ),
        ("an OCI registry", os.environ.get("OCI_REGISTRY")),
        ("prometheus", shutil.which("prometheus")),
    ):
        if not there:
            missing = f"{name} is not there; `make release-test` starts what is needed"
            if os.environ.get("REAL_PARTS") == "1":
                pytest.fail(missing)
            pytest.skip(missing)
    house = GitHouse(tmp_path_factory.mktemp("house"))
    copy_work_tree(house.folder)
    house.commit("The work tree")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    yield Platform(house, f"{os.environ['OCI_REGISTRY']}/frontrow", port)
    docker("rm", "--force", *(containers() & {"frontrow", "frontrow-baseline", "frontrow-canary"}))


def copy_work_tree(into: Path) -> None:
    """What git would take: tracked files and new ones, as they are now."""
    listed = subprocess.run(
        ["git", "-C", str(HOUSE), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (HOUSE / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(HOUSE / name, into / name)


def test_the_first_commit_is_trained_built_and_put_live(platform: Platform) -> None:
    revision = platform.house.git("rev-parse", "--short=12", "HEAD")

    done = platform.release("--message", "[train] [release]")

    assert done.exit_code == 0, done.output
    assert platform.version()["code_version"] == revision
    (release,) = platform.history()
    assert (release["event"], release["verdict"], release["code"]) == ("released", "none", revision)
    assert re.findall(r"^-- (.*)", done.output, re.MULTILINE) == [
        *("plan", "train and register", "bundle", "image", "push", "promote"),
    ]


def test_new_code_wins_against_a_fresh_baseline_and_is_promoted(platform: Platform) -> None:
    before = platform.version()
    (platform.house.folder / "app" / "__init__.py").write_text('"""New code that changes nothing."""\n')
    revision = platform.house.commit("New code")

    done = platform.release()

    assert done.exit_code == 0, done.output
    after = platform.version()
    assert after["code_version"] == revision != before["code_version"]
    assert [model["version"] for model in after["models"]] == [model["version"] for model in before["models"]]
    newest = platform.history()[0]
    assert (newest["event"], newest["verdict"], newest["code"]) == ("released", "PASS", revision)
    assert containers() & {"frontrow", "frontrow-baseline", "frontrow-canary"} == {"frontrow"}


@pytest.mark.parametrize(
    ("fault", "because"),
    [
        ("Slow", "p99|slow"),
        ("Broken", "G1 error: "),
        ("NotANumber", "G[01] unusable: "),
        ("Silent", "G0 canary: .*missed more than 3 scrapes"),
    ],
)
def test_a_faulty_canary_is_destroyed_for_its_own_reason(platform: Platform, fault: str, because: str) -> None:
    before = platform.version()

    done = platform.release("--image", platform.faulty_image(fault))

    assert done.exit_code == 1, done.output
    assert re.search(because, done.output), done.output
    newest = platform.history()[0]
    assert (newest["event"], newest["verdict"], newest["code"]) == ("refused", "FAIL", f"faulty-{fault.lower()}")
    assert re.search(because, newest["reason"])
    assert platform.version() == before
    assert containers() & {"frontrow", "frontrow-baseline", "frontrow-canary"} == {"frontrow"}


def test_a_rollback_brings_the_earlier_image_back_with_its_code_and_models(platform: Platform) -> None:
    released = [release for release in platform.history() if release["event"] == "released"]
    began = time.monotonic()

    done = platform.frontrow("release", "rollback", "--target", "docker", "--port", str(platform.port), "--yes")

    print(f"rollback: {time.monotonic() - began:.1f} s")
    assert done.exit_code == 0, done.output
    version = platform.version()
    assert version["code_version"] == released[1]["code"] != released[0]["code"]
    models = {model["variant"]: f"{model['name']}/{model['version']}" for model in version["models"]}
    assert models == {"control": released[1]["control"], "treatment": released[1]["treatment"]}
    newest = platform.history()[0]
    assert (newest["event"], newest["digest"]) == ("rolled-back", released[1]["digest"])


def test_a_hotfix_ships_new_code_with_the_live_models_and_trains_nothing(platform: Platform) -> None:
    before = platform.version()
    (platform.house.folder / "app" / "__init__.py").write_text('"""Code that is fixed."""\n')
    revision = platform.house.commit(
        "[hotfix] Fix it", training__train_py="# broken on purpose: a hotfix does not train"
    )

    done = platform.release()

    assert done.exit_code == 0, done.output
    after = platform.version()
    assert after["code_version"] == revision
    assert [one["sha256"] for one in after["models"]] == [one["sha256"] for one in before["models"]]
    assert len(after["models"]) == 2
    assert "train and register" not in done.output
