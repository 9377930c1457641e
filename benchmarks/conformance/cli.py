"""`python -m benchmarks.conformance`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmarks.peers.cli import site_of

if TYPE_CHECKING:
    from benchmarks.conformance.finding import Check
    from benchmarks.conformance.report import Examination
    from benchmarks.peers.measure import Site
    from benchmarks.peers.peer import Peer
    from benchmarks.peers.query import Query

QUESTIONS, CANDIDATES = 32, 50
PAGE = Path("docs/conformance.md")


def _everyone() -> dict[str, Peer]:
    from benchmarks.conformance.frontrow import FRONTROW
    from benchmarks.peers.roster import PEERS

    return {peer.name: peer for peer in (FRONTROW, *PEERS)}


def _choose(_context: click.Context, _parameter: click.Parameter, value: str | None) -> list[Peer]:
    known = _everyone()
    names = list(known) if value is None else value.split(",")
    for name in names:
        if name not in known:
            raise click.BadParameter(f"{name!r} is none of {', '.join(known)}")
    return [known[name] for name in names]


def _import(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Peer | None:
    """The adapter that `module:NAME` stands for."""
    from benchmarks.peers.peer import Peer

    if value is None:
        return None
    module, _, name = value.partition(":")
    sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise click.BadParameter(str(error)) from error
    if not isinstance(found, Peer):
        raise click.BadParameter(f"{value} is no benchmarks.peers.peer.Peer")
    return found


@click.command()
@click.option("--only", "peers", callback=_choose, metavar="NAMES", help="Of these servers alone, as frontrow,mosec.")
@click.option("--adapter", callback=_import, metavar="MODULE:NAME", help="A server of yours, in place of all others.")
@click.option("--matching", metavar="TEXT", help="Only checks with TEXT in `group: name`.")
@click.option(
    "--overload-seconds",
    type=click.FloatRange(2, 3_600),
    default=10,
    show_default=True,
    help="How long memory is watched at ten times the capacity.",
)
@click.option(
    "--slow", type=click.IntRange(1, 20_000), default=500, show_default=True, help="Slow connections at a time."
)
@click.option("--saved", is_flag=True, help="Ask nobody; tell what earlier runs found.")
@click.option("--write", is_flag=True, help=f"Write what is known of all servers into {PAGE}.")
@click.option(
    "--build", type=click.Path(file_okay=False, path_type=Path), default=Path("build/peers"), show_default=True
)
def conformance(
    peers: Sequence[Peer],
    adapter: Peer | None,
    *,
    matching: str | None,
    overload_seconds: float,
    slow: int,
    build: Path,
    saved: bool,
    write: bool,
) -> None:
    r"""Treat servers badly and tell what they do.

    Exit code 1: Frontrow failed a check, or your own server did. What a run finds is kept under build/peers, so that
    servers and checks can be looked at in pieces.

    \b
    python -m benchmarks.conformance --only frontrow
    python -m benchmarks.conformance --only frontrow,mosec --matching "under load"
    python -m benchmarks.conformance --only frontrow --slow 5000 --overload-seconds 600
    python -m benchmarks.conformance --adapter my_server:PEER
    python -m benchmarks.conformance --saved --write
    """
    from benchmarks.conformance.slow_callers import allow_connections
    from benchmarks.conformance.suite import all_checks
    from benchmarks.conformance.under_load import Scale
    from benchmarks.errors import BenchError
    from benchmarks.peers.running import end_servers_when_told_to_stop

    end_servers_when_told_to_stop()
    chosen = list(peers) if adapter is None else [adapter]
    checks = all_checks(Scale(overload_seconds, slow))
    right = True
    try:
        if not saved:
            allow_connections(slow)
            picked = [each for each in checks if matching is None or matching in f"{each.group}: {each.name}"]
            right = _examine(chosen, picked, build.resolve())
        click.echo(_told(chosen, checks, build), nl=False)
        if write:
            _write(_told(_everyone().values(), checks, build))
    except (BenchError, OSError) as error:
        raise click.ClickException(str(error)) from error
    sys.exit(not right)


def _examine(chosen: Sequence[Peer], checks: Sequence[Check], build: Path) -> bool:
    """Keep what each server shows; returns whether Frontrow, or a server of the caller's own, passed."""
    from benchmarks.conformance.report import save
    from benchmarks.peers.query import Questioner
    from benchmarks.peers.roster import PEERS

    site, bundle = site_of(build)
    queries = Questioner(bundle).ask(CANDIDATES, QUESTIONS)
    right = True
    for peer in chosen:
        found = _examine_one(peer, queries, site, checks)
        save(found, _file(build, peer))
        whole = found.reason is None and all(row.verdict != "failed" for row in found.rows)
        right = right and (whole or peer in PEERS)
    return right


def _examine_one(peer: Peer, queries: Sequence[Query], site: Site, checks: Sequence[Check]) -> Examination:
    from benchmarks.conformance.report import Examination
    from benchmarks.conformance.suite import examine
    from benchmarks.peers.errors import NotMeasured
    from benchmarks.peers.report import machine

    began_at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    with click.progressbar(length=len(checks), label=peer.name, file=sys.stderr, item_show_func=lambda at: at) as bar:
        try:
            rows = list(examine(peer, queries, site, checks, lambda name: bar.update(1, name)))
        except NotMeasured as error:
            return Examination(peer.title, began_at, machine(), [], str(error))
    return Examination(peer.title, began_at, machine(), rows)


def _file(build: Path, peer: Peer) -> Path:
    return build / "conformance" / f"{peer.name}.json"


def _told(peers: Iterable[Peer], checks: Sequence[Check], build: Path) -> str:
    """What is known of `peers`, from this run and from earlier ones."""
    from benchmarks.conformance.report import load, markdown

    files = [file for peer in peers if (file := _file(build, peer)).exists()]
    return markdown([load(file) for file in files], [(check.group, check.name) for check in checks])


def _write(text: str) -> None:
    from benchmarks.page import write_into

    write_into(PAGE, f"\n{text}\n", "conformance")
    click.echo(f"written: {PAGE}", err=True)
