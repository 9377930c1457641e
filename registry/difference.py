"""What is different between two models: features, parameters, trees, and how they score and rank the same rows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from registry.bundle import MODEL, parse_text
from registry.golden import Golden
from registry.model import Model
from registry.signature import Feature, Value

Floats = NDArray[np.float64]

MAX_ROWS = 2_000  # pairs of rows are compared, so the work grows with the square


class FeatureChange(NamedTuple):
    """A feature that only one of the models has, or that is not the same in both. None: it is not there."""

    name: str
    first: Feature | None
    second: Feature | None


class Shape(NamedTuple):
    """The trees of a model; `used` is how often each feature is split on, most often first."""

    trees: int
    leaves: int
    used: Mapping[str, int]


class RowScores(NamedTuple):
    """Scores of the same rows by both models, (rows,) each."""

    first: Floats
    second: Floats

    @property
    def pairs_turned(self) -> float:
        """The share of pairs of rows that one model ranks the other way round, of those that neither thinks equal.

        (1 - tau) / 2 with Kendall's tau (Kendall, "A new measure of rank correlation", 1938). NaN without such a pair.
        """
        upper = np.triu_indices(len(self.first), 1)
        one, other = (np.sign(scores[:, None] - scores)[upper] for scores in self)
        told = (one != 0) & (other != 0)
        return float((one != other)[told].mean()) if told.any() else float("nan")


def feature_changes(first: Model, second: Model) -> Iterator[FeatureChange]:
    """Every feature that is not in both models with the same role, type and categories, in the order of the models."""
    ours, theirs = ({one.name: one for one in model.bundle.features} for model in (first, second))
    for name in dict.fromkeys((*ours, *theirs)):
        if ours.get(name) != theirs.get(name):
            yield FeatureChange(name, ours.get(name), theirs.get(name))


def describe_change(change: FeatureChange) -> str:
    """What of a feature is different, in words."""
    if change.first is None or change.second is None:
        there, which = (change.first, "first") if change.second is None else (change.second, "second")
        assert there is not None
        return f"only in the {which}: {there.role}, {there.type}"
    pairs = [(getattr(change.first, what), getattr(change.second, what)) for what in ("role", "type")]
    words = [f"{one} -> {other}" for one, other in pairs if one != other]
    gone, new = (_beyond(*pair) for pair in ((change.first, change.second), (change.second, change.first)))
    words += [f"lost {', '.join(gone)}"] if gone else []
    words += [f"gained {', '.join(new)}"] if new else []
    return "; ".join(words) or "categories in another order"


def parameter_changes(first: Model, second: Model) -> dict[str, tuple[str, str]]:
    """Training parameters as LightGBM wrote them down, where they differ; `-` is one that is not there."""
    ours, theirs = (parse_text(model.bundle.read(MODEL)).parameters for model in (first, second))
    return {
        name: (ours.get(name, "-"), theirs.get(name, "-"))
        for name in dict.fromkeys((*ours, *theirs))
        if ours.get(name) != theirs.get(name) and name != "categorical_feature"  # follows from the features
    }


def shape(model: Model) -> Shape:
    text = parse_text(model.bundle.read(MODEL))
    used = sorted(text.feature_importances.items(), key=lambda item: -item[1])
    return Shape(len(text.trees), sum(tree.leaves for tree in text.trees), dict(used))


def score_rows(first: Model, second: Model) -> RowScores:
    """Score the golden rows of both models with both: what the other model has no feature for is left out of a row.

    At most 2,000 rows, evenly taken from both.
    """
    rows = [_values(model.bundle.golden(), model.bundle.features) for model in (first, second)]
    values = [row for several in rows for row in several[:: 1 + 2 * len(several) // MAX_ROWS]]
    return RowScores(*(model.engine.score(_encoded(values, model.bundle.features)) for model in (first, second)))


def score_example(first: Model, second: Model) -> RowScores:
    """Score the example of the first model, which is part of one query, with both."""
    example = first.bundle.example
    return RowScores(*(model.engine.score(_encoded(example, model.bundle.features)) for model in (first, second)))


def _values(golden: Golden, features: Sequence[Feature]) -> list[dict[str, Value]]:
    rows = []
    for row in golden.rows.tolist():
        values = {feature.name: feature.decode(number) for feature, number in zip(features, row, strict=True)}
        rows.append({name: value for name, value in values.items() if value is not None})
    return rows


def _encoded(rows: Sequence[Mapping[str, Value]], features: Sequence[Feature]) -> Floats:
    return np.array([[_encode(feature, row.get(feature.name)) for feature in features] for row in rows]).reshape(
        -1, len(features)
    )


def _encode(feature: Feature, value: Value | None) -> float:
    try:
        return feature.encode(value)
    except ValueError:  # the other model has it with another type
        return float("nan")


def _beyond(one: Feature, other: Feature) -> list[str]:
    """Categories that only the first of the two has."""
    return [repr(text) for text in one.categories or () if text not in (other.categories or ())]
