"""What the judge says: the verdict, its reasons, and the numbers behind them."""

from typing import Any, Literal

import msgspec

from release.rules import Rules

Outcome = Literal["PASS", "FAIL", "INCONCLUSIVE"]
Gate = Literal["G0", "G1", "G2", "G3"]


class Reason(msgspec.Struct, frozen=True):
    """The gate, what it looked at (a family, p99, requests...), and the numbers in words."""

    gate: Gate
    subject: str
    says: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided and why.

    final: nothing that is scraped later can change it. at: the moment in UTC of the look that decided, or of the last.
    looks, judged_seconds: how much was judged. extensions: how often more time was needed.
    numbers: what the gates saw, as plain data.
    """

    verdict: Outcome
    final: bool
    reasons: tuple[Reason, ...]
    at: str
    looks: int
    judged_seconds: float
    extensions: int
    stage: int | None
    next_stage: int | None
    evidence_sha256: str
    rules: Rules
    numbers: dict[str, Any]

    def encode(self) -> bytes:
        """Return JSON, the same bytes for the same verdict; NaN and infinities are null."""
        return msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=2) + b"\n"
