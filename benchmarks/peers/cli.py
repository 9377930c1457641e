"""`python -m benchmarks.peers`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from benchmarks.peers.measure import Outcome, Plan, Say, Site
    from benchmarks.peers.peer import Peer, Workload
    from benchmarks.peers.report import Comparison
    from registry import Bundle

WORKLOADS: tuple[Workload, ...] = ("inline", "catalog")
CONNECTIONS = (1, 32, 128)
FEWER_QUERIES = 50  # of those with many candidates: as many bytes, fewer to check
STEPS = 8  # of a turn: the environment, the start, the check, the warm-up, three closed loops, an open one
PAGE = Path("docs/performance.md")


@dataclass(frozen=True)
class Turn:
    """One server, one workload, so many candidates."""

    peer: Peer
    workload: Workload
    candidates: int
    plan: Plan


def choose_peers(_context: click.Context, _parameter: click.Parameter, value: str | None) -> list[str]:
    from benchmarks.peers.roster import ECHO, FRONTROW, PEERS

    known = [peer.name for peer in (FRONTROW, ECHO, *PEERS)]
    names = known if value is None else value.split(",")
    for name in names:
        if name not in known:
            raise click.BadParameter(f"{name!r} is none of {', '.join(known)}")
    return names


@click.command()
@click.option(
    "--only", "names", callback=choose_peers, metavar="NAMES", help="Of these servers alone, as frontrow,mosec."
)
@click.option("--seconds", type=click.IntRange(1, 600), default=3, show_default=True, help="Length of each figure.")
@click.option(
    "--rounds", type=click.IntRange(1, 99), default=3, show_default=True, help="Of all servers; the middle one counts."
)
@click.option(
    "--build",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/peers"),
    show_default=True,
    help="Environments of the peers, the model, logs and results.",
)
@click.option("--install", is_flag=True, help="Make the environments and the model, and measure nothing.")
@click.option(
    "--from", "earlier", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Earlier results."
)
@click.option("--write", is_flag=True, help=f"Write tables and picture into {PAGE}.")
def peers(
    names: Sequence[str], seconds: int, rounds: int, build: Path, earlier: Path | None, *, install: bool, write: bool
) -> None:
    r"""Measure Frontrow and its peers with the same model, requests and load, one after another, in several rounds.

    Every answer of a server is held against Booster.predict before it is measured. A server that cannot be installed,
    does not start or answers wrong stands in the table with the reason. The whole takes some twenty minutes and wants
    the machine for itself.

    \b
    python -m benchmarks.peers
    python -m benchmarks.peers --rounds 1 --seconds 2 --only frontrow,fastapi
    python -m benchmarks.peers --from build/peers/results.json --write
    """
    from benchmarks.errors import BenchError
    from benchmarks.peers.report import load
    from benchmarks.peers.running import end_servers_when_told_to_stop

    end_servers_when_told_to_stop()
    try:
        if install:
            _install(names, build.resolve())
            return
        comparison = load(earlier) if earlier is not None else _compare(names, seconds, rounds, build.resolve())
        _tell(comparison, write=write)
    except (BenchError, OSError) as error:
        raise click.ClickException(str(error)) from error


def turns(names: Sequence[str], seconds: float) -> list[Turn]:
    """Who is measured with what, one after another."""
    from benchmarks.peers.measure import Plan
    from benchmarks.peers.roster import ECHO, FRONTROW, PEERS
    from benchmarks.peers.targets import MANY_P50, USUAL_CANDIDATES

    usual, many = Plan(CONNECTIONS, seconds), Plan((1,), seconds, half=False)
    found = [Turn(peer, workload, USUAL_CANDIDATES, usual) for workload in WORKLOADS for peer in (FRONTROW, *PEERS)]
    found += [Turn(FRONTROW, "catalog", candidates, many) for candidates in MANY_P50]
    found.append(Turn(ECHO, "catalog", USUAL_CANDIDATES, usual))
    return [turn for turn in found if turn.peer.name in names]


def _compare(names: Sequence[str], seconds: int, rounds: int, build: Path) -> Comparison:
    from benchmarks.peers.closed_loop import check_generator
    from benchmarks.peers.measure import measure
    from benchmarks.peers.query import Questioner
    from benchmarks.peers.report import Comparison, machine, save
    from benchmarks.peers.rounds import middle

    check_generator()
    site, bundle = site_of(build)
    questioner = Questioner(bundle)
    began_at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    todo = turns(names, seconds)
    outcomes: list[list[Outcome]] = [[] for _ in todo]
    for number in range(1, rounds + 1):
        for turn, found in zip(todo, outcomes, strict=True):
            queries = questioner.ask(turn.candidates, *([] if turn.plan.half else [FEWER_QUERIES]))
            with _progress(turn, f"{number}/{rounds}") as say:
                found.append(measure(turn.peer, turn.workload, queries, turn.plan, site=site, say=say))
            _tell_outcome(found[-1])
    titles = {turn.peer.name: turn.peer.title for turn in todo}
    comparison = Comparison(began_at, machine(), seconds, rounds, titles, list(map(middle, outcomes)))
    save(comparison, build / "results.json")
    return comparison


def site_of(build: Path) -> tuple[Site, Bundle]:
    """Make what all servers load, unless it is there."""
    from benchmarks.peers.measure import Site
    from benchmarks.peers.query import write_for_peers
    from benchmarks.reference_bundle import train
    from registry import read_bundle

    folder = build / "reference"
    bundle = read_bundle(folder) if folder.exists() else train(folder)
    write_for_peers(bundle, build / "model")
    return Site(build, folder, build / "model"), bundle


def _install(names: Sequence[str], build: Path) -> None:
    from benchmarks.peers.environment import python_of
    from benchmarks.peers.errors import NotInstalled
    from benchmarks.peers.roster import PEERS

    site_of(build)
    chosen = [peer for peer in PEERS if peer.name in names]
    failed: list[str] = []
    with click.progressbar(
        chosen, label="environments", item_show_func=lambda peer: None if peer is None else peer.name
    ) as bar:
        for peer in bar:
            try:
                python_of(peer, build / peer.name)
            except NotInstalled as error:
                failed.append(f"{peer.name}: {error}")
    for line in failed:
        click.echo(line, err=True)
    sys.exit(bool(failed))


@contextmanager
def _progress(turn: Turn, number: str) -> Iterator[Say]:
    """A bar with what is being done on a terminal, one plain line elsewhere."""
    label = f"{number}: {turn.peer.name}, {turn.workload}, {turn.candidates:,} candidates"
    with click.progressbar(length=STEPS, label=label, file=sys.stderr, item_show_func=lambda step: step) as bar:
        yield lambda step: bar.update(1, step)
        bar.update(STEPS - bar.pos)


def _tell_outcome(outcome: Outcome) -> None:
    if outcome.figures is None:
        click.echo(f"  not measured: {outcome.reason}", err=True)
    else:
        click.echo(f"  {outcome.figures.capacity:,.0f} answers/s", err=True)


def _tell(comparison: Comparison, *, write: bool) -> None:
    from benchmarks.page import write_into
    from benchmarks.peers.picture import draw
    from benchmarks.peers.report import PICTURE, markdown

    text = markdown(comparison)
    click.echo(text, nl=False)
    if write:
        draw(comparison, PAGE.parent / PICTURE)
        write_into(PAGE, f"\n![Answers a second of Frontrow and its peers]({PICTURE})\n\n{text}\n", "peers")
        click.echo(f"written: {PAGE}, {PAGE.parent / PICTURE}", err=True)
