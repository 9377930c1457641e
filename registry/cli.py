"""The commands `frontrow models` and `frontrow release bundle`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from registry.text_table import table

if TYPE_CHECKING:
    from registry import Model

Command = Callable[..., Any]
METRIC_TAG = r"(test_)?(ndcg_at_\d+|map|mrr)"


def _registry_option(command: Command) -> Command:
    return click.option(
        "--tracking-uri",
        envvar="FRONTROW_TRACKING_URI",
        help="MLflow. Default: MLFLOW_TRACKING_URI, else .frontrow/mlflow.db here.",
    )(command)


def _fetch_options(command: Command) -> Command:
    cache = click.option(
        "--cache",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="FRONTROW_BUNDLE_CACHE",
        default=Path(".frontrow/bundles"),
        show_default=True,
        help="Where downloaded bundles are kept.",
    )
    limit = click.option(
        "--timeout",
        "timeout_seconds",
        type=click.FloatRange(0, 600, min_open=True),
        envvar="FRONTROW_REGISTRY_TIMEOUT_SECONDS",
        default=60,
        show_default=True,
        help="Longest wait for MLflow, in seconds.",
    )
    return _registry_option(cache(limit(command)))


@click.group()
def models() -> None:
    """List, show, compare and promote the models of the registry."""


@models.command("list")
@_registry_option
def list_models(tracking_uri: str | None) -> None:
    """List every registered version, newest first."""
    with _spoken_errors(), _registry(tracking_uri) as where:
        from registry.mlflow_source import list_versions

        rows = [
            (
                one.name,
                one.version,
                ",".join(one.aliases),
                f"{one.trained_at:%Y-%m-%d %H:%M}",
                _ndcg(one.tags),
                one.run_id,
                one.tags.get("sha256", "")[:8],
            )
            for one in list_versions()
        ]
        if not rows:
            click.echo(f"no model is registered in {where}")
            return
        for line in table([("NAME", "VERSION", "ALIASES", "TRAINED (UTC)", "NDCG", "RUN", "SHA256"), *rows]):
            click.echo(line)


@models.command()
@click.argument("uri")
@_fetch_options
def show(uri: str, tracking_uri: str | None, cache: Path, timeout_seconds: float) -> None:
    """Show what there is to know about a model: URI is what FRONTROW_CONTROL_MODEL may be."""
    from registry import fetch, load_model

    with _spoken_errors():
        fetched = fetch(uri, cache=cache, tracking_uri=tracking_uri, timeout_seconds=timeout_seconds)
        bundle = load_model(fetched.folder, "reference").bundle
    facts = {
        "name": bundle.name,
        "version": bundle.version,
        "run id": bundle.run_id,
        "source": bundle.source,
        "alias": bundle.alias,
        "trained at": bundle.trained_at.isoformat(),
        "code revision": bundle.code_revision,
        "objective": bundle.objective,
        "trees": bundle.trees,
        "bundle": fetched.folder,
        "origin": f"{fetched.origin}: {fetched.detail}",
        "golden rows": f"{len(bundle.golden().rows)}, every score equal to the last bit",
    }
    for line in table([(f"{name}:", "-" if fact is None else str(fact)) for name, fact in facts.items()]):
        click.echo(line)
    click.echo(f"\nfeatures ({len(bundle.features)}):")
    for line in table([(one.name, one.role, one.type, ", ".join(one.categories or ())) for one in bundle.features]):
        click.echo(f"  {line}")
    click.echo("\nfiles (sha256):")
    for line in table(sorted(bundle.files.items())):
        click.echo(f"  {line}")


@models.command()
@click.argument("first")
@click.argument("second")
@_fetch_options
def diff(first: str, second: str, tracking_uri: str | None, cache: Path, timeout_seconds: float) -> None:
    """Show what is different in the SECOND model: features, parameters, metrics, trees, scores and order.

    Both are what FRONTROW_CONTROL_MODEL may be.

    \b
    frontrow models diff models:/activity-ranker@champion models:/activity-ranker@challenger
    """  # noqa: D301 click reads the \b
    from registry import fetch_all, load_model
    from registry.difference_report import report

    with _spoken_errors():
        fetched = fetch_all([first, second], cache=cache, tracking_uri=tracking_uri, timeout_seconds=timeout_seconds)
        one, other = (load_model(each.folder, "reference") for each in fetched)
    for line in report(one, other, [_metric_tags(model, tracking_uri) for model in (one, other)]):
        click.echo(line)


def _metric_tags(model: Model, tracking_uri: str | None) -> dict[str, str]:
    """Metrics from the tags of the version, where the registry can be asked: they are no part of a bundle."""
    from registry import RegistryError

    try:
        with _registry(tracking_uri):
            from registry.mlflow_source import candidate

            tags = candidate(model.bundle.name, model.bundle.version, "champion").tags
    except RegistryError:
        return {}
    return {name: value for name, value in sorted(tags.items()) if re.fullmatch(METRIC_TAG, name)}


@models.command()
@click.option("--name", required=True, help="Registered model.")
@click.option("--version", required=True, type=click.IntRange(1), help="Version that gets the alias.")
@click.option("--alias", default="champion", show_default=True, help="Alias that moves.")
@click.option("--force", is_flag=True, help="Also a version that is not known to be better than the champion.")
@_registry_option
def promote(name: str, version: int, alias: str, tracking_uri: str | None, *, force: bool) -> None:
    """Move an alias to a version. What runs takes it when it looks: see FRONTROW_MODEL_POLL_SECONDS, and SIGHUP.

    The alias champion moves only to a version that `frontrow train` found to rank better than the one that has it.
    """
    with _spoken_errors(), _registry(tracking_uri):
        from registry.mlflow_source import candidate, set_alias

        found = candidate(name, str(version), alias)
        evidence = _evidence(found.tags, found.before, str(version), alias, force=force)
        set_alias(name, str(version), alias)
    click.echo(f"before: {_alias(name, alias, found.before)}\nafter:  {_alias(name, alias, str(version))}{evidence}")


def _evidence(tags: Mapping[str, str], before: str | None, version: str, alias: str, *, force: bool) -> str:
    """Why the alias may move, to be said after it has; raises a `ClickException` when it may not."""
    from registry.promotion import LIVE, NotBetter, check_better

    if alias != LIVE or before in (None, version):
        return ""
    try:
        return f"\nwhy:    {check_better(tags, before)}"
    except NotBetter as error:
        if not force:
            raise click.ClickException(f"version {version} stays what it is: {error}; --force promotes it") from error
        return f"\nforced: {error}"


@click.command()
@click.option("--model", "uri", required=True, metavar="URI", help="models:/name@alias, models:/name/3, runs:/id/path.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write; must not be there yet.")
@_fetch_options
def bundle(uri: str, out: Path, tracking_uri: str | None, cache: Path, timeout_seconds: float) -> None:
    """Write a model with everything needed to serve and verify it into a folder, ready for an image.

    The registry is asked now: unlike the service, this command never makes do with the last known good bundle.
    """
    from registry import RegistryUnavailable, fetch, load_model
    from registry.bundle import copy_bundle
    from registry.uri import RegisteredModel, parse_uri

    with _spoken_errors():
        fetched = fetch(uri, cache=cache, tracking_uri=tracking_uri, timeout_seconds=timeout_seconds)
        if fetched.origin == "last-known-good":
            raise RegistryUnavailable(f"{fetched.detail}, but a release takes only what the registry says now")
        found = load_model(fetched.folder, "reference").bundle
        model = parse_uri(uri)
        if isinstance(model, Path):
            written = copy_bundle(found, out, source=found.source, alias=found.alias)
        else:
            alias = model.alias if isinstance(model, RegisteredModel) else None
            written = copy_bundle(found, out, source=uri, alias=alias)
    click.echo(f"{written.folder}: {written.name}/{written.version}, sha256 {written.sha256}")


class _Unusable(click.ClickException):
    exit_code = 3  # as `frontrow serve` ends when a model cannot be served


@contextmanager
def _registry(tracking_uri: str | None) -> Iterator[str]:
    """Set MLflow up before it is imported, and say where it looks."""
    from registry.fetch import check_local_store, default_tracking_uri, mlflow_environment, without_credentials

    where = tracking_uri or default_tracking_uri()
    check_local_store(where)
    os.environ.update(mlflow_environment(timeout_seconds=10), MLFLOW_TRACKING_URI=where, MLFLOW_LOGGING_LEVEL="WARNING")
    yield without_credentials(where)


@contextmanager
def _spoken_errors() -> Iterator[None]:
    """What an operator can do something about is said in a line; anything else is a defect and keeps its traceback."""
    from registry import RegistryError

    try:
        yield
    except (RegistryError, OSError) as error:
        raise _Unusable(str(error)) from error


def _ndcg(tags: Mapping[str, str]) -> str:
    """`0.7123@5 0.7331@10`, from the tags `ndcg_at_5` and `ndcg_at_10`."""
    cuts = sorted(int(match[1]) for key in tags if (match := re.fullmatch(r"ndcg_at_(\d+)", key)))
    return " ".join(f"{tags[f'ndcg_at_{cut}']}@{cut}" for cut in cuts)


def _alias(name: str, alias: str, version: str | None) -> str:
    return f"{name}@{alias} is {'no version' if version is None else f'version {version}'}"
