"""The one door."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from frontrow import COMMANDS, main


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_does(command: str) -> None:
    shown = CliRunner().invoke(main, [command, "--help"])
    assert shown.exit_code == 0, shown.output
    assert "Usage:" in shown.output


def test_a_command_that_does_not_exist_is_named() -> None:
    shown = CliRunner().invoke(main, ["rnak"])
    assert shown.exit_code == 2
    assert "rnak" in shown.output


def test_help_loads_neither_mlflow_nor_lightgbm() -> None:
    code = "import sys, frontrow; frontrow.main(['--help'], standalone_mode=False); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"mlflow", "lightgbm", "pandas", "fastapi"} & set(loaded)
