"""What a push means, or a new model: whether to train, whether to release, which code and which models.

Arithmetic only: the message, the paths and what is live come in, a plan with its reasons goes out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from release.errors import ReleaseError
from release.flags import Flags, read_flags

# What a changed path asks for: a folder and all in it, or a file. What is named nowhere asks for nothing.
IMAGE = (
    "app/",
    "batching/",
    "features/",
    "registry/",
    "scoring/",
    "frontrow.py",
    "requirements/serving.txt",
    "Dockerfile",
    ".dockerignore",
)
MODEL = ("training/",)
DOCUMENTS = (".md", ".svg", ".png")

Canary = Literal["full", "short"]


class NothingLive(ReleaseError):
    """There is no release yet that this one could start from."""


@dataclass(frozen=True)
class Live:
    """What production runs: the code's revision and both models as `name/version`."""

    code: str
    control: str
    treatment: str


@dataclass(frozen=True)
class Plan:
    """What will be done, and why.

    `control` and `treatment` are model URIs; None where nothing is released. With `train`, `treatment` names an alias
    that training moves first.
    """

    train: bool
    release: bool
    canary: Canary
    code: str
    control: str | None
    treatment: str | None
    reasons: tuple[str, ...]


def plan_push(message: str, paths: Sequence[str], *, code: str, live: Live | None, name: str) -> Plan:
    """Plan for a push: its flags decide, and the paths that it touches where it has none.

    `code` is the pushed revision, `name` the registered model. Raises `FlagError`, and `NothingLive` for a hotfix of
    nothing.
    """
    flags = read_flags(message)
    if flags.hotfix and live is None:
        raise NothingLive("[hotfix] ships the live models, and nothing was released yet; [release] makes the first one")
    if flags:
        train, release, reasons = _by_flags(flags)
    else:
        train, release, reasons = _by_paths(paths)
    if not release:
        return Plan(train, False, "full", code, None, None, (*reasons, "nothing is released"))
    control, treatment, chosen = _models(flags.model, train, live, name)
    canary: Canary = "short" if flags.hotfix else "full"
    return Plan(train, True, canary, code, control, treatment, (*reasons, *chosen))


def plan_models(control: int | None, treatment: int | None, *, live: Live | None, name: str) -> Plan:
    """Plan for models that training registered or somebody promoted: the live code with these versions.

    None keeps the live version. Raises `NothingLive`, since there is no code to keep.
    """
    if live is None:
        raise NothingLive("a release of models keeps the live code, and nothing was released yet; plan a commit first")
    uris, reasons = [], [f"code {live.code} is live and stays"]
    for variant, version, now in (("control", control, live.control), ("treatment", treatment, live.treatment)):
        uris.append(f"models:/{now}" if version is None else f"models:/{name}/{version}")
        reasons.append(
            f"{variant} stays {now}" if version is None else f"{variant} becomes {name}/{version}; {now} is live"
        )
    return Plan(False, True, "full", live.code, uris[0], uris[1], tuple(reasons))


def _by_flags(flags: Flags) -> tuple[bool, bool, list[str]]:
    reasons = []
    if flags.train:
        reasons.append("[train]: a model is trained and registered")
    if flags.skip_release:
        reasons.append("[skip release]")
    elif flags.hotfix:
        reasons.append("[hotfix]: new code with the live models, no training, a short canary")
    elif flags.model is not None:
        reasons.append(f"[model={flags.model}]: released with this version as treatment")
    elif flags.release:
        reasons.append("[release]: this code is released")
    return flags.train, not flags.skip_release, reasons


def _by_paths(paths: Iterable[str]) -> tuple[bool, bool, list[str]]:
    listed = sorted(set(paths))
    model = [path for path in listed if _asks(path, MODEL)]
    image = [path for path in listed if _asks(path, IMAGE)]
    reasons = []
    if model:
        reasons.append(f"{_some(model)}: changes how models are trained, so one is trained")
    if image:
        reasons.append(f"{_some(image)}: goes into the image, so it is released")
    if any(path.startswith("features/") for path in image) and not model:
        reasons.append("features/ serves training, too: say [train] when the model must be trained again")
    if any(path.startswith("k8s/") for path in listed):
        reasons.append("k8s/ is not in the image: its manifests are applied with the image that is live")
    if not model and not image:
        reasons.append(f"{_some(listed)}: in neither the image nor the training" if listed else "no file is changed")
    return bool(model), bool(model or image), reasons


def _asks(path: str, places: Sequence[str]) -> bool:
    """Whether the path is one of the places or inside one; a page of documentation asks for nothing anywhere."""
    inside = any(path.startswith(place) if place.endswith("/") else path == place for place in places)
    return inside and not path.endswith(DOCUMENTS)


def _some(paths: Sequence[str]) -> str:
    return paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"


def _models(pinned: int | None, train: bool, live: Live | None, name: str) -> tuple[str, str, list[str]]:
    """Model URIs of control and treatment, and why. A new model always enters as treatment."""
    if live is None:
        control, reason = f"models:/{name}@champion", "nothing was released yet, so control is the champion"
        treatment = f"models:/{name}@challenger"
    else:
        control, reason = f"models:/{live.control}", f"control stays {live.control}"
        treatment = f"models:/{live.treatment}"
    if pinned is not None:
        return control, f"models:/{name}/{pinned}", [reason]
    if train:
        return control, f"models:/{name}@challenger", [reason, "treatment is the version that training registers"]
    if live is None:
        return control, treatment, [f"{reason} and treatment the challenger"]
    return control, treatment, [reason, f"treatment stays {live.treatment}"]
