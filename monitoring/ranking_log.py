"""What is kept of a ranking: enough to make its rows again, on any model."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np

from features import History
from features.history import from_records
from registry import Value

KIND: Final = "rankings"

Features = dict[str, Value | None]


class RankingEntry(msgspec.Struct, omit_defaults=True):
    """A ranking that was answered.

    unit: digest of the visitor's id (`features.visitor_key`, hex). moment: that of the derived features, in
    milliseconds since 1970. history: the records of the events that were known of the visitor. context, candidates:
    as they stood in the request. scores: of the candidates, in their order. ranking: ids in the order of the answer.
    """

    request_id: str
    moment: int
    experiment: str
    variant: str
    reason: str
    model: str
    sha256: str
    candidates: Any
    scores: Sequence[float]
    ranking: Sequence[str]
    context: Any = None
    unit: str | None = None
    history: bytes = b""
    degraded: bool = False


class LoggedCandidate(msgspec.Struct):
    id: str
    features: Features | None = None


class LoggedRanking(RankingEntry, omit_defaults=True):
    """An entry as it is read again: a candidate is an id, or an id with features."""

    candidates: list[str | LoggedCandidate]
    scores: list[float]
    ranking: list[str]
    context: Features | None = None

    @property
    def ids(self) -> list[str]:
        return [one if isinstance(one, str) else one.id for one in self.candidates]


def pack(history: History) -> bytes:
    """The records of a history, as `unpack` reads them."""
    words = np.stack(((history.at << 8 | history.kinds).astype(np.uint64), history.activities), axis=1)
    return words.astype(">u8").tobytes()


def unpack(records: bytes) -> History:
    return from_records(records)
