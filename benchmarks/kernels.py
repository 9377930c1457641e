"""How fast rows are scored, beside `lightgbm.Booster.predict(num_threads=1)` in the same run, on one thread.

    python -m benchmarks.kernels --letor DIR     # or LETOR_FOLDER; without it, two synthetic models

Each round times every contender once, one right after the other, so that a busy machine slows all of them alike; what
is shown are the medians of the times and of the rounds' ratios. Scores are checked for equality before they are timed.
"""

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
import lightgbm
import numpy as np
from numpy.typing import NDArray

from scoring import load_engine, parse_model_text
from scoring.catalog import load_catalog

ROWS = (1, 10, 50, 200, 1_000, 5_000)
ROUND_SECONDS = 0.02  # long enough for the clock, short enough for a round to meet one state of the machine
Floats = NDArray[np.float64]


class Case(NamedTuple):
    name: str
    booster: lightgbm.Booster
    rows: Floats


@click.command()
@click.option("--letor", type=click.Path(exists=True, file_okay=False, path_type=Path), envvar="LETOR_FOLDER")
@click.option("--rounds", default=15, show_default=True, help="Paired rounds of each figure.")
def main(letor: Path | None, rounds: int) -> None:
    """Time the engines and print a table for each model."""
    for case in cases(letor):
        report(case, rounds)


def cases(letor: Path | None) -> Iterator[Case]:
    yield synthetic(trees=300, leaves=63)
    yield synthetic(trees=1_000, leaves=31)
    if letor is not None:
        yield from_letor(letor)


def synthetic(*, trees: int, leaves: int) -> Case:
    """Thirty features, of which three are categories with 12, 50 and 200 levels; some values are missing."""
    random = np.random.default_rng(0)
    count = 60_000
    rows = random.normal(size=(count, 30))
    levels = (50, 12, 200)
    for column, most in zip((27, 28, 29), levels, strict=True):
        rows[:, column] = random.integers(0, most, count)
    rows[random.random(rows.shape) < 0.03] = np.nan
    known = np.nan_to_num(rows)
    signal = known[:, :27] @ random.normal(size=27) + 3 * np.sin(3 * known[:, 0]) + known[:, 1] * known[:, 2]
    for column, most in zip((27, 28, 29), levels, strict=True):
        signal += 2 * random.normal(size=most)[known[:, column].astype(int)]
    signal += random.normal(size=count) * 3
    labels = np.digitize(signal, np.quantile(signal, [0.5, 0.75, 0.9, 0.97]))
    dataset = lightgbm.Dataset(rows, labels, group=[50] * (count // 50), categorical_feature=[27, 28, 29])
    booster = train(dataset, trees=trees, leaves=leaves, label=f"{trees} trees x {leaves} leaves")
    return Case(f"{trees} trees x {leaves} leaves, 30 features, 3 categorical", booster, rows)


def from_letor(folder: Path) -> Case:
    """The learning-to-rank sample of LightGBM's own example: 300 sparse features."""
    width = 300
    rows, labels = read_svmlight(folder / "rank.train", width)
    groups = np.loadtxt(folder / "rank.train.query", dtype=np.int64)
    dataset = lightgbm.Dataset(rows, labels, group=groups)
    booster = train(dataset, trees=300, leaves=31, label="letor")
    return Case(
        "letor: 300 trees x 31 leaves, 300 sparse features", booster, read_svmlight(folder / "rank.test", width)[0]
    )


def read_svmlight(path: Path, width: int) -> tuple[Floats, Floats]:
    lines = path.read_text().splitlines()
    rows, labels = np.zeros((len(lines), width)), np.empty(len(lines))
    for index, line in enumerate(lines):
        label, *pairs = line.split()
        labels[index] = float(label)
        for pair in pairs:
            column, value = pair.split(":")
            rows[index, int(column) - 1] = float(value)
    return rows, labels


def train(dataset: lightgbm.Dataset, *, trees: int, leaves: int, label: str) -> lightgbm.Booster:
    parameters = {
        "objective": "lambdarank", "num_leaves": leaves, "learning_rate": 0.05, "min_data_in_leaf": 20,
        "max_cat_to_onehot": 1, "verbosity": -1, "seed": 1, "num_threads": os.cpu_count(),
    }  # fmt: skip
    with click.progressbar(length=trees, label=f"training {label}") as bar:
        return lightgbm.train(parameters, dataset, trees, callbacks=[lambda _: bar.update(1)])


def report(case: Case, rounds: int) -> None:
    started = time.perf_counter()
    model = parse_model_text(case.booster.model_to_string().encode())
    parsed = time.perf_counter()
    engine = load_engine(model, "compiled")
    loaded = time.perf_counter()
    engine = load_engine(model, "compiled")  # now without loading machine code
    again = time.perf_counter()
    booster = lightgbm.Booster(model_str=model.text.decode())
    context = np.arange(engine.features) % 3 == 0
    activities = np.resize(case.rows, (5_000, engine.features)).copy()
    catalog = load_catalog(engine, activities, context)
    click.echo(f"\n{case.name}")
    click.echo(
        f"parse {1e3 * (parsed - started):.0f} ms, load and verify {1e3 * (loaded - parsed):.0f} ms the first time and "
        f"{1e3 * (again - loaded):.0f} ms then; tables {engine.bytes_used / 1e6:.2f} MB, "
        f"5,000 activities {catalog.bytes_used / 1e6:.1f} MB ({catalog.reason})"
    )
    click.echo(f"{'rows':>6} {'LightGBM us':>12} {'rows us':>10} {'ratio':>7} {'catalog us':>11} {'ratio':>7}")
    for count in ROWS:
        items = np.random.default_rng(count).integers(0, len(activities), count)
        one = case.rows[:1].copy()
        rows = activities[items]
        rows[:, context] = one[0, context]
        offsets, own = np.array([0, count]), np.empty((0, engine.features))
        contenders: list[Callable[[], Floats]] = [
            partial(booster.predict, rows, num_threads=1),
            partial(engine.score, rows),
            partial(catalog.score, one, offsets, items, own),
        ]
        expected = contenders[0]().tobytes()
        assert all(contender().tobytes() == expected for contender in contenders)
        times = np.array([[timed(contender) for contender in contenders] for _ in range(rounds)]) * 1e6
        lightgbm_us, rows_us, catalog_us = np.median(times, axis=0)
        rows_ratio, catalog_ratio = np.median(times[:, :1] / times[:, 1:], axis=0)
        click.echo(
            f"{count:>6} {lightgbm_us:>12,.1f} {rows_us:>10,.1f} {rows_ratio:>6.1f}x {catalog_us:>11,.1f} "
            f"{catalog_ratio:>6.1f}x"
        )


def timed(contender: Callable[[], Floats]) -> float:
    """Seconds a call takes, from as many calls as fill a short round."""
    calls, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < ROUND_SECONDS or not calls:
        contender()
        calls += 1
    return elapsed / calls


if __name__ == "__main__":
    main()
