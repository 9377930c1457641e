"""Rankings of a Frontrow service: a deadline for the whole call, few retries, and an order at all times."""

from frontrow_client.asynchronous import AsyncFrontrowClient
from frontrow_client.blocking import FrontrowClient
from frontrow_client.errors import (
    DeadlinePassed,
    Fault,
    FrontrowError,
    NoRanking,
    Overloaded,
    Problem,
    Rejected,
    ServiceFailed,
    Unreachable,
    UnreadableAnswer,
)
from frontrow_client.policy import Backoff, Policy, RetryBudget
from frontrow_client.types import (
    Candidate,
    Contribution,
    Event,
    Explanation,
    ModelVersion,
    Order,
    Priority,
    RankedActivity,
    Ranking,
    RankOptions,
    Receipt,
    Variant,
)

__all__ = [
    "AsyncFrontrowClient",
    "Backoff",
    "Candidate",
    "Contribution",
    "DeadlinePassed",
    "Event",
    "Explanation",
    "Fault",
    "FrontrowClient",
    "FrontrowError",
    "ModelVersion",
    "NoRanking",
    "Order",
    "Overloaded",
    "Policy",
    "Priority",
    "Problem",
    "RankOptions",
    "RankedActivity",
    "Ranking",
    "Receipt",
    "Rejected",
    "RetryBudget",
    "ServiceFailed",
    "Unreachable",
    "UnreadableAnswer",
    "Variant",
]
