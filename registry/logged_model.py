"""The files that were logged to MLflow for a model, read as the parts of a bundle. Nothing in them is executed."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import yaml
from numpy.typing import NDArray

from registry.bundle import CATALOG, GOLDEN, MODEL, PROFILE, parse_text
from registry.errors import BundleError
from registry.example import EXAMPLE_ROWS, encoded_rows, read_example, readable_rows
from registry.golden import decode_rows, sample_rows
from registry.signature import Feature, Value, check_features, foreign_features, read_features
from scoring import ModelText

FOLDER = "frontrow"  # what `frontrow train` adds to the files that MLflow writes itself

_MLMODEL = "MLmodel"
_EXAMPLE = "input_example.json"
_FEATURES, _GOLDEN, _PROFILE, _CATALOG = (f"{FOLDER}/{name}" for name in ("features.json", GOLDEN, PROFILE, CATALOG))
_BOOSTER = "lightgbm.basic.Booster"

PATHS = (_MLMODEL, MODEL, _EXAMPLE, _FEATURES, _GOLDEN, _PROFILE, _CATALOG)


@dataclass(frozen=True)
class LoggedModel:
    """The parts of a bundle that come from the model itself, as `write_bundle` takes them."""

    model_text: bytes
    features: Sequence[Feature]
    golden_rows: NDArray[np.float64]
    example: Sequence[Mapping[str, Value]]
    profile: bytes | None
    catalog: bytes | None


def read_logged_model(files: Mapping[str, bytes], *, sha256: str | None) -> LoggedModel:
    """Read what there is of `PATHS`; `sha256` is the digest of the model that the registry knows, None for unknown.

    A model that `frontrow train` logged brings its feature list and golden rows. For any other they are made: features
    from the booster and MLflow's signature, golden rows from the input example and from within what training saw.
    Raises `BundleError`.
    """
    description = _read_mlmodel(files)
    text = _read_text(files, description, sha256)
    features = _features(text, files, description)
    example = read_example(files[_EXAMPLE], features) if _EXAMPLE in files else []
    golden_rows = (
        decode_rows(files[_GOLDEN], len(features))
        if _GOLDEN in files
        else np.vstack([encoded_rows(example, features), sample_rows(text, features)])
    )
    return LoggedModel(
        text.text,
        features,
        golden_rows,
        example or readable_rows(golden_rows[:EXAMPLE_ROWS], features),
        files.get(_PROFILE),
        files.get(_CATALOG),
    )


class _Signature(msgspec.Struct):
    inputs: str | None = None


class _Description(msgspec.Struct):
    """What is read of the MLmodel file."""

    flavors: dict[str, dict[str, Any]] = {}
    signature: _Signature | None = None


def _read_mlmodel(files: Mapping[str, bytes]) -> _Description:
    try:
        return msgspec.convert(yaml.safe_load(files.get(_MLMODEL, b"{}")), _Description)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise BundleError(f"{_MLMODEL}: {' '.join(str(error).split())}") from error


def _read_text(files: Mapping[str, bytes], description: _Description, sha256: str | None) -> ModelText:
    """The validated model. Raises `BundleError` unless a LightGBM booster was saved as text, and it is this one."""
    flavours = description.flavors
    kind = flavours.get("lightgbm", {}).get("model_class", _BOOSTER)  # older MLflow does not say
    if MODEL not in files or "lightgbm" not in flavours or kind != _BOOSTER:
        found = kind if "lightgbm" in flavours else ", ".join(flavours) or "no MLflow model"
        raise BundleError(
            f"there is no LightGBM booster saved as text ({MODEL}) but {found}; "
            "log the booster itself with mlflow.lightgbm.log_model (of an LGBMRanker: its booster_)"
        )
    digest = hashlib.sha256(files[MODEL]).hexdigest()
    if sha256 not in (None, digest):
        raise BundleError(f"sha256 of {MODEL} is {digest} and its tag in the registry says {sha256}")
    return parse_text(files[MODEL])


def _features(text: ModelText, files: Mapping[str, bytes], description: _Description) -> tuple[Feature, ...]:
    if _FEATURES not in files:
        return foreign_features(text, _inputs(description))
    features = read_features(files[_FEATURES])
    check_features(features, text)
    return features


def _inputs(description: _Description) -> list[dict[str, Any]] | None:
    """The columns of the signature's inputs, which MLflow keeps as JSON in the YAML."""
    if description.signature is None or description.signature.inputs is None:
        return None
    try:
        return msgspec.json.decode(description.signature.inputs, type=list[dict[str, Any]])
    except msgspec.DecodeError as error:
        raise BundleError(f"{_MLMODEL}: signature: {error}") from error
