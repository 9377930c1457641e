"""`python -m benchmarks.rolling_restarts` from the outside, with real processes."""

import re
from pathlib import Path

import pytest
from app_models import write_models
from click.testing import CliRunner, Result

from benchmarks.rolling_restarts import main


@pytest.fixture(autouse=True)
def _light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that start fast, and do not measure what scoring costs on a busy machine."""
    for name, value in {"ENGINE": "reference", "PINNED_BATCH_US": "100", "PINNED_ROW_US": "1"}.items():
        monkeypatch.setenv(f"FRONTROW_{name}", value)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    write_models(folder)
    return folder / "control"


def run(bundle: Path, *options: str) -> Result:
    common = ("--rate", "20", "--callers", "4", "--candidates", "3", "--timeout-ms", "20000")
    return CliRunner().invoke(main, [str(bundle), *common, *options])


def row(result: Result) -> dict[str, str]:
    heading, _, cells = (line.strip("| ").split(" | ") for line in result.stdout.splitlines()[:3])
    return dict(zip(heading, cells, strict=True))


@pytest.mark.slow
def test_callers_do_not_notice_that_two_processes_are_replaced_in_turn(bundle: Path) -> None:
    result = run(bundle, "--terminations", "2")
    assert result.exit_code == 0, result.output
    counted = row(result)
    assert counted["SIGTERMs"] == "2"
    assert int(counted["200"]) + int(counted["503"]) == int(counted["requests"]) > 0
    assert int(counted["200"]) > 0
    assert counted["connections refused"] == "0"


@pytest.mark.slow
def test_processes_that_end_before_the_balancer_knows_are_noticed(bundle: Path) -> None:
    result = run(bundle, "--terminations", "1", "--lame-duck-seconds", "0")
    assert result.exit_code == 1, result.output
    assert int(row(result)["failed"]) > 0
    assert re.search(r"^- \d+ x broken connection, seconds after the SIGTERM before: \d", result.stdout, re.MULTILINE)


@pytest.mark.slow
def test_a_process_that_does_not_start_is_one_line_and_its_last_words(bundle: Path, tmp_path: Path) -> None:
    result = run(tmp_path, "--terminations", "1")
    assert result.exit_code == 1
    assert "Error: exit code 3 before it was ready" in result.stderr
