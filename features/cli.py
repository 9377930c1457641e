"""The command `frontrow catalog`."""

from __future__ import annotations

from pathlib import Path

import click

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


def _names(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


@click.group()
def catalog() -> None:
    """Make the snapshot of activities that a service looks candidates up in."""


@catalog.command()
@click.argument("table", type=FILE)
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Parquet file to write.")
@click.option("--id-column", default="id", show_default=True, help="What activities are called in requests.")
@click.option("--ignore", callback=_names, default="", help="Columns to leave out: a,b,c.")
@click.option("--model", type=FOLDER, help="A bundle folder; the columns have to fit its features.")
def build(table: Path, out: Path, id_column: str, ignore: tuple[str, ...], model: Path | None) -> None:
    """Write the snapshot of TABLE, which is parquet or CSV with a row for each activity.

    A table that cannot be trusted is refused with the columns and rows that are wrong, and OUT stays as it is. A
    running service that watches OUT sees the old snapshot or the new one, never a part of it.

    \b
    frontrow catalog build activities.csv --out catalog.parquet --id-column sku --model build/model
    """  # noqa: D301 click reads the \b
    from features.catalog import CatalogError
    from features.snapshot import build_snapshot

    try:
        built = build_snapshot(table, out, id_column=id_column, ignore=ignore, model=model)
    except (CatalogError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{out}: {built.activities:,} activities, {built.columns} columns, {built.bytes:,} bytes")
    for note in built.notes:
        click.echo(f"note: {note}")
