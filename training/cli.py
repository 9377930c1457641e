"""The commands `frontrow train` and `frontrow demo`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from training.demo import Marketplace
    from training.inputs import Inputs
    from training.live import Comparison, Judgement
    from training.register import Registered
    from training.tables import RankingTable
    from training.train import Recipe, Stopped, Trained

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
DEMO = Path(".frontrow") / "demo"
NAME = "activity-ranker"


_registry_option = click.option(
    "--tracking-uri",
    envvar="FRONTROW_TRACKING_URI",
    help="MLflow. Default: MLFLOW_TRACKING_URI, else .frontrow/mlflow.db here.",
)


def _names(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(name.strip() for name in value.split(",") if name.strip())


@click.command()
@click.argument("table", type=FILE)
@click.option("--format", "form", type=click.Choice(["auto", "parquet", "csv", "svmlight"]), default="auto")
@click.option("--query-column", default="query", show_default=True, help="Which rows are ranked against each other.")
@click.option("--label-column", default="label", show_default=True, help="How good a row was: 0, 1, 2, ...")
@click.option("--time-column", help="When a row was shown: the latest fifth of the queries is held out.")
@click.option("--ignore", callback=_names, default="", help="Columns that are no features: a,b,c.")
@click.option("--context", callback=_names, help="Features that a whole query shares: a,b. Default: found by looking.")
@click.option("--catalog", type=FILE, help="Parquet of activity features with an `id` column, packed with the model.")
@click.option("--events", type=FILE, help="What visitors did: adds history features. Needs --time-column, --catalog.")
@click.option("--visitor-column", help="Who was shown it. With --events: visitor.")
@click.option("--activity-column", help="What was shown, once in a query. With --events: activity.")
@click.option("--schema", type=FILE, help="What you expect of the columns: a pandera schema in YAML.")
@click.option("--test", type=FILE, help="A table that is only scored.")
@click.option("--ablation", is_flag=True, help="Say what history features are worth on --test. Needs --events.")
@click.option("--name", default=NAME, show_default=True, help="Registered model.")
@click.option("--alias", default="challenger", show_default=True, help="Alias that moves to the new version.")
@click.option("--rounds", type=click.IntRange(1), default=500, show_default=True, help="Most trees.")
@click.option("--leaves", type=click.IntRange(2, 4096), default=31, show_default=True, help="Most leaves of a tree.")
@click.option("--learning-rate", type=click.FloatRange(0, 1, min_open=True), default=0.05, show_default=True)
@click.option("--min-rows-in-leaf", type=click.IntRange(1), default=20, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=7, show_default=True)
@click.option("--threads", type=click.IntRange(0), default=0, show_default=True, help="0: as LightGBM decides.")
@_registry_option
def train(
    *,
    table: Path,
    form: Any,
    query_column: str,
    label_column: str,
    time_column: str | None,
    ignore: tuple[str, ...],
    context: tuple[str, ...] | None,
    catalog: Path | None,
    events: Path | None,
    visitor_column: str | None,
    activity_column: str | None,
    schema: Path | None,
    test: Path | None,
    ablation: bool,
    name: str,
    alias: str,
    tracking_uri: str | None,
    **recipe: Any,
) -> None:
    """Train a LambdaRank model on TABLE and register it.

    TABLE is parquet, CSV, or svmlight with `qid:` or a .query file beside it. It is tested first; a table that cannot
    be trusted is refused with the columns and rows that are wrong.

    \b
    frontrow train rank.train --test rank.test
    frontrow train sessions.parquet --time-column shown_at --catalog catalog.parquet --events events.parquet
    """  # noqa: D301 click reads the \b
    if events and not (time_column and catalog):
        raise click.UsageError("--events needs --time-column and --catalog: when it was shown, and what was viewed")
    if ablation and not (events and test):
        raise click.UsageError("--ablation needs --events and --test")
    if events:
        visitor_column, activity_column = visitor_column or "visitor", activity_column or "activity"
    with _spoken_errors():
        from registry.uri import parse_uri
        from training.files import Columns
        from training.inputs import Files, read_inputs

        parse_uri(f"models:/{name}@{alias}")  # a name that nobody could load by is refused before the work
        columns = Columns(query_column, label_column, time_column, ignore, visitor_column, activity_column)
        inputs = read_inputs(
            Files(table=table, columns=columns, form=form, test=test, catalog=catalog, events=events, schema=schema),
            context,
        )
        from training.register import open_store, register  # MLflow takes seconds: not to say that a column is missing
        from training.train import Recipe

        client = open_store(tracking_uri)
        _say_table(inputs)
        found, trained = _train_with_bars(inputs, Recipe(**recipe))
        held_out, tested = _judgements(inputs, found, trained)
        comparison = _against_live(client, name, tested or held_out)
        metrics = held_out.means() | ({f"test_{key}": value for key, value in tested.means().items()} if tested else {})
        registered = register(
            client,
            trained,
            inputs.learn,
            name=name,
            alias=alias,
            catalog=catalog,
            metrics=metrics,
            tags=_tags(comparison),
        )
    click.echo(f"best round: {found.rounds}, judged by {len(found.queries):,} held-out queries")
    _say_metrics({"held out": held_out.means(), **({tested.name: tested.means()} if tested else {})})
    if ablation and inputs.test:
        _say_ablation(trained, inputs.learn, inputs.test)
    _say_comparison(comparison)
    _say_registered(registered)
    click.echo(f"next: frontrow models promote --name {name} --version {registered.version}")


def _judgements(inputs: Inputs, found: Stopped, trained: Trained) -> tuple[Judgement, Judgement | None]:
    """On the queries that chose the number of rounds, and on the table that decided nothing."""
    from training.live import Judgement
    from training.train import judge

    held_out = Judgement(inputs.learn, found.queries, found.judged)
    return held_out, None if inputs.test is None else Judgement.of_all(inputs.test, judge(trained, inputs.test))


def _against_live(client: MlflowClient, name: str, new: Judgement) -> Comparison | None:
    """Compare with the live version, if there is one that can be judged on the same queries."""
    from training.live import NotCompared, against_live

    try:
        return against_live(client, name, new)
    except NotCompared as error:
        click.echo(f"not compared with the champion: {error}", err=True)
        return None


def _tags(comparison: Comparison | None) -> dict[str, str]:
    return {} if comparison is None else comparison.tags()


@click.command()
@click.option("--force", is_flag=True, help="Train and register again, although the models are there.")
@click.option("--sessions", type=click.IntRange(60), default=6_000, show_default=True, help="Searches to invent.")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), default=DEMO, show_default=True)
@_registry_option
def demo(*, sessions: int, folder: Path, tracking_uri: str | None, force: bool) -> None:
    """Make a marketplace, train two different models on it and register them.

    Control gets the alias champion, treatment the alias challenger of the model activity-ranker. Nothing happens when
    both are there already.

    \b
    frontrow demo
    frontrow demo --force
    """  # noqa: D301 click reads the \b
    with _spoken_errors():
        from training.demo import ALIASES, CITIES, Size, make_marketplace
        from training.register import aliases, open_store

        client = open_store(tracking_uri)
        there = aliases(client, NAME)
        if not force and all(alias in there for alias in ALIASES):
            for alias in ALIASES:
                click.echo(f"{alias} is models:/{NAME}/{there[alias]}")
            click.echo("the demo models are there already; --force makes new versions")
            return
        with _bar("making the marketplace", len(CITIES)) as tick:
            market = make_marketplace(folder, Size(sessions=sessions), progress=tick)
        _register_demo(client, market)
    click.echo("next: frontrow serve")


def _train_with_bars(inputs: Inputs, recipe: Recipe) -> tuple[Stopped, Trained]:
    from training.train import boost, stop_early

    with _bar("searching the best round", recipe.rounds) as tick:
        found = stop_early(inputs.learn, inputs.features, recipe, progress=tick)
    with _bar(f"training {found.rounds} trees on all queries", found.rounds) as tick:
        trained = boost(inputs.learn, inputs.features, recipe, found.rounds, progress=tick)
    return found, trained


def _register_demo(client: MlflowClient, market: Marketplace) -> None:
    """Train and register both variants; the second is compared with the first, which is live then."""
    from training.demo import VARIANTS, variant_features
    from training.live import Judgement, compare
    from training.register import register
    from training.train import boost, judge

    sessions, latest = market.read()
    live: tuple[str, Judgement] | None = None
    for variant in VARIANTS:
        with _bar(f"training {variant.name}", variant.recipe.rounds) as tick:
            trained = boost(sessions, variant_features(sessions, variant), variant.recipe, progress=tick)
        judged = Judgement.of_all(latest, judge(trained, latest))
        comparison = compare(live[0], judged, live[1].values) if live else None
        registered = register(
            client,
            trained,
            sessions,
            name=NAME,
            alias=variant.alias,
            catalog=market.catalog,
            metrics=judged.means(),
            tags=_tags(comparison),
        )
        live = live or (registered.version, judged)
        _say_metrics({f"{variant.name} on {judged.name}": judged.means()})
        _say_comparison(comparison)
        _say_registered(registered)
    _say_worth_of_history(trained, sessions, latest)


def _say_worth_of_history(trained: Trained, learn: RankingTable, test: RankingTable) -> None:
    from training.ablation import NO_HISTORY, ablate

    with _bar("training without history features", trained.booster.num_trees()) as tick:
        without, full = ablate(trained, learn, test, [NO_HISTORY], progress=tick)
    click.echo(f"history features: NDCG@10 {without.ndcg:.4f} -> {full.ndcg:.4f}, {full.gain}")


def _say_ablation(trained: Trained, learn: RankingTable, test: RankingTable) -> None:
    from training.ablation import GROUPS, ablate

    with _bar("training with some history features", trained.booster.num_trees() * len(GROUPS)) as tick:
        lines = ablate(trained, learn, test, progress=tick)
    click.echo(f"{'history features':24}  {'features':8}  NDCG@10  more than without")
    for line in lines:
        click.echo(f"{line.name:24}  {line.features:8}   {line.ndcg:.4f}  {line.gain or ''}".rstrip())


@contextmanager
def _bar(label: str, length: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, one plain line elsewhere."""
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield lambda: bar.update(1)


@contextmanager
def _spoken_errors() -> Iterator[None]:
    """What a person can do something about is said in a line; anything else is a defect and keeps its traceback."""
    from lightgbm.basic import LightGBMError

    from registry import RegistryError
    from scoring import ModelTextError
    from training.errors import TrainingError

    try:
        yield
    except (TrainingError, RegistryError, ModelTextError, LightGBMError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _say_table(inputs: Inputs) -> None:
    table, features = inputs.learn, inputs.features
    context = [feature.name for feature in features if feature.role == "context"]
    click.echo(f"{table.path.name}: {table.rows:,} rows in {table.queries:,} queries, {len(features)} features")
    click.echo(f"context: {', '.join(context) or 'none'}")


def _say_metrics(lines: Mapping[str, Mapping[str, float]]) -> None:
    width = max(map(len, lines))
    for name, metrics in lines.items():
        values = "  ".join(f"{key.upper()} {value:.4f}" for key, value in metrics.items())
        click.echo(f"{name:{width}}  {values}")


def _say_comparison(comparison: Comparison | None) -> None:
    from registry.promotion import METRIC

    if comparison is None:
        return
    gain, metric = comparison.gains[METRIC], METRIC.upper()
    live, new = comparison.live[METRIC], comparison.new[METRIC]
    where = f"{comparison.table}, {comparison.queries:,} queries"
    click.echo(f"against live version {comparison.version} on {where}: {metric} {live:.4f} -> {new:.4f}, {gain}")


def _say_registered(registered: Registered) -> None:
    golden = registered.golden
    click.echo(
        f"golden rows: {len(golden.rows)}, visiting {golden.leaves_visited:,} of {golden.leaves_reached:,} leaves"
    )
    click.echo(f"registered {registered.uri} with alias {registered.alias}")
