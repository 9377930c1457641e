"""What runs changes here: the commands that put an image live, as a list that is shown first."""

import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from release.plan import Live
from release.servers import ServerError, version, wait_until_ready
from release.tools import run

NAMESPACE = "frontrow"
ROLLOUT_SECONDS = 900
STOP_SECONDS = 45  # the grace of k8s/base/deployment.yaml

JUDGE_ARGUMENTS = "/spec/metrics/0/provider/job/spec/template/spec/containers/0/args"

Target = Literal["deployment", "rollout", "docker"]

# What a namespace with `enforce: restricted` and a read-only root leaves to a container.
STRICT = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")  # noqa: S108


class Step(NamedTuple):
    """A command, and what it is for."""

    why: str
    command: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.command)


def put_live(image: str, target: Target, *, port: int) -> list[Step]:
    """The steps that make `target` run an image and wait until it does. `port` is that of the `docker` target.

    The name of everything is `frontrow`. With Argo Rollouts the Deployment is only the template, so both targets of a
    cluster change the same object; going back within its window of revisions, Argo skips the canary.
    """
    if target == "docker":
        return [
            Step("get the image", ("docker", "pull", "--quiet", image)),
            *_end_container(NAMESPACE),
            Step("run the image", run_container(NAMESPACE, image, port=port)),
        ]
    kubectl = ("kubectl", "--namespace", NAMESPACE)
    change = Step("change the image", (*kubectl, "set", "image", "deployment/frontrow", f"frontrow={image}"))
    timeout = f"--timeout={ROLLOUT_SECONDS}s"
    if target == "deployment":
        return [change, Step("wait until it runs", (*kubectl, "rollout", "status", "deployment/frontrow", timeout))]
    status = ("kubectl", "argo", "rollouts", "--namespace", NAMESPACE, "status", "frontrow", timeout)
    return [change, Step("wait until it runs", status)]


def run_container(name: str, image: str, *, port: int) -> tuple[str, ...]:
    """The command that runs an image on the host's network, with what a strict cluster leaves to it."""
    settings = ("--env", f"FRONTROW_PORT={port}", "--env", "FRONTROW_LAME_DUCK_SECONDS=1")
    return ("docker", "run", "--detach", "--name", name, "--network", "host", *STRICT, *settings, image)


def apply_overlay(
    overlay: Path, images: Mapping[str, str], folder: Path, *, judge_options: Sequence[str]
) -> list[Step]:
    """The steps that apply an overlay; `folder` gets the kustomization with an image for each name."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {name: image.partition("@") for name, image in images.items()}
    more = [{"op": "add", "path": f"{JUDGE_ARGUMENTS}/-", "value": option} for option in judge_options]
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(overlay.resolve(), folder.resolve())],
        "images": [{"name": name, "newName": part[0], "digest": part[2]} for name, part in parts.items()],
        "patches": [{"target": {"kind": "AnalysisTemplate"}, "patch": json.dumps(more)}] if more else [],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(kustomization, indent=2) + "\n")  # JSON is YAML
    return [Step("apply the manifests", ("kubectl", "apply", "-k", os.fspath(folder)))]


def perform(steps: Sequence[Step], tell: Callable[[str], None]) -> None:
    """Run each step and tell it before. Raises `ToolError` at the first that fails; those after it are not run."""
    for step in steps:
        tell(str(step))
        run(*step.command, seconds=ROLLOUT_SECONDS + 60)


def check_what_answers(port: int, wanted: Live) -> None:
    """Wait until the service on this port of this machine is ready; `ServerError` unless it runs `wanted`."""
    wait_until_ready(port, NAMESPACE)
    said = version(port)
    models = {model["variant"]: f"{model['name']}/{model['version']}" for model in said["models"]}
    answers = Live(said["code_version"], models.get("control", "none"), models.get("treatment", "none"))
    if answers != wanted:
        raise ServerError(f"port {port} answers with {answers} and not with {wanted}")


def _end_container(name: str) -> list[Step]:
    if not run("docker", "ps", "--all", "--quiet", "--filter", f"name=^{name}$").strip():
        return []
    return [
        Step("let it drain and stop it", ("docker", "stop", "--time", str(STOP_SECONDS), name)),
        Step("remove it", ("docker", "rm", "--force", name)),
    ]
