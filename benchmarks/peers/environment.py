"""A peer's environment: a venv of exactly what its locked requirements say."""

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks.peers.errors import NotInstalled
from benchmarks.peers.peer import OWN_PYTHON, Peer

INSTALLED = "installed.sha256"
INSTALL_SECONDS = 1_200


def python_of(peer: Peer, folder: Path) -> Path:
    """Return the Python that runs `peer`; its environment is made in `folder` unless it is there and up to date.

    Raises NotInstalled with what pip said last.
    """
    if peer.requirements is None:
        return OWN_PYTHON
    digest = hashlib.sha256(peer.requirements.read_bytes()).hexdigest()
    python, stamp = folder / "bin" / "python", folder / INSTALLED
    if not (stamp.is_file() and stamp.read_text() == digest):
        venv.create(folder, clear=True, with_pip=True)
        _install(python, peer.requirements)
        stamp.write_text(digest)
    return python


def _install(python: Path, requirements: Path) -> None:
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    try:
        done = subprocess.run(
            [*pip, "-r", str(requirements)], capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise NotInstalled(f"pip took more than {INSTALL_SECONDS} s") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["nothing"]
        raise NotInstalled(f"pip exits with {done.returncode} on Python {sys.version.split()[0]}: {said[-1]}")
