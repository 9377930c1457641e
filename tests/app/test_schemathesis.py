"""The live service keeps what its OpenAPI document promises, over thousands of generated requests."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import serving

CONFIG = Path(__file__).with_name("schemathesis.toml")
CASES = 3_000
RUN_SECONDS = 540  # a bound for a busy machine


def run_schemathesis(url: str, folder: Path) -> tuple[dict[str, Any], str]:
    """The report and the output of all checks in all phases that apply."""
    arguments = ["run", f"{url}/openapi.json", "--no-color", "--report", "json", "--report-json-path", "report.json"]
    run = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "--config-file", CONFIG, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(CONFIG.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=RUN_SECONDS,
    )
    report = folder / "report.json"
    assert report.exists(), run.stdout
    return json.loads(report.read_bytes()), run.stdout


@pytest.mark.slow
@pytest.mark.timeout(RUN_SECONDS + 60)
def test_thousands_of_generated_requests_find_the_service_as_documented(bundles: Path, tmp_path: Path) -> None:
    with serving(bundles, log_level="error") as service:
        report, output = run_schemathesis(service.url, tmp_path)
    cases = report["test_cases"]
    assert (report["exit_code"], report["stop_reason"]) == (0, "completed"), output
    assert report["operations"]["tested"] == report["operations"]["total"] == 22
    assert cases["generated"] >= CASES
    assert cases["with_failures"] == cases["errored"] == cases["without_checks"] == report["filtered"] == 0, output
    assert {name: phase["status"] for name, phase in report["phases"].items()} == {
        "examples": "success",
        "coverage": "success",
        "fuzzing": "success",
        "stateful": "skip",  # no operation makes what another one takes
    }
