"""The ways to say which model: a registered one, one of a run, or a bundle folder."""

import re
from dataclasses import dataclass
from pathlib import Path

from registry.errors import ModelURIError

ALLOWED = "models:/name@alias, models:/name/3, models:/name/latest, runs:/run-id/path or a bundle folder"

# Names become folders of the cache, so they are kept to what is one harmless path segment everywhere.
_NAME = r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,127}"
_REGISTERED = re.compile(
    rf"models:/(?P<name>{_NAME})(?:@(?P<alias>[\w-]{{1,128}})|/(?P<version>[1-9][0-9]{{0,8}}|latest))"
)
_OF_RUN = re.compile(rf"runs:/(?P<run>[A-Za-z0-9][\w-]{{0,127}})/(?P<path>{_NAME}(?:/{_NAME}){{0,7}})")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


@dataclass(frozen=True)
class RegisteredModel:
    """A version of a registered model: `version` is a number or `latest`, or None where an alias says which."""

    name: str
    version: str | None
    alias: str | None


@dataclass(frozen=True)
class RunModel:
    """A model artifact of a run."""

    run_id: str
    path: str

    @property
    def name(self) -> str:
        return self.path.replace("/", ".")


def parse_uri(uri: str) -> RegisteredModel | RunModel | Path:
    """What `uri` names; a `Path` is a bundle folder. Raises `ModelURIError`, which says what is allowed."""
    if match := _REGISTERED.fullmatch(uri):
        return RegisteredModel(match["name"], match["version"], match["alias"])
    if match := _OF_RUN.fullmatch(uri):
        return RunModel(match["run"], match["path"])
    if not uri.strip() or _SCHEME.match(uri):
        raise ModelURIError(f"{uri[:200]!r} names no model; allowed is {ALLOWED}")
    return Path(uri)
