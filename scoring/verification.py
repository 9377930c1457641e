"""What an engine proves before it may serve: equal scores, to the last bit, on rows chosen to tell engines apart."""

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scoring.decisions import ZERO_THRESHOLD, Splits, splits_by_feature
from scoring.engine import Engine
from scoring.errors import VerificationError
from scoring.model_text import ModelText

ROWS: Final = 2_000
_SEED: Final = 20_261_123

_TINY: Final = float(np.nextafter(0.0, 1.0))
_EDGES: Final = np.array([
    np.nan, np.inf, -np.inf, 0.0, -0.0, _TINY, -_TINY, 1e-310, ZERO_THRESHOLD, -ZERO_THRESHOLD,
    np.nextafter(ZERO_THRESHOLD, 1.0), np.nextafter(-ZERO_THRESHOLD, -1.0), 1e-35, 0.5, -0.5, -0.999, 1.0, -1.0, 1e9,
    2.0**31 - 1, 2.0**31, 2.0**32, 2.0**63, -(2.0**31), 1e300, -1e300,
])  # fmt: skip


def verify(engine: Engine, reference: Engine, rows: NDArray[np.float64]) -> None:
    """Raise `VerificationError` with the first row on which the two differ in any bit."""
    found, expected = engine.score(rows), reference.score(rows)
    differs = np.flatnonzero(found.view(np.uint64) != expected.view(np.uint64))
    if differs.size:
        row = int(differs[0])
        problem = f"{differs.size} of {len(rows)} rows differ; row {row}: {found[row]!r} against {expected[row]!r}"
        raise VerificationError(f"{problem} for {rows[row].tolist()}")


def adversarial_rows(model: ModelText, count: int = ROWS) -> NDArray[np.float64]:
    """Rows, the same ones for the same model, of values at which engines could come to differ.

    Each column takes the feature's thresholds and the floats next to them, its categories and their neighbours, NaN,
    infinities, zeros, numbers about LightGBM's idea of zero, and numbers within and beyond the range of training.
    """
    random = np.random.default_rng(_SEED)
    splits = {own.feature: own for own in splits_by_feature(model.trees)}
    columns = [_column(splits.get(feature), info, count, random) for feature, info in enumerate(model.feature_infos)]
    return np.ascontiguousarray(np.stack(columns, axis=1))


def _column(splits: Splits | None, info: str, count: int, random: np.random.Generator) -> NDArray[np.float64]:
    special = np.concatenate([_EDGES, _values_at_splits(splits)])
    plain = _plain(info, count, random)
    column = np.where(random.random(count) < 0.5, plain, random.choice(special, count))
    places = random.permutation(count)[: special.size]  # each special value once, as far as there is room
    column[places] = random.permutation(special)[: places.size]
    return column


def _values_at_splits(splits: Splits | None) -> NDArray[np.float64]:
    if splits is None:
        return np.empty(0)
    if splits.categorical:
        categories = np.arange(-2.0, 32.0 * splits.bitsets.shape[1] + 2.0)
        return np.concatenate([categories, categories + 0.5])
    thresholds = np.unique(splits.threshold)
    with np.errstate(all="ignore"):  # beyond the largest double comes infinity, which is meant
        return np.concatenate([thresholds, np.nextafter(thresholds, np.inf), np.nextafter(thresholds, -np.inf)])


def _plain(info: str, count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Ordinary values of a feature by what the model says of its training data."""
    if bounds := re.fullmatch(r"\[(.+):(.+)\]", info):
        low, high = (float(np.clip(float(bound), -1e300, 1e300)) for bound in bounds.groups())
        return low + (high - low) * random.normal(0.5, 0.4, count)
    if info == "none":
        return random.normal(size=count)
    return random.choice(np.array([float(category) for category in info.split(":")]), count)
