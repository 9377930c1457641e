"""Which code runs."""

import shutil
import subprocess
from pathlib import Path


def code_revision(configured: str | None) -> str:
    """The code's revision: what the settings (in an image: the build) say, else git's, else `unknown`.

    A work tree with changes is named with `-dirty`, since that revision is not what runs.
    """
    git = shutil.which("git")
    if configured or git is None:
        return configured or "unknown"
    asked = [git, "--no-optional-locks", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    house = Path(__file__).parent
    answer = subprocess.run(asked, cwd=house, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603 fixed
    return answer.stdout.strip() if answer.returncode == 0 else "unknown"
