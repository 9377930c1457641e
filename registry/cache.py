"""Bundles fetched earlier, and which of them was the last known good for a model URI."""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from registry.bundle import Bundle, read_bundle
from registry.errors import BundleError

_ABANDONED_SECONDS = 3_600


@dataclass(frozen=True)
class Question:
    """What was asked of whom. `registry` is safe to show: it carries no credentials."""

    uri: str
    registry: str


class Record(msgspec.Struct, frozen=True):
    """Which bundle answered a question last, and when the registry said so. `folder` is relative to the cache."""

    uri: str
    registry: str
    folder: str
    fetched_at: datetime


class BundleCache:
    """A folder of bundles, `<name>/<version>-<8 digits>/`, written once and never changed.

    The digits are of model and run, so a version of the same number in another registry has another folder.

    Any number of processes may use it at once: whatever appears in it appears complete.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def __str__(self) -> str:
        return str(self.root)

    def folder(self, name: str, version: str, *, run_id: str | None, sha256: str) -> Path:
        identity = hashlib.sha256(f"{sha256} {run_id}".encode()).hexdigest()
        return self.root / name / f"{version}-{identity[:8]}"

    def bundles(self, name: str, version: str, discard: Path) -> Iterator[Bundle]:
        """Every intact bundle of this version; a damaged one is moved away into the folder `discard`."""
        for folder in sorted((self.root / name).glob(f"{version}-*")):
            try:
                yield read_bundle(folder)
            except BundleError:
                folder.rename(discard / f"damaged-{folder.name}")

    def remember(self, question: Question, folder: Path, at: datetime) -> None:
        """Note that the registry named this verified bundle at that time."""
        record = Record(question.uri, question.registry, str(folder.relative_to(self.root)), at)
        place = self._record(question)
        place.parent.mkdir(parents=True, exist_ok=True)
        write_whole(place, msgspec.json.encode(record))

    def last_known_good(self, question: Question) -> tuple[Bundle, Record] | None:
        """The bundle that answered this question last, if it is still intact."""
        try:
            record = msgspec.json.decode(self._record(question).read_bytes(), type=Record)
            return read_bundle(self.root / record.folder), record
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, BundleError):
            return None

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """A folder for unfinished work, in the same file system as the bundles; it is removed in the end."""
        self.root.mkdir(parents=True, exist_ok=True)
        self._sweep()
        with tempfile.TemporaryDirectory(dir=self.root, prefix=".asking-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)

    def _sweep(self) -> None:
        """Remove workspaces whose owner was killed."""
        for folder in self.root.glob(".asking-*"):
            try:
                abandoned = time.time() - folder.stat().st_mtime > _ABANDONED_SECONDS
            except FileNotFoundError:
                continue
            if abandoned:
                shutil.rmtree(folder, ignore_errors=True)

    def _record(self, question: Question) -> Path:
        key = hashlib.sha256(f"{question.registry}\n{question.uri}".encode()).hexdigest()
        return self.root / ".last-known-good" / f"{key[:32]}.json"


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file so that a reader sees the old content or the new one, never a part."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(content)
    unfinished.replace(path)
