"""Golden rows: rows of a model with the exact scores they must give, wherever and however the model is scored."""

import hashlib
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from registry.errors import BundleError
from registry.signature import Feature
from scoring import Engine, ModelText

_Number = float | Literal["inf", "-inf"] | None
_SPECIAL: dict[str | None, float] = {None: math.nan, "inf": math.inf, "-inf": -math.inf}

SAMPLED_ROWS = 32


class Golden(NamedTuple):
    """`rows` (rows, features) and `scores` (rows,), float64."""

    rows: NDArray[np.float64]
    scores: NDArray[np.float64]


class _Document(msgspec.Struct):
    rows: list[list[_Number]]
    scores: list[float] = []


def encode_golden(golden: Golden) -> bytes:
    """As JSON that gives back every bit: NaN is null, infinities are "inf" and "-inf"."""
    rows = [[_to_json(value) for value in row] for row in golden.rows.tolist()]
    return msgspec.json.encode(_Document(rows, golden.scores.tolist()))


def decode_golden(document: bytes, columns: int) -> Golden:
    """The golden rows and scores of `document`; raises `BundleError`, without the name of the file."""
    rows = decode_rows(document, columns)
    scores = msgspec.json.decode(document, type=_Document).scores
    if len(scores) != len(rows):
        raise BundleError(f"{len(rows)} rows and {len(scores)} scores")
    return Golden(rows, np.array(scores, dtype=np.float64))


def decode_rows(document: bytes, columns: int) -> NDArray[np.float64]:
    """Only the rows: scores that come from elsewhere are not trusted but computed again."""
    try:
        rows = msgspec.json.decode(document, type=_Document).rows
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(str(error)) from error
    if not rows:
        raise BundleError("there are no golden rows, so nothing would be verified")
    for place, row in enumerate(rows):
        if len(row) != columns:
            raise BundleError(f"row {place} has {len(row)} values and the model {columns} features")
    return np.array([[_from_json(value) for value in row] for row in rows], dtype=np.float64)


def check_golden(golden: Golden, engine: Engine) -> str:
    """The sha256 of the scores that the engine gave (little-endian doubles, in the order of the rows).

    Raises `BundleError` unless they are the golden ones to the last bit.
    """
    found = engine.score(golden.rows)
    wrong = np.flatnonzero(found.view(np.uint64) != golden.scores.view(np.uint64))
    if wrong.size:
        first = wrong[0]
        raise BundleError(
            f"row {first} must score {float(golden.scores[first])!r}, the {engine.name} engine gives "
            f"{float(found[first])!r} "
            f"({wrong.size} of {len(found)} rows differ)"
        )
    return hashlib.sha256(found.astype("<f8").tobytes()).hexdigest()


def sample_rows(text: ModelText, features: Sequence[Feature]) -> NDArray[np.float64]:
    """Rows within what training saw of each feature, always the same ones, and one of which all is missing."""
    random = np.random.default_rng(0)
    columns = [_sample(info, feature, random) for info, feature in zip(text.feature_infos, features, strict=True)]
    return np.ascontiguousarray(np.vstack([np.array(columns).T, np.full(len(columns), np.nan)]))


def _sample(info: str, feature: Feature, random: np.random.Generator) -> NDArray[np.float64]:
    if info == "none":  # no split uses it
        return np.full(SAMPLED_ROWS, np.nan)
    if not info.startswith("["):
        codes = random.choice([float(code) for code in info.split(":")], SAMPLED_ROWS)
        return np.where(codes < 0, np.nan, codes)
    low, high = np.clip([float(end) for end in info[1:-1].split(":")], -1e300, 1e300)
    values: NDArray[np.float64] = low + random.random(SAMPLED_ROWS) * (high - low)
    return values if feature.type == "number" else np.round(values)


def _to_json(value: float) -> _Number:
    if math.isfinite(value):
        return value
    return None if math.isnan(value) else "inf" if value > 0 else "-inf"


def _from_json(value: _Number) -> float:
    return _SPECIAL[value] if value is None or isinstance(value, str) else value
