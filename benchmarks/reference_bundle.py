"""The model of the published figures, as a bundle: 300 trees of 63 leaves over 30 features, 3 of them categorical.

With it goes a catalog of 10,000 activities: the 24 features that belong to an activity, drawn as in training.

python -m benchmarks.reference_bundle build/reference
frontrow serve --control build/reference --treatment ''
"""

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import click
import lightgbm
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from registry import Bundle, Feature, write_bundle

CONTEXT, NUMBERS, LEVELS = 6, 21, (12, 50, 200)
QUERIES, CANDIDATES = 600, 50


@click.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--trees", default=300, show_default=True)
@click.option("--leaves", default=63, show_default=True)
@click.option("--activities", default=10_000, show_default=True, help="Of the catalog.")
def main(out: Path, trees: int, leaves: int, activities: int) -> None:
    """Train it and write the bundle OUT."""
    bundle = train(out, trees=trees, leaves=leaves, activities=activities)
    click.echo(f"{out}: {bundle.trees} trees, {len(bundle.features)} features, {activities:,} activities")


def train(out: Path, *, trees: int = 300, leaves: int = 63, activities: int = 10_000) -> Bundle:
    """Train it and write the bundle `out`; raises BundleExistsError."""
    table, labels = _table(np.random.default_rng(0))
    features = [_feature(str(name), table) for name in table]
    parameters = {"objective": "lambdarank", "num_leaves": leaves, "verbosity": -1, "seed": 1, "min_data_in_leaf": 20}
    data = lightgbm.Dataset(table, labels, group=[CANDIDATES] * QUERIES)
    with click.progressbar(length=trees, label=f"training {trees} trees") as bar:
        booster = lightgbm.train(parameters, data, trees, callbacks=[lambda _: bar.update(1)])
    rows = [{str(name): value for name, value in row.items()} for row in table.iloc[:200].to_dict("records")]
    return write_bundle(
        out,
        model_text=booster.model_to_string().encode(),
        features=features,
        golden_rows=np.array([[feature.encode(row[feature.name]) for feature in features] for row in rows]),
        example=rows[:4],
        name="reference",
        version="1",
        source="benchmarks.reference_bundle",
        trained_at=datetime.now(UTC),
        catalog=_catalog(features, activities, np.random.default_rng(2)),
    )


def _table(random: np.random.Generator) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    rows = QUERIES * CANDIDATES
    columns = {f"context_{n}": np.repeat(random.normal(size=QUERIES), CANDIDATES).round(4) for n in range(CONTEXT)}
    columns |= {f"number_{n}": random.normal(size=rows).round(4) for n in range(NUMBERS)}
    table = pd.DataFrame(columns)
    known = table.to_numpy()
    signal = known @ random.normal(size=known.shape[1]) + 3 * np.sin(3 * known[:, 0]) * known[:, CONTEXT]
    for n, most in enumerate(LEVELS):
        codes = random.integers(0, most, rows)
        names = [f"level {level:03}" for level in range(most)]
        table[f"category_{n}"] = pd.Categorical.from_codes(codes, pd.Index(names))
        signal += 2 * random.normal(size=most)[codes]
    signal += 3 * random.normal(size=rows)
    return table, np.digitize(signal, np.quantile(signal, [0.5, 0.75, 0.9, 0.97]))


def _feature(name: str, table: pd.DataFrame) -> Feature:
    role: Literal["context", "activity"] = "context" if name.startswith("context") else "activity"
    if isinstance(table[name].dtype, pd.CategoricalDtype):
        return Feature(name, role, "category", tuple(table[name].cat.categories))
    return Feature(name, role, "number")


def _catalog(features: Sequence[Feature], activities: int, random: np.random.Generator) -> bytes:
    columns: dict[str, Any] = {"id": [f"A{number}" for number in range(activities)]}
    for feature in features:
        if feature.role == "activity":
            columns[feature.name] = (
                random.normal(size=activities).round(4)
                if feature.categories is None
                else random.choice(np.array(feature.categories), activities)
            )
    file = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), file)
    return file.getvalue()


if __name__ == "__main__":
    main()
