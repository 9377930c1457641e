"""The commands `frontrow train` and `frontrow demo`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from registry import Feature
    from training.demo import Marketplace
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
@click.option("--test", type=FILE, help="A table that is only scored.")
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
    test: Path | None,
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
    frontrow train sessions.parquet --ignore visitor,activity --time-column shown_at --catalog catalog.parquet
    """  # noqa: D301 click reads the \b
    with _spoken_errors():
        from registry.uri import parse_uri
        from training.catalog import catalog_columns, check_catalog
        from training.features import infer_features
        from training.tables import Columns, read_table

        parse_uri(f"models:/{name}@{alias}")  # a name that nobody could load by is refused before the work
        columns = Columns(query_column, label_column, time_column, ignore)
        learn = read_table(table, columns=columns, form=form)
        features = infer_features(learn, context, catalog=catalog_columns(catalog) if catalog else ())
        tested = read_table(test, columns=columns, form=form, width=len(features)) if test else None
        if catalog:
            check_catalog(catalog, features)
        from training.register import open_store, register  # MLflow takes seconds: not to say that a column is missing
        from training.train import Recipe, evaluate

        client = open_store(tracking_uri)
        _say_table(learn, features)
        found, trained = _train_with_bars(learn, features, Recipe(**recipe))
        scored = {} if tested is None else evaluate(trained, tested)
        metrics = {**found.metrics, **{f"test_{key}": value for key, value in scored.items()}}
        registered = register(client, trained, learn, name=name, alias=alias, catalog=catalog, metrics=metrics)
    click.echo(f"best round: {found.rounds}, judged by {found.held_out_queries:,} held-out queries")
    _say_metrics({"held out": found.metrics, **({test.name: scored} if test else {})})
    _say_registered(registered)
    click.echo(f"next: frontrow models promote --name {name} --version {registered.version}")


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


def _train_with_bars(table: RankingTable, features: Sequence[Feature], recipe: Recipe) -> tuple[Stopped, Trained]:
    from training.train import boost, stop_early

    with _bar("searching the best round", recipe.rounds) as tick:
        found = stop_early(table, features, recipe, progress=tick)
    with _bar(f"training {found.rounds} trees on all queries", found.rounds) as tick:
        trained = boost(table, features, recipe, found.rounds, progress=tick)
    return found, trained


def _register_demo(client: MlflowClient, market: Marketplace) -> None:
    from training.demo import NOT_FEATURES, VARIANTS, variant_features
    from training.register import register
    from training.tables import Columns, read_table
    from training.train import boost, evaluate

    columns = Columns(ignore=NOT_FEATURES)
    sessions, latest = (read_table(path, columns=columns) for path in (market.sessions, market.latest))
    for variant in VARIANTS:
        with _bar(f"training {variant.name}", variant.recipe.rounds) as tick:
            trained = boost(sessions, variant_features(sessions, variant), variant.recipe, progress=tick)
        scored = evaluate(trained, latest)
        registered = register(
            client, trained, sessions, name=NAME, alias=variant.alias, catalog=market.catalog, metrics=scored
        )
        _say_metrics({f"{variant.name} on {market.latest.name}": scored})
        _say_registered(registered)


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


def _say_table(table: RankingTable, features: Sequence[Feature]) -> None:
    context = [feature.name for feature in features if feature.role == "context"]
    click.echo(f"{table.path.name}: {table.rows:,} rows in {table.queries:,} queries, {len(features)} features")
    click.echo(f"context: {', '.join(context) or 'none'}")


def _say_metrics(lines: Mapping[str, Mapping[str, float]]) -> None:
    width = max(map(len, lines))
    for name, metrics in lines.items():
        values = "  ".join(f"{key.upper()} {value:.4f}" for key, value in metrics.items())
        click.echo(f"{name:{width}}  {values}")


def _say_registered(registered: Registered) -> None:
    golden = registered.golden
    click.echo(
        f"golden rows: {len(golden.rows)}, visiting {golden.leaves_visited:,} of {golden.leaves_reached:,} leaves"
    )
    click.echo(f"registered {registered.uri} with alias {registered.alias}")
