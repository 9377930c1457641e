"""Who saw which variant, and what they did then: the two logs that an experiment is judged by.

A visitor is in them as a digest of the id (`features.visitor_key`, hex), never as the id itself.
"""

from array import array
from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec

from features.events import Event, visitor_key
from monitoring.interleaving import Interleaved, Team
from monitoring.journal import Journal
from monitoring.srm import Ratio, ratio

EXPOSURES: Final = "exposures"
FEEDBACK: Final = "feedback"
DAY_MS: Final = 86_400_000
SLOTS: Final = 2**20  # 8 MiB
PLACES: Final = 100  # of an interleaved ranking that are logged; nobody clicks further down
ANALYZED: Final = "hash"  # the reason of an assignment by chance; others say nothing about a variant

Kind = Literal["view", "click", "booking"]


class Exposure(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first ranking of a day that a visitor saw in an experiment. `at` in milliseconds since 1970.

    Of interleaved rankings each one: `order` has the ids of its first 100 places, `teams` the variant that picked each.
    """

    at: int
    experiment: str
    unit: str
    variant: str
    reason: str
    model: str
    order: Sequence[str] = ()
    teams: Sequence[Team] = ()


class Feedback(msgspec.Struct, frozen=True):
    """What a visitor did. `at` in milliseconds since 1970."""

    at: int
    unit: str
    activity: str
    kind: Kind


class Exposures:
    """Writes each (visitor, variant, reason) once a day (UTC).

    Who was written is kept in a table of fixed size where a visitor may displace another: that one is written again
    when it comes back, and whoever reads the log counts it once. A dropped entry is offered again at the next ranking.
    Without a journal they are only counted.
    """

    def __init__(self, journal: Journal | None, experiment: str, *, treatment_share: float, slots: int = SLOTS) -> None:
        self._journal = journal
        self._experiment = experiment
        self._share = treatment_share
        self._seen = array("q", bytes(8 * slots))
        self._mask = slots - 1
        self._day = -1
        self._counts = {"control": 0, "treatment": 0}

    def saw(
        self,
        visitor: str | None,
        variant: str,
        reason: str,
        model: str,
        at: int,
        *,
        draft: Interleaved | None = None,
    ) -> None:
        """Take in an answered ranking; without a visitor it is nobody's exposure. `at` in milliseconds since 1970."""
        if visitor is None:
            return
        day = at // DAY_MS
        digest = hash((visitor, variant, reason, day))
        known = self._seen[digest & self._mask] == digest
        if known and draft is None:
            return
        if self._journal is not None:
            unit = visitor_key(visitor).hex()
            picks = () if draft is None else (draft.order[:PLACES], draft.teams[:PLACES])
            entry = Exposure(at, self._experiment, unit, variant, reason, model, *picks)
            if not self._journal.offer(entry, parts=1 + len(entry.order)):
                return
        if not known:
            self._count(digest, day, variant, reason)

    def _count(self, digest: int, day: int, variant: str, reason: str) -> None:
        self._seen[digest & self._mask] = digest
        if day != self._day:
            self._day = day
            self._counts = dict.fromkeys(self._counts, 0)
        if reason == ANALYZED:
            self._counts["control" if variant == "control" else "treatment"] += 1  # its share may be interleaved

    def ratio(self) -> Ratio:
        """Whether today's visitors are split as they should be. Each day is judged alone: so a visitor counts once."""
        return ratio(self._counts["control"], self._counts["treatment"], self._share)


def feedback(events: Iterable[Event]) -> list[Feedback]:
    """What the log keeps of visitors' events."""
    return [Feedback(one.at, visitor_key(one.visitor).hex(), one.activity, one.kind) for one in events]
