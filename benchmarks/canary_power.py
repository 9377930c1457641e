"""The tables of `docs/canary.md`: how often the canary judge is wrong, and how soon it is right.

python -m benchmarks.canary_power
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

import click
import msgspec
import numpy as np

from release.rules import Rules
from release.simulation import BAD_SHARES, COARSE_EDGES, FINE_EDGES, Ends, World, run

HEAD: Final = "| {} | FAIL | PASS at the first end | FAIL after, median | and 95 % |\n|---|---:|---:|---:|---:|"
Worlds = Mapping[str, tuple[World, Rules]]


def good(rules: Rules) -> Worlds:
    """Canaries that are like their baselines, in worlds of all kinds."""
    strict, fine = replace_ratio(rules, 1.02), World(edges=FINE_EDGES)
    return {
        "100 requests/s": (World(), rules),
        "1,000 requests/s": (World(rate=1_000), rules),
        "15 requests/s": (World(rate=15), rules),
        "8 requests/s": (World(rate=8), rules),
        "a tenth of the traffic": (World(share=0.1), rules),
        "2 % of every kind of bad event": (World(bad=dict.fromkeys(BAD_SHARES, 0.02)), rules),
        "bad events in bursts of 10": (World(burst=10), rules),
        "bad events in bursts of 30": (World(burst=30), rules),
        "share and rate of events grow fivefold": (World(moving=True), rules),
        "1.02 tolerated, 100 requests/s": (fine, strict),
        "1.02 tolerated, 30 requests/s": (replace(fine, rate=30), strict),
        "1.02 tolerated, p99 among the stragglers": (replace(fine, stragglers=0.01), strict),
    }


def erring(rules: Rules) -> Worlds:
    """Canaries with more errors."""
    return {
        f"{times:g} times the errors, {share:.2%} of the baseline's": (
            World(bad={**BAD_SHARES, "error": share}, times={"error": times}),
            rules,
        )
        for share in (0.0005, 0.005, 0.02)
        for times in (1.5, 2, 3, 10)
    } | {
        "2 % errors, none of the baseline's": (
            World(bad={**BAD_SHARES, "error": 1e-9}, times={"error": 2e7}),
            rules,
        ),
        "everything fails": (World(bad={**BAD_SHARES, "error": 1e-9}, times={"error": 1e9}), rules),
    }


def slow(rules: Rules) -> Worlds:
    """Canaries that take longer."""
    strict = replace_ratio(rules, 1.02)
    fine = World(edges=FINE_EDGES)
    wide, narrow = {"edges": FINE_EDGES, "spread": 0.5}, {"edges": FINE_EDGES, "spread": 0.3}
    return {
        **{
            f"5 % slower, 1.02 tolerated, {rate} requests/s, {name}": (World(slower=1.05, rate=rate, **shape), strict)  # type: ignore[arg-type]
            for name, shape in (("narrow", narrow), ("wide", wide))
            for rate in (50, 100, 200, 400)
        },
        "5 % slower, 1.10 tolerated": (replace(fine, slower=1.05), rules),
        **{
            f"{slower - 1:.0%} slower, 1.10 tolerated, coarse buckets": (
                World(slower=slower, edges=COARSE_EDGES),
                rules,
            )
            for slower in (1.2, 1.3, 1.5)
        },
    }


def replace_ratio(rules: Rules, ratio: float) -> Rules:
    return msgspec.structs.replace(rules, p99_ratio=ratio)


@click.command()
@click.option("--good", "good_runs", default=10_000, show_default=True, help="Runs of each world of good canaries.")
@click.option("--bad", "bad_runs", default=1_000, show_default=True, help="Runs of each world of bad ones.")
@click.option("--seed", default=1, show_default=True)
def main(good_runs: int, bad_runs: int, seed: int) -> None:
    """Print the tables."""
    rules = Rules()
    tables = (
        ("good canary", good(rules), good_runs),
        ("errors", erring(rules), bad_runs),
        ("p99", slow(rules), bad_runs),
    )
    lines: list[str] = []
    with click.progressbar([(*table, name) for table in tables for name in table[1]], label="simulating") as named:
        for title, worlds, runs, name in named:
            lines += _head(title, worlds, name)
            lines.append(_line(name, run(*_arguments(worlds, name, runs, seed)), worlds[name][1]))
    click.echo("\n".join(lines))


def _arguments(worlds: Worlds, name: str, runs: int, seed: int) -> tuple[World, int, Rules, int]:
    world, rules = worlds[name]
    return world, runs, rules, seed


def _head(title: str, worlds: Worlds, name: str) -> Iterator[str]:
    if name == next(iter(worlds)):
        yield "\n" + HEAD.format(title)


def _line(name: str, ends: Ends, rules: Rules) -> str:
    failed = ~ends.passed
    first = float((ends.passed & (ends.looks == rules.looks)).mean())
    after = ["", ""]
    if failed.any():
        after = [f"{_minutes(ends, failed, quantile, rules):.1f} min" for quantile in (0.5, 0.95)]
    return f"| {name} | {failed.mean():.2%} | {first:.1%} | {after[0]} | {after[1]} |"


def _minutes(ends: Ends, failed: "np.typing.NDArray[np.bool_]", quantile: float, rules: Rules) -> float:
    return float(np.quantile(ends.looks[failed], quantile)) * rules.scrape_seconds / 60


if __name__ == "__main__":
    main()
