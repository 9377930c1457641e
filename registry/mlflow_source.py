"""MLflow as a source of bundles. The only module that imports mlflow; `registry.fetch` runs it in a child process.

Nothing that comes from the registry is executed: of a model only LightGBM's text, JSON, YAML and parquet files of
fixed names are downloaded, and the text is validated before LightGBM sees it.
"""

import hashlib
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import mlflow
import msgspec
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from registry.bundle import MAX_FILE_BYTES, Bundle, read_bundle, read_file, write_bundle
from registry.cache import BundleCache, write_whole
from registry.errors import BundleError, BundleExistsError, ModelNotFound, RegistryError, RegistryUnavailable
from registry.fetch import Answer, without_credentials
from registry.logged_model import FOLDER, PATHS, read_logged_model
from registry.model import load_model
from registry.uri import RegisteredModel, RunModel, parse_uri

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
        if (bundle.source, bundle.run_id) != (self.uri, self.run_id):
            return False
        return self.run_id is not None if self.sha256 is None else bundle.sha256 == self.sha256


class Reporter:
    """Leaves word of how far the fetch is in a file that the parent process reads."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def __call__(self, answer: Answer) -> None:
        write_whole(self._place, msgspec.json.encode(answer))


def main() -> None:
    """Fetch models; `answer.json` in the workspace of each says how far it is and, in the end, how it went."""
    cache, limit_seconds, *questions = sys.argv[1:]
    signal.alarm(int(limit_seconds) + 1)  # the parent kills us at the limit, unless it is gone itself
    for uri, workspace in zip(questions[::2], questions[1::2], strict=True):
        _fetch_and_say(uri, BundleCache(Path(cache)), Path(workspace))


def _fetch_and_say(uri: str, cache: BundleCache, workspace: Path) -> None:
    report = Reporter(workspace / "answer.json")
    try:
        with spoken_errors():
            report(fetch_model(uri, cache, workspace, report))
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
        aliases: dict[tuple[str, str], list[str]] = {}
        for model in _pages(client.search_registered_models):
            for alias, version in sorted(model.aliases.items()):
                aliases.setdefault((model.name, str(version)), []).append(alias)
        for one in sorted(_pages(client.search_model_versions), key=lambda one: (one.name, -_number(one))):
            named = tuple(aliases.get((one.name, str(one.version)), ()))
            yield Version(one.name, str(one.version), named, one.run_id or "", _trained_at(one), dict(one.tags))


class Candidate(NamedTuple):
    """A version that may get an alias: what its tags say, and the version that has the alias now (None: no version)."""

    tags: Mapping[str, str]
    before: str | None


def candidate(name: str, version: str, alias: str) -> Candidate:
    """Look a version up. Raises `ModelNotFound` when there is no such version, and `RegistryUnavailable`."""
    with spoken_errors():
        client = MlflowClient()
        with _absent(f"models:/{name}/{version}"):
            tags = dict(client.get_model_version(name, version).tags)
            before = client.get_registered_model(name).aliases.get(alias)
    return Candidate(tags, None if before is None else str(before))


def set_alias(name: str, version: str, alias: str) -> None:
    """Move the alias to this version. Raises `RegistryUnavailable`."""
    with spoken_errors():
        MlflowClient().set_registered_model_alias(name, alias, version)


@contextmanager
def spoken_errors() -> Iterator[None]:
    """Whatever fails while MLflow is spoken to is `RegistryUnavailable`, in one line and without credentials."""
    try:
        yield
    except RegistryError:
        raise
    except Exception as error:  # database drivers, HTTP clients and object stores raise what they like
        raise RegistryUnavailable(f"MLflow at {_where()} cannot be used: {_one_line(_reason(error))}") from error


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


def _reason(error: BaseException) -> BaseException:
    """What the system said, where that is under layers of HTTP clients; else the error itself."""
    under = error.__cause__ or error.__context__
    reason = None if under is None else _reason(under)
    return reason if isinstance(reason, OSError) else error


def _one_line(error: BaseException) -> str:
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
    if FOLDER in sizes:
        sizes |= {f"{FOLDER}/{name}": size for name, size in _list_files(f"{model.uri}/{FOLDER}").items()}
    wanted = [path for path in PATHS if path in sizes]
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
    try:
        parts = read_logged_model(files, sha256=model.sha256)
    except BundleError as error:
        raise BundleError(f"{model.uri}: {error}") from error
    digest = hashlib.sha256(parts.model_text).hexdigest()
    folder = cache.folder(model.name, model.version, run_id=model.run_id, sha256=digest)
    try:
        return write_bundle(
            folder,
            **vars(parts),
            name=model.name,
            version=model.version,
            source=model.uri,
            trained_at=model.trained_at,
            run_id=model.run_id,
            code_revision=model.code_revision,
        )
    except BundleExistsError:  # another process was faster
        return read_bundle(folder)
