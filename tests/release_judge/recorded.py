"""Evidence as it would have been scraped, from what each arm counted between its scrapes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from release.evidence import OUTCOMES, Evidence, Scrape, Target
from release.rules import Rules
from release.simulation import COARSE_EDGES, World

Array = NDArray[np.float64]

START = 1_800_000_000.0


@dataclass(frozen=True)
class Arm:
    """What a target's requests come to in every `scrape_seconds`, always the same.

    requests: finished rankings. bad: outcome (or `unusable`) -> how many of them. slower: times the usual duration.
    offset: seconds after the look at which it is scraped.
    """

    requests: float = 1500.0
    bad: Mapping[str, float] = field(default_factory=dict)
    slower: float = 1.0
    spread: float = 0.4
    code: str = "new"
    offset: float = 4.0
    edges: Sequence[float] = COARSE_EDGES

    def counts(self) -> dict[str, float]:
        """Between two scrapes."""
        bad = {name: self.bad.get(name, 0.0) for name in (*OUTCOMES[1:], "unusable")}
        ok = self.requests - sum(bad[name] for name in OUTCOMES[1:])
        return {"offered": self.requests, "ok": ok, **bad}

    def durations(self) -> Array:
        return self.requests * World(edges=self.edges, spread=self.spread).buckets(self.slower)


def evidence(
    rules: Rules,
    *,
    canary: Sequence[Arm] = (Arm(),),
    baseline: Sequence[Arm] = (Arm(code="old", offset=9.0),),
    looks: int | None = None,
) -> Evidence:
    """Everything that is needed for `looks` looks, by default those of one period."""
    looks = rules.looks if looks is None else looks
    arms = {
        name: tuple(
            Target(
                f"{name}-{number}",
                tuple(scrapes(rules, looks, arm.offset, *steady(arm, looks), edges=arm.edges, code=arm.code)),
            )
            for number, arm in enumerate(targets)
        )
        for name, targets in (("canary", canary), ("baseline", baseline))
    }
    return Evidence(rules=rules, start=START, end=START + (looks + 2.5) * rules.scrape_seconds, **arms)


def steady(arm: Arm, looks: int) -> tuple[Mapping[str, Array], Array]:
    """Counts of each scrape, and durations (scrapes, edges + 1)."""
    counts = {name: np.full(looks + 2, count) for name, count in arm.counts().items()}
    return counts, np.tile(arm.durations(), (looks + 2, 1))


def scrapes(
    rules: Rules,
    looks: int,
    offset: float,
    counts: Mapping[str, Array],
    durations: Array,
    *,
    edges: Sequence[float],
    code: str,
) -> list[Scrape]:
    """One every `scrape_seconds`, from `offset` after the start on; what is counted comes between them."""
    totals = {name: count.cumsum() for name, count in counts.items()}
    below = durations.cumsum(axis=0).cumsum(axis=1)
    labels = [repr(float(edge)) for edge in (*edges, np.inf)]
    return [
        Scrape(
            at=START + offset + number * rules.scrape_seconds,
            started_at=START - 100,
            ready=1.0,
            code_version=code,
            models={"control": "aa" * 32},
            golden={"control": "bb" * 32},
            counts={name: float(total[number]) for name, total in totals.items()},
            durations=dict(zip(labels, below[number].tolist(), strict=True)),
        )
        for number in range(looks + 2)
    ]
