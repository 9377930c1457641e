"""What history features are worth: the same recipe with and without them, judged on queries that decide nothing."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from features import DERIVED_BY_NAME
from registry import Feature
from training.comparison import Difference, difference
from training.tables import RankingTable
from training.train import Trained, boost, judge

METRIC = "ndcg@10"

NO_HISTORY = "no history"
GROUPS: Mapping[str, Callable[[Feature], bool]] = {  # which of the derived features are kept
    NO_HISTORY: lambda _: False,
    "of the visitor": lambda feature: DERIVED_BY_NAME[feature.name].role == "context",
    "of visitor and activity": lambda feature: DERIVED_BY_NAME[feature.name].role == "activity",
}
ALL = "all"


class Ablated(NamedTuple):
    """One line of the table: how many features a model had, its NDCG@10, and how much more than without history."""

    name: str
    features: int
    ndcg: float
    gain: Difference | None


def ablate(
    trained: Trained,
    learn: RankingTable,
    test: RankingTable,
    groups: Sequence[str] = tuple(GROUPS),
    *,
    progress: Callable[[], None] = lambda: None,
) -> list[Ablated]:
    """Compare a model with others of as many trees that have only some of its derived features.

    `groups` begin with `NO_HISTORY`, and `progress` is called after each round of each of their models.
    """
    assert groups[0] == NO_HISTORY
    rounds = trained.booster.num_trees()
    boosted = [(name, _without(trained.features, GROUPS[name])) for name in groups]
    models = [(name, boost(learn, features, trained.recipe, rounds, progress=progress)) for name, features in boosted]
    judged = [(name, model, judge(model, test)[METRIC]) for name, model in [*models, (ALL, trained)]]
    base = judged[0][2]
    return [
        Ablated(name, len(model.features), float(ndcg.mean()), None if ndcg is base else difference(ndcg, base))
        for name, model, ndcg in judged
    ]


def _without(features: Sequence[Feature], keep: Callable[[Feature], bool]) -> list[Feature]:
    return [feature for feature in features if feature.role != "derived" or keep(feature)]
