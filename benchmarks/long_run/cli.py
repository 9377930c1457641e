"""Many requests for a long time, with hang-ups, poison, model swaps and SIGTERMs. Prints a table of promises.

    python -m benchmarks.long_run BUNDLE_A BUNDLE_B --minutes 20 --requests 1000000

Two processes serve the bundles in turn: a link that both were given points to one, then to the other, and SIGHUP says
so. (The first bundle has every feature of the second, or no running service would take it.) One of the processes gets
SIGTERM amid requests, again and again; the other lives through it all and shows what grows. Three of ten callers hang
up, one request in a thousand fails whatever scores it. Every answer is held against what the model version that it
names says of the same request alone, every request against the service's log, and all of them against its metrics at
each rest. The services are `tests/benchmarks/poisoned_service.py`: all of `frontrow serve`, and poison.
"""

import sys
from pathlib import Path

import click
import uvloop

from benchmarks.errors import BenchError
from benchmarks.long_run.report import draw, failed, table
from benchmarks.long_run.run import LongRun, Outcome, Plan, long_run, prepare
from benchmarks.page import check_place, write_into

SUBJECT = "long-run"  # of the place on the page


@click.command()
@click.argument("bundle_a", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("bundle_b", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--requests", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.option(
    "--minutes", type=click.FloatRange(0, min_open=True), default=20, show_default=True, help="To ask them in."
)
@click.option(
    "--sigterm-seconds", type=click.FloatRange(0), default=120, show_default=True, help="Between SIGTERMs; 0: none."
)
@click.option("--swap-seconds", type=click.FloatRange(0), default=30, show_default=True, help="Between swaps; 0: none.")
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), help="Of what was held: .svg or .png.")
@click.option("--write", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A page with markers.")
def main(
    *,
    bundle_a: Path,
    bundle_b: Path,
    requests: int,
    minutes: float,
    sigterm_seconds: float,
    swap_seconds: float,
    picture: Path | None,
    write: Path | None,
) -> None:
    """Serve two bundles in turn for a long time. Exit code 1: a promise was broken."""
    plan = Plan((bundle_a.resolve(), bundle_b.resolve()), requests, minutes, sigterm_seconds, swap_seconds)
    try:
        if write is not None:
            check_place(write, SUBJECT)
        outcome = _run(plan)
    except* BenchError as errors:
        raise click.ClickException(str(_first(errors))) from errors
    if write is not None and picture is None:
        picture = write.with_suffix(".svg")
    click.echo(table(outcome), nl=False)
    if picture is not None:
        draw(outcome, picture)
    if write is not None:
        write_into(write, table(outcome, picture.name if picture else None), SUBJECT)
    if failed(outcome):
        sys.exit(1)


def _run(plan: Plan) -> Outcome:
    click.echo("asking for every body alone", err=True)
    prepared = prepare(plan)
    with click.progressbar(length=plan.requests, label="asking", file=sys.stderr, item_show_func=_so_far) as bar:

        async def run() -> Outcome:
            async with long_run(plan, prepared) as it:
                return await it.run(lambda count: bar.update(count, it))

        return uvloop.run(run())


def _so_far(run: LongRun | None) -> str | None:
    if run is None:
        return None
    wrong = run.ledger.crossed + run.ledger.wrong
    return f"{run.terminations} SIGTERMs, {run.swaps} swaps, {wrong} wrong answers"


def _first(errors: BaseException) -> BaseException:
    return _first(errors.exceptions[0]) if isinstance(errors, BaseExceptionGroup) else errors
