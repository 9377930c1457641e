"""The image of one commit and two bundles: built, pushed, and what its labels say."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from release.commit import read_commit, unpack
from release.errors import ReleaseError, ToolError
from release.tools import run

BUILD_SECONDS = 1_800
PUSH_SECONDS = 900
VARIANTS = ("control", "treatment")

_LABELS = {
    "code": "org.opencontainers.image.revision",
    "control": "frontrow.model.control",
    "treatment": "frontrow.model.treatment",
}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ImageError(ReleaseError):
    """There is no such image, or it is none of ours."""


@dataclass(frozen=True)
class Image:
    """A pushed image. `control` and `treatment` are `name/version`; `repository` is host and name."""

    repository: str
    tag: str
    digest: str
    code: str
    control: str
    treatment: str

    @property
    def name(self) -> str:
        return f"{self.repository}@{self.digest}"


def build_image(revision: str, bundles: Path, *, name: str, folder: Path = Path()) -> str:
    """Build the image of a commit as git has it, whatever lies in the work tree, and return its local tag.

    `bundles` holds the folders `control` and `treatment`. The commit's own build script does it; its time is the
    commit's, so the same commit and bundles give the same content. Raises `CommitError`, `ImageError` and `ToolError`.
    """
    for variant in VARIANTS:
        if not (bundles / variant / "bundle.json").is_file():
            raise ImageError(f"{bundles / variant} is no bundle; `frontrow release bundle --out` writes one")
    commit = read_commit(revision, folder=folder)
    with tempfile.TemporaryDirectory(prefix="frontrow-image-") as temporary:
        context = Path(temporary)
        unpack(revision, context, folder=folder)
        shutil.copytree(bundles, context / "build" / "model")
        environment = os.environ | {"CODE_VERSION": commit.revision, "SOURCE_DATE_EPOCH": str(commit.seconds)}
        run(str(context / ".ci" / "base-image"), seconds=BUILD_SECONDS, environment=environment)
        script = str(context / ".ci" / "build-image")
        return run(script, name, "build/model", seconds=BUILD_SECONDS, environment=environment).strip()


def push_image(tag: str, repository: str) -> Image:
    """Push a local image to an OCI registry and return what it is called there. Raises `ToolError`, `ImageError`."""
    remote = f"{repository}:{tag.rpartition(':')[2]}"
    run("docker", "tag", tag, remote)
    run("docker", "push", "--quiet", remote, seconds=PUSH_SECONDS)
    return _describe(remote, repository)


def pull_image(name: str) -> Image:
    """Pull an image by tag or digest and return what it is. Raises `ToolError`, and `ImageError` without our labels."""
    run("docker", "pull", "--quiet", name, seconds=PUSH_SECONDS)
    return _describe(name, repository_of(name))


def is_in_registry(name: str) -> bool:
    """Whether the registry still has the image of that digest."""
    local = name.startswith(("localhost", "127.0.0.1"))
    try:
        run("docker", "manifest", "inspect", *(["--insecure"] if local else []), name)
    except ToolError:
        return False
    return True


def repository_of(name: str) -> str:
    """Host and name of `host:5000/name:tag` and `host:5000/name@sha256:...`."""
    plain = name.partition("@")[0]
    head, colon, tail = plain.rpartition(":")
    return head if colon and "/" not in tail else plain


def _describe(name: str, repository: str) -> Image:
    (facts,) = json.loads(run("docker", "image", "inspect", name))
    digests = [one.partition("@")[2] for one in facts["RepoDigests"] if one.startswith(f"{repository}@")]
    if not digests or not _DIGEST.fullmatch(digests[0]):
        raise ImageError(f"{name} has no digest in {repository}: push it first")
    labels: Mapping[str, str] = facts["Config"].get("Labels") or {}
    missing = sorted(set(_LABELS.values()) - labels.keys())
    if missing:
        raise ImageError(f"{name} has no label {', '.join(missing)}: it was not made by .ci/build-image")
    named = {field: labels[label] for field, label in _LABELS.items()}
    tag = f"{named['code']}-c{_version(named['control'])}-t{_version(named['treatment'])}"
    return Image(repository=repository, tag=tag, digest=digests[0], **named)


def _version(model: str) -> str:
    return model.rpartition("/")[2]
