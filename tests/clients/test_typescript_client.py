"""The TypeScript client: generated from a live service, type checked, and tried with Node against that service.

Its own tests are `clients/typescript/test/client.test.ts`. They need Node, npm and `make clients`; without them this is
skipped, and fails in CI.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from processes import HOUSE, Process

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("clients"), pytest.mark.timeout(240)]

SOURCE = HOUSE / "clients" / "typescript"
ADDRESS = '"http://127.0.0.1:8000"'
LEAST_NODE = 20
PATIENCE_SECONDS = 100  # of each step, for a busy machine


@pytest.fixture
def tools() -> None:
    missing = _missing()
    if missing is None:
        return
    if os.environ.get("CI") and os.environ.get("REAL_PARTS") == "1":
        pytest.fail(f"there is no {missing}, and CI has to have it")
    pytest.skip(f"there is no {missing}")


def _missing() -> str | None:
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            return tool
    version = subprocess.run(
        ["node", "--version"], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True
    )
    if int(version.stdout.lstrip("v").split(".")[0]) < LEAST_NODE:
        return f"Node {LEAST_NODE}, only {version.stdout.strip()}"
    installed = SOURCE / "node_modules" / ".package-lock.json"
    return None if installed.exists() else "clients/typescript/node_modules: `make clients` makes it"


@pytest.fixture
def package(tools: None, tmp_path: Path) -> Path:
    """A copy, so that nothing generated stays in the work tree."""
    folder = tmp_path / "typescript"
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("node_modules", "dist", "schema.ts"))
    (folder / "node_modules").symlink_to(SOURCE / "node_modules")
    return folder


def npm_run(script: str, folder: Path, url: str) -> None:
    done = subprocess.run(
        ["npm", "run", "--silent", script],
        cwd=folder,
        env={**os.environ, "SERVICE_URL": url, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_generated_from_a_live_service_compiles_and_ranks(package: Path, service: Process) -> None:
    (example,) = re.findall(r"```ts\n(.*?)```", (HOUSE / "docs" / "clients.md").read_text(), re.DOTALL)
    assert ADDRESS in example
    (package / "test" / "page.test.ts").write_text(example.replace(ADDRESS, f'"{service.url}"'))
    for script in ("generate", "check", "build", "test"):
        npm_run(script, package, service.url)


def test_the_lock_names_no_host_to_download_from() -> None:
    lock = (SOURCE / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert '"integrity": "sha512-' in lock
