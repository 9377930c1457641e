"""The record of releases: a file with one JSON object a line, to which lines are only ever added.

Whatever was pushed is in the OCI registry; what that does not know is what ran when, and what the canary said of it.
"""

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from release.errors import HistoryError
from release.plan import Live

RECORD = Path(".frontrow/releases.jsonl")

Event = Literal["released", "refused", "rolled-back"]
Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "none"]


class Release(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happened to an image. `control` and `treatment` are `name/version`; `repository` is host and name.

    `event`: `released` and `rolled-back` put it live, `refused` did not. `verdict` is the canary's; `none` when it was
    not asked.
    """

    at: Annotated[datetime, msgspec.Meta(tz=True)]
    event: Event
    repository: str
    tag: str
    digest: Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}$")]
    code: str
    control: str
    treatment: str
    verdict: Verdict
    reason: str = ""

    @property
    def image(self) -> str:
        """The name by which an image can only ever be itself."""
        return f"{self.repository}@{self.digest}"

    @property
    def live(self) -> Live:
        return Live(self.code, self.control, self.treatment)


def read_history(record: Path) -> list[Release]:
    """Every release, the oldest first; none where there is no record yet. Raises `HistoryError` with the line."""
    try:
        lines = record.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HistoryError(f"{record}: {error.strerror}") from error
    return list(_decode(record, lines))


def append(record: Path, release: Release) -> None:
    """Add a release: one write, on disk when this returns, whoever else writes at the same time."""
    record.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(record, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, msgspec.json.encode(release) + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def now() -> datetime:
    """When a line of the record is written."""
    return datetime.now(UTC).replace(microsecond=0)


def now_live(history: Sequence[Release]) -> Release | None:
    """The release that serves, or None before the first."""
    return next(iter(_standing(history)[-1:]), None)


def earlier(history: Sequence[Release], wanted: str | None) -> Release:
    """The release to go back to: the one that `wanted` names by digest, tag or code, else what was live before.

    What was rolled back from is not gone back to unless it is named, and what was refused never. Raises `HistoryError`.
    """
    standing = _standing(history)
    if not standing:
        raise HistoryError("nothing was released yet, so there is nothing to go back to")
    if wanted is None:
        if len(standing) < 2:
            raise HistoryError(f"{standing[0].tag} is the only release that stands, so there is none to go back to")
        return standing[-2]
    for one in reversed(history):
        if one.event != "refused" and wanted in (one.digest, one.tag, one.code, one.image):
            if one.digest == standing[-1].digest:
                raise HistoryError(f"{one.tag} ({one.digest}) is live already")
            return one
    raise HistoryError(
        f"no image that was live has the digest, tag or code {wanted!r}; `frontrow release history` lists"
    )


def _standing(history: Sequence[Release]) -> list[Release]:
    """What was put live and not rolled back from since, the oldest first; the last is live."""
    standing: list[Release] = []
    for release in history:
        if release.event == "rolled-back":
            while standing and standing[-1].digest != release.digest:
                standing.pop()
        if release.event != "refused" and (not standing or standing[-1].digest != release.digest):
            standing.append(release)
    return standing


def _decode(record: Path, lines: Sequence[bytes]) -> Iterator[Release]:
    decoder = msgspec.json.Decoder(Release)
    for number, line in enumerate(lines, 1):
        try:
            yield decoder.decode(line)
        except msgspec.MsgspecError as error:
            raise HistoryError(f"{record}, line {number}: {error}") from error
