"""MLflow as a source of bundles. The only module that imports mlflow; `registry.fetch` runs it in a child process.

Nothing that comes from the registry is executed: of a model only LightGBM's text, JSON, YAML and parquet files of
fixed names are downloaded, and the text is validated before LightGBM sees it.
"""

import hashlib
import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import mlflow
import msgspec
import numpy as np
import yaml  # type: ignore[import-untyped]
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from registry.bundle import (
    CATALOG,
    GOLDEN,
    MAX_FILE_BYTES,
    MODEL,
    PROFILE,
    Bundle,
    parse_text,
    read_bundle,
    read_file,
    write_bundle,
)
from registry.cache import BundleCache, write_whole
from registry.errors import BundleError, BundleExistsError, ModelNotFound, RegistryError, RegistryUnavailable
from registry.example import EXAMPLE_ROWS, encoded_rows, read_example, readable_rows
from registry.fetch import Answer, without_credentials
from registry.golden import decode_rows, sample_rows
from registry.model import load_model
from registry.signature import Feature, Value, foreign_features, read_features
from registry.uri import RegisteredModel, RunModel, parse_uri
from scoring import ModelText

DESCRIPTION = "MLmodel"
EXAMPLE = "input_example.json"
OURS = "frontrow"
FEATURES = "features.json"
_WANTED = (DESCRIPTION, MODEL, EXAMPLE, *(f"{OURS}/{name}" for name in (FEATURES, GOLDEN, PROFILE, CATALOG)))
_ABSENT = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}  # the second is said of an unknown alias


@dataclass(frozen=True)
class Resolved:
    """A model that does not change any more: `uri` names one version or one run for good."""

    uri: str
    name: str
    version: str
    run_id: str | None
    sha256: str | None
    trained_at: datetime
    code_revision: str | None

    def is_in(self, bundle: Bundle) -> bool:
        """Whether the bundle was made from this very model."""
        if self.sha256 is not None:
            return bundle.sha256 == self.sha256
        return self.run_id is not None and (bundle.source, bundle.run_id) == (self.uri, self.run_id)


class Reporter:
    """Leaves word of how far the fetch is in a file that the parent process reads."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def __call__(self, answer: Answer) -> None:
        write_whole(self._place, msgspec.json.encode(answer))


def main() -> None:
    """Fetch one model; `answer.json` in the workspace says how far it is and, in the end, how it went."""
    uri, cache, workspace, limit_seconds = sys.argv[1:]
    signal.alarm(int(limit_seconds) + 1)  # the parent kills us at the limit, unless it is gone itself
    report = Reporter(Path(workspace) / "answer.json")
    try:
        with spoken_errors():
            report(fetch_model(uri, BundleCache(Path(cache)), Path(workspace), report))
    except ModelNotFound as error:
        report(Answer("not found", str(error)))
    except BundleError as error:
        report(Answer("refused", str(error)))
    except RegistryUnavailable as error:
        report(Answer("unavailable", str(error)))


@dataclass(frozen=True)
class Version:
    """One line of `frontrow models list`: a registered version, with what its tags say."""

    name: str
    version: str
    aliases: tuple[str, ...]
    run_id: str
    trained_at: datetime
    tags: Mapping[str, str]


def list_versions() -> Iterator[Version]:
    """Every registered version, newest first within a model. Raises `RegistryUnavailable`."""
    with spoken_errors():
        client = MlflowClient()
        for model in _pages(client.search_registered_models):
            named = [(alias, str(version)) for alias, version in model.aliases.items()]
            found = _pages(client.search_model_versions, filter_string=f"name='{model.name}'")
            for one in sorted(found, key=lambda one: int(one.version), reverse=True):
                version = str(one.version)
                aliases = tuple(sorted(alias for alias, of in named if of == version))
                yield Version(model.name, version, aliases, one.run_id or "", _trained_at(one), dict(one.tags))


def promote(name: str, version: str, alias: str) -> str | None:
    """Move the alias to this version; returns the version that had it, None where no version had.

    Raises `ModelNotFound` when there is no such version, and `RegistryUnavailable`.
    """
    with spoken_errors():
        client = MlflowClient()
        with _absent(f"models:/{name}/{version}"):
            client.get_model_version(name, version)
            before = client.get_registered_model(name).aliases.get(alias)
        client.set_registered_model_alias(name, alias, version)
    return None if before is None else str(before)


@contextmanager
def spoken_errors() -> Iterator[None]:
    """Whatever fails while MLflow is spoken to is `RegistryUnavailable`, in one line and without credentials."""
    try:
        yield
    except RegistryError:
        raise
    except Exception as error:  # database drivers, HTTP clients and object stores raise what they like
        raise RegistryUnavailable(f"MLflow at {_where()} cannot be used: {_one_line(error)}") from error


@contextmanager
def _absent(uri: str) -> Iterator[None]:
    """What MLflow does not know is `ModelNotFound`."""
    try:
        yield
    except MlflowException as error:
        if error.error_code not in _ABSENT:
            raise
        raise ModelNotFound(f"MLflow at {_where()} has no {uri}: {_one_line(error)}") from error


def _where() -> str:
    return without_credentials(mlflow.get_tracking_uri())


def _one_line(error: Exception) -> str:
    text = " ".join(without_credentials(str(error)).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:297]}..."


# ---- one model


def fetch_model(uri: str, cache: BundleCache, workspace: Path, report: Callable[[Answer], None]) -> Answer:
    """Find the model, get its bundle into the cache unless it is there, and verify it in full.

    `workspace` is an empty folder in the file system of the cache. Raises `BundleError` for what must not be served;
    what else fails is whatever MLflow raises (`spoken_errors`).
    """
    report(Answer("asking"))
    client = MlflowClient()
    with _absent(uri):
        model = _resolve(client, uri)
    bundle = next((one for one in cache.bundles(model.name, model.version, workspace) if model.is_in(one)), None)
    how = "in the cache already"
    if bundle is None:
        how = "downloaded"
        report(Answer("downloading", f"the download of {model.uri}"))
        files = _download(model, workspace)
        report(Answer("verifying", f"the verification of {model.uri}"))
        bundle = _make_bundle(model, files, cache)
    report(Answer("verifying", f"the verification of {model.uri}"))
    load_model(bundle.folder, "reference")
    return Answer("verified", f"{model.name}/{model.version} of MLflow at {_where()}, {how}", str(bundle.folder))


def _resolve(client: MlflowClient, uri: str) -> Resolved:
    match parse_uri(uri):
        case RegisteredModel(name, version, alias):
            return _resolve_registered(client, name, version, alias)
        case RunModel(run_id, _) as model:
            run = client.get_run(run_id)
            revision = run.data.tags.get("mlflow.source.git.commit")
            return Resolved(uri, model.name, run_id, run_id, None, _moment(run.info.start_time), revision)
    raise AssertionError(f"{uri} needs no MLflow")


def _resolve_registered(client: MlflowClient, name: str, version: str | None, alias: str | None) -> Resolved:
    if alias is not None:
        found = client.get_model_version_by_alias(name, alias)
    elif version == "latest":
        found = max(_pages(client.search_model_versions, filter_string=f"name='{name}'"), key=_number, default=None)
        if found is None:
            raise ModelNotFound(f"MLflow at {_where()} has no version of {name}")
    else:
        found = client.get_model_version(name, version)
    number = str(found.version)
    return Resolved(
        f"models:/{name}/{number}",
        name,
        number,
        found.run_id or None,
        found.tags.get("sha256"),
        _trained_at(found),
        found.tags.get("code_revision"),
    )


def _pages(search: Callable[..., Any], **question: str) -> Iterator[Any]:
    token = None
    while True:
        page = search(**question, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _number(version: Any) -> int:
    return int(version.version)


def _trained_at(version: Any) -> datetime:
    """The tag that training sets, else when the version was registered."""
    try:
        moment = datetime.fromisoformat(version.tags["trained_at"])
    except (KeyError, ValueError):
        return _moment(version.creation_timestamp)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


# ---- its files


def _download(model: Resolved, workspace: Path) -> dict[str, bytes]:
    """Path -> content of the files that a bundle is made of, as far as the model has them.

    Only these fixed paths are ever asked for, so no name that the registry makes up reaches the file system.
    """
    sizes = _list_files(model.uri)
    if OURS in sizes:
        sizes |= {f"{OURS}/{name}": size for name, size in _list_files(f"{model.uri}/{OURS}").items()}
    wanted = [path for path in _WANTED if path in sizes]
    for path in wanted:
        if sizes[path] > MAX_FILE_BYTES:
            raise BundleError(f"{path} of {model.uri} has {sizes[path]} bytes and {MAX_FILE_BYTES} are allowed")
    return {path: _download_file(model.uri, path, workspace) for path in wanted}


def _list_files(uri: str) -> dict[str, int]:
    """Name -> bytes of what is in that folder of the artifact store; 0 where the store does not say."""
    return {PurePosixPath(info.path).name: info.file_size or 0 for info in mlflow.artifacts.list_artifacts(uri)}


def _download_file(uri: str, path: str, workspace: Path) -> bytes:
    there = Path(mlflow.artifacts.download_artifacts(f"{uri}/{path}", dst_path=str(workspace / "download")))
    return read_file(there.parent, there.name)


def _make_bundle(model: Resolved, files: Mapping[str, bytes], cache: BundleCache) -> Bundle:
    """Write the downloaded model into the cache as a bundle."""
    described = _described(model, files)
    digest = hashlib.sha256(files[MODEL]).hexdigest()
    if model.sha256 not in (None, digest):
        raise BundleError(f"{MODEL} of {model.uri}: sha256 is {digest} and its tag in the registry says {model.sha256}")
    try:
        text = parse_text(files[MODEL])
        features = _features(text, described, files)
        example = read_example(files[EXAMPLE], features) if EXAMPLE in files else []
        golden_rows = _golden_rows(text, features, example, files)
    except BundleError as error:
        raise BundleError(f"{model.uri}: {error}") from error
    folder = cache.folder(model.name, model.version, digest)
    try:
        return write_bundle(
            folder,
            model_text=files[MODEL],
            features=features,
            golden_rows=golden_rows,
            example=example or readable_rows(golden_rows[:EXAMPLE_ROWS], features),
            name=model.name,
            version=model.version,
            source=model.uri,
            trained_at=model.trained_at,
            run_id=model.run_id,
            code_revision=model.code_revision,
            profile=files.get(f"{OURS}/{PROFILE}"),
            catalog=files.get(f"{OURS}/{CATALOG}"),
        )
    except BundleExistsError:  # another process was faster
        return read_bundle(folder)


def _described(model: Resolved, files: Mapping[str, bytes]) -> dict[str, Any]:
    """The MLmodel file. Raises `BundleError` unless it is of a LightGBM booster that was saved as text."""
    described = yaml.safe_load(files[DESCRIPTION]) if DESCRIPTION in files else {}
    flavours = described.get("flavors", {}) if isinstance(described, dict) else {}
    kind = flavours.get("lightgbm", {}).get("model_class", "lightgbm.basic.Booster")
    if MODEL not in files or "lightgbm" not in flavours or kind != "lightgbm.basic.Booster":
        found = kind if "lightgbm" in flavours else ", ".join(flavours) or "no MLflow model"
        raise BundleError(
            f"{model.uri} is no LightGBM booster saved as text ({MODEL}) but {found}; "
            "log the booster itself with mlflow.lightgbm.log_model (of an LGBMRanker: its booster_)"
        )
    return dict(described)


def _features(text: ModelText, described: Mapping[str, Any], files: Mapping[str, bytes]) -> tuple[Feature, ...]:
    if ours := files.get(f"{OURS}/{FEATURES}"):
        return read_features(ours)
    inputs = (described.get("signature") or {}).get("inputs")
    return foreign_features(text, json.loads(inputs) if inputs else None)


def _golden_rows(
    text: ModelText, features: Sequence[Feature], example: Sequence[dict[str, Value]], files: Mapping[str, bytes]
) -> NDArray[np.float64]:
    """The golden rows that training chose; else those of the example and some within what training saw."""
    if ours := files.get(f"{OURS}/{GOLDEN}"):
        return decode_rows(ours, len(features))
    return np.vstack([encoded_rows(example, features), sample_rows(text, features)])
