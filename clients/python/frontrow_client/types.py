"""What is sent and what comes back, as `/openapi.json` describes it. Which features there are, the models say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self, TypedDict

from frontrow_client.errors import NoRanking

Variant = Literal["control", "treatment"]
Priority = Literal["critical", "normal", "sheddable"]
Value = str | bool | int | float | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """An activity with features of its own, which win over the catalog's. A plain id stands for one without."""

    id: str
    features: Mapping[str, Value] = field(default_factory=dict)


class RankOptions(TypedDict, total=False):
    """What a ranking may be asked with.

    context: what is the same for all candidates. top_k: cuts the answer. explain: has the first ones explained.
    visitor_id: whose history counts, and whose variant it is. variant: where the service lets callers choose.
    timeout_seconds: for the whole call, retries and rests included.
    """

    context: Mapping[str, Value] | None
    top_k: int | None
    explain: bool
    visitor_id: str | None
    priority: Priority | None
    request_id: str | None
    variant: Variant | None
    timeout_seconds: float | None


@dataclass(frozen=True, slots=True)
class RankedActivity:
    """`position` counts from 1."""

    id: str
    score: float
    position: int


@dataclass(frozen=True, slots=True)
class ModelVersion:
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Contribution:
    """What a feature's value added to a score."""

    feature: str
    value: Value
    contribution: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an activity got its score: `base`, `features` and `others` add up to it."""

    id: str
    base: float
    features: tuple[Contribution, ...]
    others: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """An answer of the service, best first, and who made it.

    `degraded`: the visitor's history was not to be had in time. `attempts`: how often it was asked for, from 1.
    """

    request_id: str
    variant: Literal["control", "treatment", "interleaved"]
    assignment: Literal["hash", "forced", "fallback"]
    model: ModelVersion
    ranking: tuple[RankedActivity, ...]
    unknown_candidates: tuple[str, ...]
    degraded: bool
    explanations: tuple[Explanation, ...] | None
    code_version: str
    attempts: int

    @property
    def ids(self) -> list[str]:
        return [one.id for one in self.ranking]


@dataclass(frozen=True, slots=True)
class Order:
    """Ids to show, in this order: those of `ranking`, or as they were given where there was none, and then why."""

    ids: list[str]
    ranking: Ranking | None
    reason: NoRanking | None

    @classmethod
    def of(cls, ranking: Ranking) -> Self:
        return cls(ranking.ids, ranking, None)

    @classmethod
    def as_given(cls, candidates: Sequence[str | Candidate], top_k: int | None, reason: NoRanking) -> Self:
        return cls([one if isinstance(one, str) else one.id for one in candidates][:top_k], None, reason)

    @property
    def degraded(self) -> bool:
        """Whether it is less than the service can do: not ranked at all, or without the visitor's history."""
        return self.ranking is None or self.ranking.degraded


@dataclass(frozen=True, slots=True)
class Event:
    """What a visitor did; `at` is in milliseconds since 1970, and the moment of sending unless given."""

    visitor_id: str
    activity_id: str
    type: Literal["view", "click", "booking"]
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of events: how many count, ids that no catalog has, and how many are older than histories reach."""

    kept: int
    unknown_activities: tuple[str, ...]
    too_old: int
