"""What an experiment found: exposures, what visitors did after them, and what they were shown.

The visitor is the unit, since the visitor is what chance gave a variant: each counts once, however often it came.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from monitoring.errors import ExperimentError
from monitoring.exposures import ANALYZED, DAY_MS, Exposure, Feedback, Kind
from monitoring.guardrails import Guardrails
from monitoring.intervals import Estimate, mean, mean_difference, share, share_difference
from monitoring.ranking_log import LoggedRanking
from monitoring.srm import Ratio, ratio

VARIANTS: Final = ("control", "treatment")
GOAL: Final[Kind] = "booking"
ATTRIBUTION_DAYS: Final = 7
CLICK_MS: Final = 1_800_000  # a click within half an hour of a ranking is a click on it
PLACES: Final = 10


class Question(NamedTuple):
    """What to find out.

    goal: what a visitor has to do to count as converted, within `attribution_days` of the first exposure.
    treatment_share: the share of the visitors that treatment should have.
    """

    experiment: str
    treatment_share: float
    goal: Kind = GOAL
    attribution_days: float = ATTRIBUTION_DAYS


class Measured(NamedTuple):
    """A metric of both variants, treatment's minus control's, and the units that each is based on."""

    name: str
    control: Estimate
    treatment: Estimate
    difference: Estimate
    units: tuple[int, int]


class Findings(NamedTuple):
    """`crossed` visitors saw both variants and are left out. `ndcg` is None without a ranking that was clicked."""

    question: Question
    split: Ratio
    crossed: int
    first_at: int
    last_at: int
    conversion: Measured
    ndcg: Measured | None
    guardrails: Guardrails | None


class Unit(NamedTuple):
    """A visitor: what they got, and since when."""

    variant: str
    at: int


def analyze(
    question: Question,
    exposures: Iterable[Exposure],
    feedback: Iterable[Feedback],
    rankings: Iterable[LoggedRanking] = (),
    guardrails: Guardrails | None = None,
) -> Findings:
    """Join the logs. Raises `ExperimentError` where a variant of the experiment has no visitor whom chance gave it."""
    units, crossed = _units(question.experiment, exposures)
    done = by_unit(feedback, units)
    sides = [{key: unit for key, unit in units.items() if unit.variant == name} for name in VARIANTS]
    if not all(sides):
        sizes = " and ".join(f"{len(side):,} in {name}" for side, name in zip(sides, VARIANTS, strict=True))
        raise ExperimentError(f"experiment {question.experiment!r} has {sizes}: there is nothing to compare")
    moments = [unit.at for unit in units.values()]
    return Findings(
        question=question,
        split=ratio(len(sides[0]), len(sides[1]), question.treatment_share),
        crossed=crossed,
        first_at=min(moments),
        last_at=max(moments),
        conversion=_conversion(question, sides, done),
        ndcg=_ndcg(question.experiment, rankings, units, done),
        guardrails=guardrails,
    )


def _units(experiment: str, exposures: Iterable[Exposure]) -> tuple[dict[str, Unit], int]:
    """The visitors whom chance gave a variant, since when, and how many there were in both."""
    first: dict[str, dict[str, int]] = defaultdict(dict)
    for one in exposures:
        if one.experiment == experiment and one.reason == ANALYZED and one.variant in VARIANTS:
            seen = first[one.unit]
            seen[one.variant] = min(one.at, seen.get(one.variant, one.at))
    units = {unit: Unit(*next(iter(seen.items()))) for unit, seen in first.items() if len(seen) == 1}
    return units, len(first) - len(units)


def by_unit(feedback: Iterable[Feedback], units: Mapping[str, Unit]) -> dict[str, list[Feedback]]:
    """What each visitor did from the first exposure on, in order of time, each event once."""
    done: dict[str, set[Feedback]] = defaultdict(set)
    for one in feedback:
        unit = units.get(one.unit)
        if unit is not None and one.at >= unit.at:
            done[one.unit].add(one)
    return {unit: sorted(events, key=lambda one: one.at) for unit, events in done.items()}


def _conversion(
    question: Question, sides: Sequence[Mapping[str, Unit]], done: Mapping[str, Sequence[Feedback]]
) -> Measured:
    window = question.attribution_days * DAY_MS
    shares = [
        share(
            sum(
                any(one.kind == question.goal and one.at - unit.at <= window for one in done.get(key, ()))
                for key, unit in side.items()
            ),
            len(side),
        )
        for side in sides
    ]
    control, treatment = shares
    name = f"visitors with a {question.goal}"
    return Measured(name, control, treatment, share_difference(treatment, control), (len(sides[0]), len(sides[1])))


def _ndcg(
    experiment: str,
    rankings: Iterable[LoggedRanking],
    units: Mapping[str, Unit],
    done: Mapping[str, Sequence[Feedback]],
) -> Measured | None:
    """Mean over the clicked rankings of each visitor, then over the visitors."""
    values: dict[str, list[float]] = defaultdict(list)
    for unit, shown in _shown(experiment, rankings, units).items():
        rankings_shown = [one.ranking for one in shown]
        for place, clicked in clicks([one.moment for one in shown], rankings_shown, done.get(unit, ())).items():
            values[unit].append(ndcg_of_clicks(rankings_shown[place], clicked))
    means = [
        np.array([np.mean(found) for unit, found in values.items() if units[unit].variant == name]) for name in VARIANTS
    ]
    if not any(len(each) for each in means):
        return None
    control, treatment = means
    return Measured(
        f"NDCG of clicks, first {PLACES} places",
        mean(control),
        mean(treatment),
        mean_difference(treatment, control),
        (len(control), len(treatment)),
    )


def ndcg_of_clicks(ranking: Sequence[str], clicked: set[str]) -> float:
    """1 where the clicked activities, at least one of them in the ranking, stand first; discount 1/log2(1 + place)."""
    discounts = 1 / np.log2(np.arange(2, PLACES + 2))
    got = sum(discounts[place] for place, activity in enumerate(ranking[:PLACES]) if activity in clicked)
    return float(got / discounts[: len(clicked)].sum())


def _shown(
    experiment: str, rankings: Iterable[LoggedRanking], units: Mapping[str, Unit]
) -> dict[str, list[LoggedRanking]]:
    """The rankings that each visitor was shown by the variant that chance gave it, in order of time."""
    shown: dict[str, list[LoggedRanking]] = defaultdict(list)
    for one in rankings:
        unit = units.get(one.unit or "")
        if unit is not None and one.experiment == experiment and one.variant == unit.variant:
            shown[one.unit or ""].append(one)
    for each in shown.values():
        each.sort(key=lambda one: one.moment)
    return shown


def clicks(
    moments: Sequence[int], rankings: Sequence[Sequence[str]], events: Sequence[Feedback]
) -> dict[int, set[str]]:
    """The places of the rankings that were clicked, and on what. A click is one on the latest before it that had it.

    moments: when each ranking was shown, in order.
    """
    found: dict[int, set[str]] = defaultdict(set)
    for event in events:
        if event.kind == "view":
            continue
        for place in range(bisect_right(moments, event.at) - 1, -1, -1):
            if event.at - moments[place] > CLICK_MS:
                break
            if event.activity in rankings[place]:
                found[place].add(event.activity)
                break
    return found
