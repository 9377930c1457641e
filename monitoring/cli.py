"""`frontrow drift report`, `frontrow replay` and `frontrow experiment report`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from monitoring.drift import DriftReading
    from monitoring.guardrails import Guardrails
    from registry import Model

Command = Callable[..., Any]
EXIT_DIFFERENT = 1
FETCH_SECONDS = 10

PLACE = click.Path(exists=True, path_type=Path)
PAGE = click.Path(dir_okay=False, path_type=Path)


def _model_options(command: Command) -> Command:
    cache = click.option(
        "--cache",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="FRONTROW_BUNDLE_CACHE",
        default=Path(".frontrow/bundles"),
        show_default=True,
        help="Where downloaded bundles are kept.",
    )
    tracking = click.option("--tracking-uri", envvar="FRONTROW_TRACKING_URI", help="MLflow.")
    catalog = click.option(
        "--catalog",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="The activities that the service ranked (FRONTROW_CATALOG). Default: those in the model's bundle.",
    )
    return catalog(cache(tracking(command)))


@click.group()
def drift() -> None:
    """Look at how far the traffic is from what the models were trained on."""


@drift.command("report")
@click.option("--url", help="A running service, such as http://127.0.0.1:8000.")
@click.option("--log", type=PLACE, help="Instead: a ranking log, a folder or one file of it.")
@click.option("--model", "uri", metavar="URI", help="With --log: the model whose rankings are looked at.")
@click.option(
    "--window-seconds",
    type=click.FloatRange(1, 31 * 86_400),
    default=3_600,
    show_default=True,
    help="With --log: length of a window.",
)
@click.option("--out", type=PAGE, default=Path("drift.html"), show_default=True, help="Page to write.")
@_model_options
def drift_report(
    url: str | None, log: Path | None, uri: str | None, window_seconds: float, out: Path, **where: Any
) -> None:
    """Say which features and scores drift, and draw training beside serving for each of them.

    \b
    frontrow drift report --url http://127.0.0.1:8000
    frontrow drift report --log logs/ --model models:/activity-ranker@champion
    """  # noqa: D301 click reads the \b
    if (url is None) == (log is None) or (log is None) != (uri is None):
        raise click.UsageError("give --url, or --log and --model")
    with _spoken_errors():
        from monitoring import drift_report as report
        from registry.text_table import table

        readings = _live(url) if url is not None else _logged(log or Path(), uri or "", window_seconds, where)
        out.write_text(report.html(readings))
    for variant, reading in readings.items():
        click.echo(report.says(variant, reading))
    for line in table(list(report.lines(readings))):
        click.echo(line)
    click.echo(f"written: {out}")


@click.command()
@click.argument("log", type=PLACE)
@click.option("--model", "uri", required=True, metavar="URI", help="What FRONTROW_CONTROL_MODEL may be.")
@_model_options
def replay(log: Path, uri: str, **where: Any) -> None:
    """Score the rankings of LOG again on a model and say what is different in scores and order.

    LOG is a folder of a ranking log or one file of it. Exit code 1: a ranking by this very model does not come out the
    same to the last bit.
    """
    with _spoken_errors():
        from monitoring.journal import Reader
        from monitoring.ranking_log import KIND, LoggedRanking
        from monitoring.replay import replay as again
        from monitoring.replay import summary

        model = _model(uri, where)
        reader = Reader(log, KIND, LoggedRanking)
        found = summary(again(reader, model, where["catalog"]))
    logged = ", ".join(f"{name} ({count:,})" for name, count in found.models.items()) or "none"
    click.echo(f"log:       {found.rankings:,} rankings, {found.rows:,} rows, by {logged}")
    click.echo(f"model:     {model.bundle.name}/{model.bundle.version}, sha256 {model.bundle.sha256[:8]}")
    click.echo(f"different: {found.differ:,} rankings, largest score difference {found.largest_score_difference:.3g}")
    click.echo(f"order:     {found.order_changed:,} changed, {found.first_changed:,} in the first place")
    click.echo(f"alike:     Kendall tau {found.tau:.4f}, overlap of the first ten {found.overlap:.4f}, in the mean")
    if reader.damaged:
        click.echo(f"damaged:   {reader.damaged:,} lines were passed over")
    if found.broken:
        click.echo(f"BROKEN:    {found.broken:,} rankings by this very model are different")
        raise click.exceptions.Exit(EXIT_DIFFERENT)


@click.group()
def experiment() -> None:
    """Look at what an experiment found."""


@experiment.command("report")
@click.argument("log", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", default="ranker", show_default=True, help="The experiment (FRONTROW_EXPERIMENT).")
@click.option(
    "--treatment-share",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="The share that treatment should have (FRONTROW_TREATMENT_SHARE).",
)
@click.option(
    "--goal",
    type=click.Choice(["view", "click", "booking"]),
    default="booking",
    show_default=True,
    help="What a visitor has to do to count as converted.",
)
@click.option(
    "--days",
    "attribution_days",
    type=click.FloatRange(0, 365, min_open=True),
    default=7,
    show_default=True,
    help="How long after the first exposure.",
)
@click.option("--metrics", help="Guardrails: /metrics of the service, an http URL or a file with its text.")
@click.option("--out", type=PAGE, default=Path("experiment.html"), show_default=True, help="Page to write.")
def experiment_report(log: Path, name: str, metrics: str | None, out: Path, **question: Any) -> None:
    """Compare the variants by the logs of a folder: exposures, feedback, and rankings where they are logged.

    Where rankings were interleaved, by whose picks the visitors clicked.

    \b
    frontrow experiment report logs/ --metrics http://127.0.0.1:8000/metrics
    """  # noqa: D301 click reads the \b
    with _spoken_errors():
        from monitoring import experiment_report, preference_report
        from monitoring.experiment import Question, analyze
        from monitoring.exposures import EXPOSURES, FEEDBACK, Exposure, Feedback
        from monitoring.journal import Reader
        from monitoring.preference import preference
        from monitoring.ranking_log import KIND, LoggedRanking

        exposures, feedback = Reader(log, EXPOSURES, Exposure), Reader(log, FEEDBACK, Feedback)
        preferred = preference(name, exposures, feedback)
        if preferred is not None:
            _tell(preference_report, preferred, out)
            return
        rankings = Reader(log, KIND, LoggedRanking)
        found = analyze(Question(name, **question), exposures, feedback, rankings, _guardrails(metrics))
        _tell(experiment_report, found, out)


def _tell(report: Any, found: Any, out: Path) -> None:
    """Write the page, and say the same in words."""
    from registry.text_table import table

    out.write_text(report.html(found))
    click.echo(report.says(found) + "\n")
    for line in table(list(report.rows(found))):
        click.echo(line)
    click.echo("")
    for fact in report.facts(found):
        click.echo(fact)
    click.echo(f"written: {out}")


def _live(url: str) -> dict[str, DriftReading]:
    import msgspec

    from monitoring.drift import DriftReading

    return msgspec.json.decode(_get(f"{url.rstrip('/')}/v1/drift"), type=dict[str, DriftReading])


def _logged(log: Path, uri: str, window_seconds: float, where: dict[str, Any]) -> dict[str, DriftReading]:
    from monitoring.journal import Reader
    from monitoring.logged_drift import logged_drift
    from monitoring.ranking_log import KIND, LoggedRanking

    bundle, reader = _model(uri, where).bundle, Reader(log, KIND, LoggedRanking)
    return {"log": logged_drift(reader, bundle, window_seconds=window_seconds, catalog=where["catalog"])}


def _guardrails(place: str | None) -> Guardrails | None:
    from monitoring.guardrails import read_guardrails

    if place is None:
        return None
    return read_guardrails((_get(place) if place.startswith("http") else Path(place).read_bytes()).decode())


def _get(url: str) -> bytes:
    from urllib.request import Request, urlopen

    if not url.startswith(("http://", "https://")):
        raise click.UsageError(f"{url} is no http address")
    with urlopen(Request(url), timeout=FETCH_SECONDS) as answer:  # noqa: S310 its scheme was looked at
        content: bytes = answer.read()
    return content


def _model(uri: str, where: dict[str, Any]) -> Model:
    from registry import fetch, load_model

    fetched = fetch(uri, cache=where["cache"], tracking_uri=where["tracking_uri"], timeout_seconds=60)
    return load_model(fetched.folder, "reference")


@contextmanager
def _spoken_errors() -> Iterator[None]:
    """What an operator can do something about is said in a line; anything else is a defect and keeps its traceback."""
    import msgspec

    from features import CatalogError
    from monitoring.errors import MonitoringError
    from registry import RegistryError

    try:
        yield
    except (MonitoringError, RegistryError, CatalogError, OSError, msgspec.DecodeError) as error:
        raise click.ClickException(str(error)) from error
