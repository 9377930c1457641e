"""Which code runs."""

import subprocess
from pathlib import Path


def code_version(configured: str | None) -> str:
    """The code's revision: what the settings (in an image: the build) say, else git's, else `unknown`.

    A work tree with changes is named with `-dirty`, since that revision is not what runs.
    """
    if configured is not None:
        return configured
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, timeout=5, check=True).stdout.strip()  # noqa: S603 a fixed command
    except (OSError, subprocess.SubprocessError):
        return "unknown"
