"""Programs that run for as long as a canary is judged."""

import json
import os
import shutil
import sys
import urllib.request
from pathlib import Path

import pytest

from release import servers
from release.errors import ToolError
from release.servers import ServerError, free_port, started
from release.tools import ask, run

WAITS = "import signal; print('ready', flush=True); signal.pause()"


def test_a_program_ends_with_its_block(tmp_path: Path) -> None:
    with started((sys.executable, "-c", WAITS), tmp_path / "log") as server:
        server.check()

    with pytest.raises(ServerError):
        server.check()


def test_a_program_that_ended_before_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"(?s)ended with 4:.*there is no such port"):
        run_to_its_end("print('there is no such port', flush=True); raise SystemExit(4)", tmp_path / "log")


def run_to_its_end(program: str, log: Path) -> None:
    with started((sys.executable, "-c", program), log) as server:
        server.wait(60)


def test_a_service_that_does_not_get_ready_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "READY_SECONDS", 0.2)

    with pytest.raises(ServerError, match=r"the canary on port .* was not ready"):
        servers.wait_until_ready(free_port(), "the canary")


@pytest.mark.real("prometheus")
def test_prometheus_scrapes_each_arm_under_its_label(tmp_path: Path) -> None:
    if shutil.which("prometheus") is None:
        missing = "prometheus is not installed"
        if os.environ.get("REAL_PARTS") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    ports = {"baseline": free_port(), "canary": free_port()}
    with servers.prometheus(ports, scrape_seconds=0.1, log=tmp_path / "log") as url:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        targets = json.load(opener.open(f"{url}/api/v1/targets", timeout=10))["data"]["activeTargets"]

    seen = {target["labels"]["arm"]: target["labels"]["instance"] for target in targets}
    assert seen == {arm: f"127.0.0.1:{port}" for arm, port in ports.items()}


def test_a_program_that_answers_by_its_exit_code_is_asked_and_any_other_must_not_fail() -> None:
    script = "import sys; print('why', file=sys.stderr); sys.exit(2)"

    assert ask(sys.executable, "-c", script, seconds=60) == (2, "why")
    with pytest.raises(ToolError, match=r"ended with 2:\nwhy"):
        run(sys.executable, "-c", script)


def test_a_program_that_takes_too_long_is_ended() -> None:
    with pytest.raises(ToolError, match=r"was not done after 0\.2 s"):
        run(sys.executable, "-c", WAITS, seconds=0.2)
