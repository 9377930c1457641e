"""What a commit message asks of the release: `[train]`, `[release]`, `[hotfix]`, `[skip release]`, `[model=7]`.

Flags stand in the subject, or on a line of the body that holds nothing else, so a body may talk about flags. What the
subject quotes does not count: git's own `Revert "Rank by price [hotfix]"` is no hotfix.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from release.errors import FlagError

ALLOWED = "[train], [release], [hotfix], [skip release], [model=7]"
_SWITCHES = {"train": "train", "release": "release", "hotfix": "hotfix", "skip release": "skip_release"}
_TICKET = re.compile(r"[A-Z][A-Z0-9]*-\d+|#\d+")
_OF_THE_FORGE = frozenset({"skip ci", "ci skip", "no ci", "skip actions", "actions skip"})
_QUOTED = re.compile(r'"[^"]*"|`[^`]*`')
_BRACKETED = re.compile(r"(?<!\S)\[([^\[\]]*)\](?=[\s.,:;!]|\[|$)")
_ONLY_FLAGS = re.compile(r"\s*(\[[^\[\]]*\]\s*)+")


@dataclass(frozen=True)
class Flags:
    """`model` is the version that `[model=7]` names."""

    train: bool = False
    release: bool = False
    hotfix: bool = False
    skip_release: bool = False
    model: int | None = None

    def __bool__(self) -> bool:
        return self != Flags()


def read_flags(message: str) -> Flags:
    """The flags of a commit message. Raises `FlagError` for one that is unknown and for those that contradict."""
    found = [flag for flag in _brackets(message) if not _TICKET.fullmatch(flag) and flag.lower() not in _OF_THE_FORGE]
    switches: dict[str, bool] = {}
    models: set[int] = set()
    for flag in found:
        name, has_value, value = (part.strip() for part in flag.lower().partition("="))
        name = " ".join(name.split())
        if name == "model":
            models.add(_model_version(flag, value))
        elif name in _SWITCHES and not has_value:
            switches[_SWITCHES[name]] = True
        else:
            raise FlagError(f"[{flag}] is no flag; there are {ALLOWED}, and tickets such as [SHOP-12] are passed over")
    if len(models) > 1:
        named = " and ".join(f"[model={version}]" for version in sorted(models))
        raise FlagError(f"{named} contradict: a release takes one new model")
    flags = Flags(**switches, model=min(models, default=None))
    _check(flags)
    return flags


def _brackets(message: str) -> Iterator[str]:
    subject, *body = message.strip().splitlines() or [""]
    lines = [_QUOTED.sub(" ", subject), *filter(_ONLY_FLAGS.fullmatch, body)]
    for line in lines:
        # Neighbours that touch, as in [train][release], are two flags.
        yield from (flag.strip() for flag in _BRACKETED.findall(line.replace("][", "] [")))


def _model_version(flag: str, value: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,8}", value, re.ASCII):
        raise FlagError(f"[{flag}] names no model version; write the number that the registry gave it: [model=7]")
    return int(value)


def _check(flags: Flags) -> None:
    version = f"[model={flags.model}]"
    contradictions = (
        (
            flags.hotfix and flags.train,
            "[hotfix] and [train]",
            "a hotfix ships the live models and waits for no training",
        ),
        (
            flags.hotfix and flags.model is not None,
            f"[hotfix] and {version}",
            f"a hotfix ships the live models; {version} alone does it with the full canary, a rollback at once",
        ),
        (flags.train and flags.model is not None, f"[train] and {version}", "training makes a version of its own"),
        (flags.skip_release and flags.release, "[skip release] and [release]", "take one"),
        (flags.skip_release and flags.hotfix, "[skip release] and [hotfix]", "a hotfix is a release"),
        (
            flags.skip_release and flags.model is not None,
            f"[skip release] and {version}",
            "a model version is named for a release",
        ),
    )
    for holds, which, why in contradictions:
        if holds:
            raise FlagError(f"{which} contradict: {why}")
