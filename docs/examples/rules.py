"""Rules of a marketplace: sold-out activities are never ranked, pinned ones come first, categories are mixed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from app.processing import Candidate, Processing, Ranked

MOST_OF_A_CATEGORY = 2


class MarketplaceRules(Processing):
    candidate_fields = {"sold_out": "boolean", "pinned": "boolean"}  # noqa: RUF012 a table, not a default

    def select(self, context: Mapping[str, Any], candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        return [candidate for candidate in candidates if not candidate["sold_out"]]

    def arrange(self, context: Mapping[str, Any], ranked: Sequence[Ranked], top_k: int) -> Sequence[Ranked]:
        pinned = [candidate for candidate in ranked if candidate["pinned"]]
        others = [candidate for candidate in ranked if not candidate["pinned"]]
        seen = Counter(candidate["category"] for candidate in pinned)
        top, rest = list(pinned), []
        for candidate in others:
            fits = len(top) < top_k and seen[candidate["category"]] < MOST_OF_A_CATEGORY
            (top if fits else rest).append(candidate)
            seen[candidate["category"]] += fits
        return top + rest
