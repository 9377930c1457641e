"""The model bundle: a folder with a model and everything needed to serve and verify it (docs/registry.md)."""

import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from registry.errors import BundleError, BundleExistsError
from registry.golden import Golden, decode_golden, encode_golden
from registry.signature import Feature, Value, check_features
from scoring import ModelText, ModelTextError, ReferenceEngine, parse_model_text, tables_file

FORMAT: Final = 1
DESCRIPTION: Final = "bundle.json"
MODEL: Final = "model.lgb"
GOLDEN: Final = "golden.json"
PROFILE: Final = "profile.json"
CATALOG: Final = "catalog.parquet"
TABLES: Final = "model.tables"
REQUIRED: Final = frozenset({MODEL, GOLDEN})
MAX_FILE_BYTES: Final = 256 * 2**20
MAX_TABLE_BYTES: Final = MAX_FILE_BYTES - 2**20  # the file says a little more than the tables

_FILE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}(?:\.[a-z0-9]{1,16}){1,2}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `bundle.json` says. `files` is name -> sha256 of every other file of the folder."""

    format: int
    name: str
    version: str
    run_id: str | None
    alias: str | None
    source: str
    objective: str | None
    trees: int
    trained_at: Annotated[datetime, msgspec.Meta(tz=True)]
    code_revision: str | None
    features: tuple[Feature, ...]
    example: tuple[dict[str, Value], ...]
    files: dict[str, str]

    @property
    def sha256(self) -> str:
        """The digest of the model itself."""
        return self.files[MODEL]


class Bundle(Description, frozen=True, kw_only=True):
    """A bundle on disk: its description, and the folder that holds its files."""

    folder: Path

    def read(self, name: str) -> bytes:
        """The content of one of `files`; raises `BundleError` unless it still has its digest."""
        content = read_file(self.folder, name)
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.files[name]:
            raise BundleError(f"{self.folder / name}: sha256 is {digest} and {DESCRIPTION} says {self.files[name]}")
        return content

    def golden(self) -> Golden:
        """The rows and their scores; raises `BundleError`."""
        document = self.read(GOLDEN)
        try:
            return decode_golden(document, len(self.features))
        except BundleError as error:
            raise BundleError(f"{self.folder / GOLDEN}: {error}") from error

    def profile(self) -> dict[str, Any] | None:
        """The training distribution of each feature and of the score, or None where the bundle has none."""
        if PROFILE not in self.files:
            return None
        profile: dict[str, Any] = msgspec.json.decode(self.read(PROFILE))
        return profile

    @property
    def catalog(self) -> Path | None:
        """The activity features, a parquet file, or None where the bundle has none."""
        return self.folder / CATALOG if CATALOG in self.files else None

    @property
    def tables(self) -> Path | None:
        """The compiled tables of the model, or None where the bundle has none."""
        return self.folder / TABLES if TABLES in self.files else None


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle and check its format, its file names and every sha256. Nothing of the model is parsed.

    Raises `BundleError`, which names the file, what is expected there and what was found.
    """
    if not (folder / DESCRIPTION).is_file():
        raise BundleError(f"{folder} is no bundle: there is no {DESCRIPTION} in it")
    description = _decode_description(folder)
    bundle = Bundle(folder=folder, **_fields(description))
    _check_file_names(bundle)
    for name in bundle.files:
        bundle.read(name)
    _check_example(bundle)
    return bundle


def write_bundle(
    folder: Path,
    *,
    model_text: bytes,
    features: Sequence[Feature],
    golden_rows: NDArray[np.float64],
    example: Sequence[Mapping[str, Value]],
    name: str,
    version: str,
    source: str,
    trained_at: datetime,
    run_id: str | None = None,
    alias: str | None = None,
    code_revision: str | None = None,
    profile: bytes | None = None,
    catalog: bytes | None = None,
) -> Bundle:
    """Write a bundle that `load_model` accepts; `folder` appears complete or not at all.

    `golden_rows` is (rows, features) float64; their scores are computed here with the reference engine, and the model's
    tables, where it can be compiled. `trained_at` has a time zone. Raises `BundleError` for a model, features or rows
    that do not belong together, and `BundleExistsError` when `folder` is there already.
    """
    text = parse_text(model_text)
    check_features(features, text)
    rows = np.ascontiguousarray(golden_rows, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[0] == 0 or rows.shape[1] != text.features:
        raise BundleError(f"golden rows have the shape {rows.shape} and the model {text.features} features")
    golden = Golden(rows, ReferenceEngine(text).score(rows))
    contents = {MODEL: model_text, GOLDEN: encode_golden(golden), PROFILE: profile, CATALOG: catalog}
    contents[TABLES] = tables_file(text, budget_bytes=MAX_TABLE_BYTES)
    files = {name: content for name, content in contents.items() if content is not None}
    description = Description(
        format=FORMAT,
        name=name,
        version=version,
        run_id=run_id,
        alias=alias,
        source=source,
        objective=text.objective,
        trees=len(text.trees),
        trained_at=trained_at,
        code_revision=code_revision,
        features=tuple(features),
        example=tuple(dict(row) for row in example),
        files={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    )
    return _publish(description, files, folder)


def copy_bundle(bundle: Bundle, folder: Path, *, source: str, alias: str | None) -> Bundle:
    """Copy a bundle, with tables of this version's format, and note under which name it was asked for.

    Raises like `read_bundle` and `write_bundle`.
    """
    contents: dict[str, bytes | None] = {name: bundle.read(name) for name in bundle.files}
    contents[TABLES] = tables_file(parse_text(bundle.read(MODEL)), budget_bytes=MAX_TABLE_BYTES)
    files = {name: content for name, content in contents.items() if content is not None}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    description = Description(**_fields(bundle) | {"source": source, "alias": alias, "files": digests})
    return _publish(description, files, folder)


def parse_text(model_text: bytes) -> ModelText:
    """The validated model; a text that is refused is a `BundleError`."""
    try:
        return parse_model_text(model_text)
    except ModelTextError as error:
        raise BundleError(f"{MODEL}: {error}") from error


def _publish(description: Description, files: Mapping[str, bytes], folder: Path) -> Bundle:
    """Write everything into a folder beside the target and rename it: a crash leaves nothing that looks like a bundle.

    Of two writers of one folder one wins; the other gets `BundleExistsError` and the folder is whole all the time.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unfinished-", ignore_cleanup_errors=True) as temporary:
        unfinished = Path(temporary) / "bundle"
        unfinished.mkdir()
        for name, content in files.items():
            (unfinished / name).write_bytes(content)
        document = msgspec.json.format(msgspec.json.encode(description), indent=1)
        (unfinished / DESCRIPTION).write_bytes(document + b"\n")
        read_bundle(unfinished)
        try:
            unfinished.rename(folder)
        except OSError as error:
            if folder.exists():
                raise BundleExistsError(f"{folder} is there already; remove it or choose another") from error
            raise
    return read_bundle(folder)


def _decode_description(folder: Path) -> Description:
    document = read_file(folder, DESCRIPTION)
    try:
        found = msgspec.json.decode(document, type=_Format).format
        if found != FORMAT:
            raise BundleError(f"{folder / DESCRIPTION}: the format is {found} and this version reads format {FORMAT}")
        return msgspec.json.decode(document, type=Description)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"{folder / DESCRIPTION}: {error}") from error


class _Format(msgspec.Struct):
    format: int


def _check_file_names(bundle: Bundle) -> None:
    """The folder holds exactly the listed files, each a plain file with a plain name."""
    place = bundle.folder / DESCRIPTION
    for name, digest in bundle.files.items():
        if not _FILE_NAME.fullmatch(name) or name == DESCRIPTION:
            raise BundleError(f"{place}: {name!r} is no name for a file of a bundle")
        if not _DIGEST.fullmatch(digest):
            raise BundleError(f"{place}: the sha256 of {name} is {digest!r}, not 64 hexadecimal digits")
    if lacking := sorted(REQUIRED - bundle.files.keys()):
        raise BundleError(f"{place} lists no {' and no '.join(lacking)}")
    there = {path.name for path in bundle.folder.iterdir()} - {DESCRIPTION}
    if missing := sorted(bundle.files.keys() - there):
        raise BundleError(f"{bundle.folder / missing[0]} is missing, {DESCRIPTION} lists it")
    if stray := sorted(there - bundle.files.keys()):
        raise BundleError(f"{bundle.folder / stray[0]} is not listed in {DESCRIPTION}")


def _check_example(bundle: Bundle) -> None:
    features = {feature.name: feature for feature in bundle.features}
    for place, row in enumerate(bundle.example):
        for name, value in row.items():
            if name not in features:
                raise BundleError(f"{bundle.folder / DESCRIPTION}: row {place} of the example has no feature {name!r}")
            try:
                features[name].encode(value)
            except ValueError as error:
                raise BundleError(f"{bundle.folder / DESCRIPTION}: row {place} of the example: {error}") from error


def read_file(folder: Path, name: str) -> bytes:
    """The content of a regular file of at most 256 MiB; never follows a link."""
    path = folder / name
    try:
        with open(path, "rb", opener=_open_no_link) as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise BundleError(f"{path} is no regular file")
            if facts.st_size > MAX_FILE_BYTES:
                raise BundleError(f"{path} has {facts.st_size} bytes and {MAX_FILE_BYTES} are allowed")
            return file.read(facts.st_size + 1)  # what was added since does not match its sha256
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from error


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe without a writer must not hang us


def _fields(description: Description) -> dict[str, Any]:
    return {name: getattr(description, name) for name in Description.__struct_fields__}
