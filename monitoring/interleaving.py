"""Two models in one answer: team-draft interleaving, which tells the better one with far fewer visitors than a split.

Radlinski, Kurup and Joachims, "How does clickthrough data reflect retrieval quality?", CIKM 2008. Pure functions.
"""

from collections.abc import Collection, Sequence
from random import Random
from typing import Literal, NamedTuple

Team = Literal["control", "treatment"]


class Interleaved(NamedTuple):
    """One order out of two, and whose pick each place was: `teams[i]` chose `order[i]`."""

    order: list[str]
    teams: list[Team]


def team_draft(control: Sequence[str], treatment: Sequence[str], seed: str) -> Interleaved:
    """Let two orders of the same ids pick in turns; in each round a coin says who goes first.

    The same seed gives the same order: take one that is different for each request, such as its id.
    """
    coin = Random(seed)  # noqa: S311 a fair draw, not a secret
    waiting: dict[Team, list[str]] = {"control": list(reversed(control)), "treatment": list(reversed(treatment))}
    order: list[str] = []
    teams: list[Team] = []
    taken: set[str] = set()
    while len(order) < len(control):
        first: Team = "control" if coin.random() < 0.5 else "treatment"
        second: Team = "treatment" if first == "control" else "control"
        for team in (first, second):
            pick = _next(waiting[team], taken)
            if pick is not None:
                taken.add(pick)
                order.append(pick)
                teams.append(team)
    return Interleaved(order, teams)


def winner(answer: Interleaved, clicked: Collection[str]) -> Team | None:
    """Whose picks got more of the clicks; None when both got as many."""
    credit = {"control": 0, "treatment": 0}
    for activity, team in zip(answer.order, answer.teams, strict=True):
        credit[team] += activity in clicked
    if credit["control"] == credit["treatment"]:
        return None
    return "control" if credit["control"] > credit["treatment"] else "treatment"


def _next(waiting: list[str], taken: set[str]) -> str | None:
    """The best of a team's order that nobody took yet."""
    while waiting:
        if (pick := waiting.pop()) not in taken:
            return pick
    return None
