"""Models that change in a real `frontrow serve`: SIGHUP, and workers."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from changing_models import BODY, lead, version
from processes import HOUSE, START_SECONDS, Process, serving

CONTROL = {"X-Variant": "control", "Connection": "close"}  # a connection each, so that every worker gets some


@pytest.fixture
def link(bundles: Path, tmp_path: Path) -> Path:
    link = tmp_path / "control"
    lead(link, bundles / "control")
    return link


@pytest.fixture(scope="session")
def third(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return version(bundles / "treatment", tmp_path_factory.mktemp("third") / "bundle", "3")


def wait_for(condition: Callable[[], bool], what: str) -> None:
    give_up_at = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at, what
        time.sleep(0.02)


def versions(process: Process, answers: int = 20) -> set[str]:
    found = set()
    for _ in range(answers):
        answer = httpx.post(f"{process.url}/v1/rank", json=BODY, headers=CONTROL)
        assert answer.status_code == 200, answer.text
        found.add(answer.json()["model"]["version"])
    return found


def value(process: Process, series: str) -> float:
    text = httpx.get(f"{process.url}/metrics", headers={"Connection": "close"}).text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(series))


def workers(process: Process) -> set[int]:
    """Those that rank, by what they have mapped; of a process that serves alone, itself."""
    tree = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    found = {int(pid) for pid in tree if "llvmlite" in Path(f"/proc/{pid}/maps").read_text()}
    return found or {process.pid}


@pytest.mark.skipif(not Path("/proc").exists(), reason="workers are found in /proc")
@pytest.mark.parametrize("count", [1, 2])
def test_sighup_brings_the_new_version_to_every_worker_and_restarts_none(
    bundles: Path, link: Path, third: Path, count: int
) -> None:
    with serving(bundles, "--workers", str(count), control_model=link) as process:
        before = workers(process)
        assert len(before) == count
        for swaps, (folder, name) in enumerate(((third, "3"), (bundles / "control", "1")), 1):
            lead(link, folder)
            os.kill(process.pid, signal.SIGHUP)
            wait_for(lambda n=swaps: _swaps(process) == n * count, "not every worker has the new model")
            assert versions(process) == {name}
        assert workers(process) == before
        info = httpx.get(f"{process.url}/metrics").text
        assert info.count("frontrow_model_info{engine") == 2
        process.terminate()
        assert process.wait() == 0, process.output


def _swaps(process: Process) -> float:
    return sum(
        value(process, f'frontrow_model_swaps_total{{result="{result}",variant="control"}}')
        for result in ("swapped", "returned")
    )


@pytest.mark.skipif(not Path("/proc").exists(), reason="workers are found in /proc")
def test_a_worker_that_takes_the_place_of_a_killed_one_serves_what_the_others_do(
    bundles: Path, link: Path, third: Path
) -> None:
    """Also when nobody told it, when the bundle it began with is gone, and requests are those of the start."""
    with serving(bundles, "--workers", "2", control_model=link, treatment_model="") as process:
        lead(link, third)
        os.kill(process.pid, signal.SIGHUP)
        wait_for(lambda: _swaps(process) == 2, "not every worker has the new model")
        lead(link, bundles / "nowhere")
        os.kill(before := min(workers(process)), signal.SIGKILL)
        wait_for(lambda: before not in workers(process) and len(workers(process)) == 2, "nobody took its place")
        wait_for(lambda: value(process, "frontrow_ready") == 1, "its successor is not ready")
        assert versions(process, 40) == {"3"}
        carrying = BODY | {"candidates": [{"id": "A1", "features": {"free_cancellation": True}}]}
        for _ in range(20):
            assert httpx.post(f"{process.url}/v1/rank", json=carrying, headers=CONTROL).status_code == 200


@pytest.mark.parametrize("count", ["1", "2"])
def test_sighup_at_the_start_is_heard_once_there_is_something_to_look_at(
    bundles: Path, link: Path, third: Path, tmp_path: Path, count: str
) -> None:
    environment = {
        "FRONTROW_CONTROL_MODEL": str(link),
        "FRONTROW_TREATMENT_MODEL": "",
        "FRONTROW_WORKERS": count,
        "FRONTROW_LAME_DUCK_SECONDS": "0",
    }
    process = Process(["--port", "0"], environment, bundles)
    try:
        wait_for(lambda: _holds_sighup(process.pid), "it does not hold SIGHUP")
        os.kill(process.pid, signal.SIGHUP)
        process.wait_until_ready()
        lead(link, third)
        os.kill(process.pid, signal.SIGHUP)
        wait_for(lambda: _swaps(process) == int(count), "not every worker has the new model")
    finally:
        process.kill()


def _holds_sighup(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    blocked = next(line for line in status.splitlines() if line.startswith("SigBlk"))
    return bool(int(blocked.split()[1], 16) & 1 << (signal.SIGHUP - 1))


def test_it_ends_with_the_terminal_that_it_was_started_in(bundles: Path) -> None:
    ours, its = pty.openpty()
    environment = {
        "FRONTROW_CONTROL_MODEL": str(bundles / "control"),
        "FRONTROW_TREATMENT_MODEL": "",
        "FRONTROW_LAME_DUCK_SECONDS": "0",
        "PYTHONPATH": str(HOUSE),
    }
    serve = [sys.executable, "-m", "frontrow", "serve", "--port", "0"]
    in_terminal = f"import os; os.login_tty({its}); os.execv({sys.executable!r}, {serve})"
    process = subprocess.Popen([sys.executable, "-c", in_terminal], env=os.environ | environment, pass_fds=[its])
    try:
        os.close(its)
        said = b""
        while b"Stop with Ctrl-C" not in said:
            said += os.read(ours, 65_536)
        os.close(ours)
        assert process.wait(START_SECONDS) == -signal.SIGHUP
    finally:
        process.kill()
        process.wait()
