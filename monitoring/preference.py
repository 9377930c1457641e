"""Which model the visitors of interleaved rankings prefer: the one whose picks got more of their clicks.

The visitor is the unit: each counts once, however often it came. Each saw both models, so one is enough to tell.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from monitoring.experiment import Unit, by_unit, clicks
from monitoring.exposures import Exposure, Feedback
from monitoring.interleaving import Interleaved, winner
from monitoring.intervals import Estimate, share

INTERLEAVED = "interleaved"


class Preference(NamedTuple):
    """What was found of `visitors` whose rankings were interleaved.

    control, treatment: how many of them prefer it; `undecided` clicked as much on the picks of either.
    share: treatment's part of those who prefer one.
    """

    experiment: str
    first_at: int
    last_at: int
    rankings: int
    visitors: int
    control: int
    treatment: int
    undecided: int
    share: Estimate


def preference(experiment: str, exposures: Iterable[Exposure], feedback: Iterable[Feedback]) -> Preference | None:
    """Join the logs. None where no ranking of the experiment was interleaved."""
    shown = _shown(experiment, exposures)
    if not shown:
        return None
    units = {unit: Unit(INTERLEAVED, each[0].at) for unit, each in shown.items()}
    done = by_unit(feedback, units)
    balances = [_balance(each, done[unit]) for unit, each in shown.items() if unit in done]
    decided = [one for one in balances if one]
    treatment = sum(one > 0 for one in decided)
    moments = [one.at for each in shown.values() for one in each]
    return Preference(
        experiment=experiment,
        first_at=min(moments),
        last_at=max(moments),
        rankings=len(moments),
        visitors=len(shown),
        control=len(decided) - treatment,
        treatment=treatment,
        undecided=sum(one == 0 for one in balances),
        share=share(treatment, len(decided)),
    )


def _shown(experiment: str, exposures: Iterable[Exposure]) -> Mapping[str, Sequence[Exposure]]:
    """The interleaved rankings of each visitor, in order of time."""
    shown: dict[str, list[Exposure]] = defaultdict(list)
    for one in exposures:
        if one.experiment == experiment and one.order:
            shown[one.unit].append(one)
    for each in shown.values():
        each.sort(key=lambda one: one.at)
    return shown


def _balance(shown: Sequence[Exposure], events: Sequence[Feedback]) -> int | None:
    """Rankings that treatment won minus those that control won; None for a visitor who clicked on none of them."""
    found = clicks([one.at for one in shown], [one.order for one in shown], events)
    winners = [
        winner(Interleaved(list(shown[place].order), list(shown[place].teams)), clicked)
        for place, clicked in found.items()
    ]
    return winners.count("treatment") - winners.count("control") if winners else None
