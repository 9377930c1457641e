"""Which variant a visitor gets, and why."""

import hashlib
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

# What a visitor gets: a model's ranking, or both models' in one.
Variant = Literal["control", "treatment", "interleaved"]
VARIANTS: tuple[Variant, ...] = ("control", "treatment")  # those that have a model
Reason = Literal["hash", "forced", "fallback"]
BUCKETS = 10_000


class Assignment(Struct, frozen=True, gc=False):
    variant: Variant
    reason: Reason


_ALONE = Assignment("control", "fallback")  # of everybody, where there is no treatment


def bucket(salt: str, experiment: str, unit: str) -> int:
    """The unit's place on the line of 10,000 buckets: sha256 of `salt:experiment:unit`, its first 8 bytes, modulo."""
    digest = hashlib.sha256(f"{salt}:{experiment}:{unit}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % BUCKETS


@dataclass(frozen=True, slots=True)
class Experiment:
    """A sticky split: treatment owns the buckets [0, share), so a larger share only ever adds visitors to it."""

    name: str
    salt: str
    treatment_share: float
    fallback: Variant
    forcing_allowed: bool
    has_treatment: bool
    treated: Variant = "treatment"  # what the visitors of the treatment's share get

    @property
    def treatment_buckets(self) -> int:
        return round(self.treatment_share * BUCKETS)

    def assign(self, visitor: str | None, asked: Variant | None = None) -> Assignment:
        if not self.has_treatment:
            return _ALONE
        if asked is not None and self.forcing_allowed:
            return Assignment(asked, "forced")
        if visitor is None:
            return Assignment(self.fallback, "fallback")
        in_treatment = bucket(self.salt, self.name, visitor) < self.treatment_buckets
        return Assignment(self.treated if in_treatment else "control", "hash")
