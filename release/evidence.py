"""What was seen of both arms, scrape by scrape: all that a verdict rests on, in one file that gives it again."""

import hashlib
import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from release.errors import ReleaseError
from release.rules import Rules

FORMAT: Final = 1
OUTCOMES: Final = ("ok", "shed", "expired", "cancelled", "invalid", "error")
COUNTS: Final = ("offered", *OUTCOMES, "unusable")


class EvidenceError(ReleaseError):
    """A file holds no evidence that this judge can read. The message names the place."""


class Scrape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One scrape of one target. What it did not bring, or brought as NaN, is None or not there.

    at: seconds since the epoch, by the clock of Prometheus.
    started_at: when the process started, seconds since the epoch.
    code_version: of the code that runs.
    models, golden: variant -> sha256 of the model's text, and of the golden scores that it gave when it was loaded.
    counts: name in `COUNTS` -> events since the process started, of all variants.
    durations: bucket's edge in seconds, as text ("+Inf" for the last) -> rankings that took no longer, of all variants.
    """

    at: float
    up: bool = True
    started_at: float | None = None
    ready: float | None = None
    code_version: str | None = None
    models: dict[str, str] = {}
    golden: dict[str, str] = {}
    counts: dict[str, float | None] = {}
    durations: dict[str, float | None] = {}


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One process, and its scrapes in order of time."""

    name: str
    scrapes: tuple[Scrape, ...]


class Evidence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Both arms from `start` to `end`, in seconds since the epoch, and the rules that they are held to."""

    format: int = FORMAT
    rules: Rules
    start: float
    end: float
    canary: tuple[Target, ...]
    baseline: tuple[Target, ...]

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"evidence of format {self.format}, and this judge reads format {FORMAT}")
        if not (math.isfinite(self.start) and math.isfinite(self.end)):
            raise ValueError(f"evidence from {self.start} to {self.end}: both must be finite")
        for target in (*self.canary, *self.baseline):
            moments = [scrape.at for scrape in target.scrapes]
            if any(later <= earlier for earlier, later in pairwise(moments)):
                raise ValueError(f"{target.name}: scrapes are not in order of time")
        if both := {target.name for target in self.canary} & {target.name for target in self.baseline}:
            raise ValueError(f"{', '.join(sorted(both))}: in both arms, so there is nothing to compare")

    @property
    def arms(self) -> Mapping[str, tuple[Target, ...]]:
        return {"canary": self.canary, "baseline": self.baseline}

    def encode(self) -> bytes:
        """Return JSON, the same bytes for the same evidence; NaN and infinities become null."""
        return msgspec.json.encode(self, order="deterministic")

    def sha256(self) -> str:
        return hashlib.sha256(self.encode()).hexdigest()


def read_evidence(path: Path) -> Evidence:
    """Return what `Evidence.encode` wrote. Raises `EvidenceError`, which names the place."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Evidence)
    except (msgspec.MsgspecError, OSError) as error:
        raise EvidenceError(f"{path}: {error}") from error
