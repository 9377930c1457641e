"""Everything that a training run reads, tested and put together before anything learns from it."""

from dataclasses import dataclass
from pathlib import Path

from features import Catalog
from registry import Feature
from training.catalog import catalog_columns, check_catalog
from training.expectations import check_expectations
from training.features import infer_features
from training.files import Columns, Format
from training.history import read_events, with_history
from training.leakage import check_test_table
from training.tables import RankingTable, read_table


@dataclass(frozen=True, kw_only=True)
class Files:
    """What a person named. `events` come with a `catalog`, and with all of `columns`; `schema` is pandera's YAML."""

    table: Path
    columns: Columns
    form: Format = "auto"
    test: Path | None = None
    catalog: Path | None = None
    events: Path | None = None
    schema: Path | None = None


@dataclass(frozen=True)
class Inputs:
    """The table to learn from, one that is only scored, and the features of the model to be."""

    learn: RankingTable
    test: RankingTable | None
    features: tuple[Feature, ...]


def read_inputs(files: Files, context: tuple[str, ...] | None) -> Inputs:
    """Read and test it all. `context` is that of `infer_features`. Raises `TableError`."""
    if files.schema:
        for path in filter(None, (files.table, files.test)):
            check_expectations(path, files.schema, files.form)
    learn = read_table(files.table, columns=files.columns, form=files.form)
    width = learn.columns.num_columns
    test = None if files.test is None else read_table(files.test, columns=files.columns, form=files.form, width=width)
    if files.events and files.catalog:
        past = Catalog.read(files.catalog), read_events(files.events)
        learn, test = with_history(learn, *past), None if test is None else with_history(test, *past)
    features = infer_features(learn, context, catalog=catalog_columns(files.catalog) if files.catalog else ())
    if test:
        check_test_table(test, learn, features)
    if files.catalog:
        check_catalog(files.catalog, features)
    return Inputs(learn, test, features)
