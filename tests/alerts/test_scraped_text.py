"""What the service tells is what Prometheus takes."""

import re
import subprocess
from pathlib import Path

import pytest

from app.metrics import Metrics


@pytest.mark.real("prometheus")
def test_promtool_finds_nothing_wrong_with_the_metrics() -> None:
    metrics = Metrics(["control", "treatment"], interleaves=True)
    metrics.finished("control", "ok", 0.02)
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=metrics.exposition(), check=False, capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_page_of_monitoring_says_of_every_metric_what_the_scrape_says() -> None:
    text = Metrics(["control", "treatment"]).exposition().decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    told = re.findall(r"^# HELP (frontrow_\S+) (.*)$", text, re.MULTILINE)
    page = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()
    shown = [line for line in page.splitlines() if line.startswith("| `frontrow_")]
    assert shown == [f"| `{name}` | {kinds[name]} | {says} |" for name, says in told]
