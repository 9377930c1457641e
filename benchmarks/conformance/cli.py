"""`python -m benchmarks.conformance`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmarks.peers.cli import choose_peers, site_of

if TYPE_CHECKING:
    from benchmarks.conformance.suite import Row

QUESTIONS, CANDIDATES = 32, 50


@click.command()
@click.option("--only", "names", callback=choose_peers, default="frontrow", show_default=True, metavar="NAMES")
@click.option("--matching", metavar="TEXT", help="Only checks with TEXT in their name or group.")
@click.option(
    "--build", type=click.Path(file_okay=False, path_type=Path), default=Path("build/peers"), show_default=True
)
def conformance(names: Sequence[str], matching: str | None, build: Path) -> None:
    r"""Treat servers badly and tell what they do.

    Exit code 1: Frontrow failed a check. The peers are those of `python -m benchmarks.peers`.

    \b
    python -m benchmarks.conformance
    python -m benchmarks.conformance --only frontrow,fastapi,mosec --matching chunk
    """
    from benchmarks.conformance.report import markdown
    from benchmarks.conformance.suite import all_checks, examine
    from benchmarks.errors import BenchError
    from benchmarks.peers.errors import NotMeasured
    from benchmarks.peers.query import Questioner
    from benchmarks.peers.roster import FRONTROW, PEERS
    from benchmarks.peers.running import end_servers_when_told_to_stop

    end_servers_when_told_to_stop()
    try:
        site, bundle = site_of(build.resolve())
        queries = Questioner(bundle).ask(CANDIDATES, QUESTIONS)
    except (BenchError, OSError) as error:
        raise click.ClickException(str(error)) from error
    checks = [each for each in all_checks() if matching is None or matching in f"{each.group}: {each.name}"]
    rows: dict[str, list[Row]] = {}
    unmeasured: dict[str, str] = {}
    for peer in [each for each in (FRONTROW, *PEERS) if each.name in names]:
        with click.progressbar(
            length=len(checks), label=peer.name, file=sys.stderr, item_show_func=lambda at: at
        ) as bar:
            try:
                rows[peer.title] = list(examine(peer, queries, site, checks, lambda name: bar.update(1, name)))
            except NotMeasured as error:
                unmeasured[peer.title] = str(error)
    click.echo(markdown(rows, unmeasured), nl=False)
    if not all(row.passed for row in rows.get(FRONTROW.title, [])):
        sys.exit(1)
