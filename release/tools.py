"""Other people's programs: git, docker, kubectl."""

import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from release.errors import ToolError

LAST_LINES = 12


def find(program: str) -> str:
    """Where a program is. Raises `ToolError` when it is not installed."""
    found = shutil.which(program)
    if found is None:
        raise ToolError(f"{program} is not installed, and the release needs it")
    return found


def run(program: str, *arguments: str, seconds: float = 60, environment: Mapping[str, str] | None = None) -> str:
    """What a program prints. Raises `ToolError` when it is missing, fails or takes longer than `seconds`."""
    code, output = _finished(program, arguments, seconds, environment)
    if code != 0:
        raise ToolError(f"{shlex.join([program, *arguments])} ended with {code}:\n{output.last}")
    return output.stdout


def ask(program: str, *arguments: str, seconds: float) -> tuple[int, str]:
    """The exit code of a program that answers by it, and its last words. Raises `ToolError` like `run`."""
    code, output = _finished(program, arguments, seconds, None)
    return code, output.last


class _Output(NamedTuple):
    stdout: str
    last: str


def _finished(
    program: str, arguments: Sequence[str], seconds: float, environment: Mapping[str, str] | None
) -> tuple[int, _Output]:
    try:
        done = subprocess.run(  # noqa: S603 no shell; who may call this may call the program
            [find(program), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"{shlex.join([program, *arguments])} was not done after {seconds:g} s") from error
    last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-LAST_LINES:]
    return done.returncode, _Output(done.stdout, "\n".join(last))
