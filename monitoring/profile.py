"""The training profile of a model, and the bins that its rows and scores fall into."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from monitoring.errors import ProfileError
from registry import Bundle, Feature

Counts = NDArray[np.int64]

SCORE: Final = "score"
MAX_CATEGORIES: Final = 1_900  # further ones are counted together: so no feature takes more than 64 KiB
_FORMAT: Final = 1


@dataclass(frozen=True, eq=False)
class Distribution:
    """How a feature, or the score, was distributed over the rows of training.

    `counts` (bins,) has the bins of a number, (edges[i], edges[i + 1]] with edges[0] in the first, then "out of range";
    or the categories, from place 1,900 on together; and "missing" last. `edges` is None for a category.
    """

    name: str
    edges: tuple[float, ...] | None
    labels: tuple[str, ...]
    counts: Counts


@dataclass(frozen=True, eq=False)
class Profile:
    """What a model was trained on: a distribution for each column of a row, and the score's as the last one."""

    distributions: tuple[Distribution, ...]

    @property
    def features(self) -> tuple[Distribution, ...]:
        return self.distributions[:-1]


class _Column(msgspec.Struct):
    missing: int
    edges: list[float] | None = None
    counts: list[int] | None = None
    out_of_range: int = 0
    categories: dict[str, int] | None = None


class _Document(msgspec.Struct):
    format: int
    rows: int
    features: dict[str, _Column]
    score: _Column


def read_profile(bundle: Bundle) -> Profile | None:
    """The profile of a bundle's model, or None where the bundle has none. Raises `ProfileError`."""
    document = bundle.profile()
    return None if document is None else parse_profile(document, bundle.features)


def parse_profile(document: Mapping[str, object], features: Sequence[Feature]) -> Profile:
    """The profile that `training.profile` wrote for a model with these features. Raises `ProfileError`."""
    try:
        profile = msgspec.convert(document, _Document)
    except msgspec.ValidationError as error:
        raise ProfileError(f"profile.json: {error}") from error
    if profile.format != _FORMAT:
        raise ProfileError(f"profile.json: the format is {profile.format} and this version reads format {_FORMAT}")
    if lacking := [one.name for one in features if one.name not in profile.features]:
        raise ProfileError(f"profile.json lacks feature {lacking[0]!r} of the model ({len(lacking)} are missing)")
    columns = [_distribution(one.name, profile.features[one.name], one.categories) for one in features]
    return Profile((*columns, _distribution(SCORE, profile.score, None)))


def _distribution(name: str, column: _Column, categories: Sequence[str] | None) -> Distribution:
    made = _number(name, column) if categories is None else _category(name, column, categories)
    if made.counts.min() < 0 or made.counts.sum() == 0:
        raise ProfileError(f"profile.json: {name!r} has {made.counts.sum()} rows, or a count below 0")
    return made


def _number(name: str, column: _Column) -> Distribution:
    edges, counts = column.edges or [], column.counts or []
    if not counts or len(edges) != len(counts) + 1 or any(np.diff(edges[1:]) <= 0):
        raise ProfileError(f"profile.json: {name!r} has {len(edges)} edges for {len(counts)} bins, which ascend")
    spans = [f"{low:.4g} to {high:.4g}" for low, high in pairwise(edges)]
    labels = (*spans, "out of range", "missing")
    return Distribution(name, tuple(edges), labels, np.array([*counts, column.out_of_range, column.missing]))


def _category(name: str, column: _Column, categories: Sequence[str]) -> Distribution:
    counts = column.categories or {}
    if list(counts) != list(categories):
        raise ProfileError(f"profile.json: {name!r} has {len(counts)} categories, not the model's {len(categories)}")
    each = list(counts.values())
    labels, numbers = tuple(categories), each
    if len(each) > MAX_CATEGORIES:
        labels = (*categories[: MAX_CATEGORIES - 1], f"{len(each) - MAX_CATEGORIES + 1} others")
        numbers = [*each[: MAX_CATEGORIES - 1], sum(each[MAX_CATEGORIES - 1 :])]
    return Distribution(name, None, (*labels, "missing"), np.array([*numbers, column.missing]))


class Binner:
    """Counts rows into the bins of a profile, all columns at once. `total` is the number of bins of all columns."""

    def __init__(self, profile: Profile) -> None:
        self._sizes = [len(one.counts) for one in profile.distributions]
        self._starts = np.cumsum([0, *self._sizes[:-1]])
        self.total = sum(self._sizes)
        places = range(len(profile.distributions))
        edges = {place: one.edges for place, one in enumerate(profile.distributions) if one.edges is not None}
        self._numeric = np.array(list(edges), dtype=np.intp)
        self._categorical = np.array([place for place in places if place not in edges], dtype=np.intp)
        self._last = np.array([self._sizes[place] - 2 for place in self._categorical], dtype=np.float64)
        widest = max(len(one) for one in edges.values()) - 1
        self._upper = np.full((len(edges), widest), np.inf)  # no value is above the infinity that fills the short ones
        for row, one in enumerate(edges.values()):
            self._upper[row, : len(one) - 1] = one[1:]
        self._lower = np.array([one[0] for one in edges.values()])
        self._outside = np.array([len(one) - 1 for one in edges.values()])

    def count(self, rows: NDArray[np.float64], counts: Counts) -> None:
        """Add rows (n, columns), the score last, to `counts` (total,)."""
        bins = np.empty(rows.shape, dtype=np.intp)
        numbers = rows[:, self._numeric]
        places = (numbers[:, :, None] > self._upper).sum(axis=2)
        bins[:, self._numeric] = np.where(numbers < self._lower, self._outside, places)
        codes = rows[:, self._categorical]
        bins[:, self._categorical] = np.minimum(np.nan_to_num(codes), self._last)
        bins += self._starts
        missing = np.isnan(rows)
        bins[missing] = np.broadcast_to(self._starts + self._sizes - 1, rows.shape)[missing]
        np.add.at(counts, bins.ravel(), 1)

    def split(self, counts: Counts) -> list[Counts]:
        """The counts of each column, (bins,) each."""
        return np.split(counts, self._starts[1:])
