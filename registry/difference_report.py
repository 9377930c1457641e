"""The difference between two models, as `frontrow models diff` prints it."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from registry.difference import (
    describe_change,
    feature_changes,
    parameter_changes,
    score_example,
    score_rows,
    shape,
)
from registry.model import Model
from registry.text_table import table


def report(first: Model, second: Model, metrics: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Lines for a person. `metrics` are those of both models by name, empty where nobody knows any."""
    yield from _facts(first, second)
    yield from _metrics(*metrics)
    features = [(f"  {change.name}", describe_change(change)) for change in feature_changes(first, second)]
    yield from _section("features that differ", features)
    parameters = [(f"  {name}", *values) for name, values in parameter_changes(first, second).items()]
    yield from _section("parameters that differ", parameters)
    yield from _scores(first, second)
    yield from _example(first, second)


def _facts(first: Model, second: Model) -> Iterator[str]:
    bundles, shapes = [first.bundle, second.bundle], [shape(first), shape(second)]
    return table(
        [
            ("", *(f"{one.name}/{one.version}" for one in bundles)),
            ("sha256", *(one.sha256[:12] for one in bundles)),
            ("trained at", *(one.trained_at.isoformat() for one in bundles)),
            ("code revision", *(one.code_revision or "-" for one in bundles)),
            ("features", *(str(len(one.features)) for one in bundles)),
            ("trees", *(f"{one.trees:,}" for one in shapes)),
            ("leaves", *(f"{one.leaves:,}" for one in shapes)),
            ("splits most on", *(", ".join(list(one.used)[:3]) for one in shapes)),
        ]
    )


def _metrics(first: Mapping[str, str], second: Mapping[str, str]) -> Iterator[str]:
    names = dict.fromkeys((*first, *second))
    if names:
        title = "metrics, each on held-out queries of its own training; frontrow train compares on the same ones"
        yield from _section(title, [(f"  {name}", first.get(name, "-"), second.get(name, "-")) for name in names])


def _scores(first: Model, second: Model) -> Iterator[str]:
    scores = score_rows(first, second)
    apart = np.abs(scores.first - scores.second)
    yield ""
    yield f"scores of {len(apart):,} golden rows of both"
    yield f"  equal to the last bit: {(apart == 0).sum():,}"
    yield f"  apart: {apart.mean():.4f} on average, {apart.max():.4f} at most"
    yield f"  pairs of rows ranked the other way round: {scores.pairs_turned:.1%}"


def _example(first: Model, second: Model) -> Iterator[str]:
    if not first.bundle.example:
        return
    scores = score_example(first, second)
    rows = [
        (f"  {row}", f"{one:.4f}", f"{other:.4f}", f"{place} -> {place_now}")
        for row, (one, other, place, place_now) in enumerate(
            zip(scores.first, scores.second, _places(scores.first), _places(scores.second), strict=True), start=1
        )
    ]
    yield from _section("the example of the first: row, scores, place", rows)


def _section(title: str, rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield ""
    yield title if rows else f"{title}: none"
    yield from table(rows)


def _places(scores: np.ndarray) -> list[int]:
    """1 for the best score; equal ones in their order."""
    order = np.argsort(-scores, kind="stable").tolist()
    return [order.index(row) + 1 for row in range(len(scores))]
