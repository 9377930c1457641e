"""What docs/clients.md shows, works as it stands there; only the address and the patience are the test's."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from frontrow_client import Policy, RetryBudget
from processes import HOUSE, Process

PAGE = HOUSE / "docs" / "clients.md"
ADDRESS = '"http://127.0.0.1:8000"'


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.slow
@pytest.mark.xdist_group("clients")
@pytest.mark.parametrize(("number", "ids"), [(0, {"A1", "mine"}), (1, {"A1", "A2"})])
def test_the_python_examples_run(number: int, ids: set[str], service: Process, tmp_path: Path) -> None:
    example = blocks("python")[number].replace(", timeout_seconds=0.3", "")
    assert ADDRESS in example
    script = tmp_path / "example.py"
    script.write_text(example.replace(ADDRESS, f'"{service.url}", timeout_seconds=30'))
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(HOUSE / "clients" / "python")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(re.findall(r"'(\w+)'", done.stdout.splitlines()[0])) >= ids


def test_the_page_says_what_the_policy_is() -> None:
    text, policy = PAGE.read_text(), Policy()
    assert (policy.retries, policy.backoff.base_seconds) == (1, 0.02)
    assert "| retried, once |" in text
    assert "up to 20 ms come on top" in text
    assert (RetryBudget().share, RetryBudget().spare) == (0.1, 10)
    assert "a tenth of their number, and ten more at most" in text
