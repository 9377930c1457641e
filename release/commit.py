"""A commit as git tells it."""

import os
from dataclasses import dataclass
from pathlib import Path

from release.errors import CommitError, ToolError
from release.tools import run

REVISION_DIGITS = 12


@dataclass(frozen=True)
class Commit:
    """`revision` is what `code_revision` says of it; `seconds` its time since the epoch; `paths` what it touches."""

    revision: str
    subject: str
    message: str
    seconds: int
    paths: tuple[str, ...]


def read_commit(name: str, *, since: str | None = None, folder: Path = Path()) -> Commit:
    """The commit with that name (HEAD, a branch, a revision), and the paths that differ from `since`.

    `since` is what was pushed upon; without it the first parent, so a merge touches all that it brings in. A moved
    file touches both its places. Raises `CommitError` for a name that git does not know.
    """
    seconds, message = _git(folder, "log", "-1", "--format=%ct%x00%B", _commit(folder, name)).split("\0", 1)
    if since is None:
        listed = _git(
            folder, "log", "-1", "--first-parent", "-m", "--no-renames", "--name-only", "--format=", "-z", name
        )
    else:
        listed = _git(folder, "diff", "--no-renames", "--name-only", "-z", _commit(folder, since), name)
    message = message.strip()
    return Commit(
        revision=_git(folder, "rev-parse", f"--short={REVISION_DIGITS}", f"{name}^{{commit}}").strip(),
        subject=message.partition("\n")[0],
        message=message,
        seconds=int(seconds),
        paths=tuple(path for path in listed.split("\0") if path),
    )


def unpack(revision: str, into: Path, *, folder: Path = Path()) -> None:
    """Write the files of a commit, and nothing else of the work tree, into a folder. Raises `CommitError`."""
    into.mkdir(parents=True, exist_ok=True)
    archive = into / ".archive.tar"
    _git(folder, "archive", "--format=tar", f"--output={os.fspath(archive.resolve())}", _commit(folder, revision))
    run("tar", "--extract", f"--file={archive}", f"--directory={into}")
    archive.unlink()


def _commit(folder: Path, name: str) -> str:
    try:
        return _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}").strip()
    except ToolError as error:
        raise CommitError(f"git knows no commit {name!r} in {folder.resolve()}") from error


def _git(folder: Path, *arguments: str) -> str:
    return run("git", "-C", os.fspath(folder), "--no-optional-locks", *arguments)
