"""The table of `docs/batching.md`: the batcher itself under overload, on a virtual clock.

python -m benchmarks.simulate_overload
"""

from collections.abc import Mapping
from typing import Any

import click

from batching import Cost, Priority
from batching.simulation import Run, Scenario, simulate

MIXED: dict[str, Any] = {"sizes": (5, 20, 50, 100, 300)}
DEADLINES: dict[str, Any] = {"timeouts": (0.02, 0.05, 0.1)}


def scenarios(seconds: float, seed: int) -> Mapping[str, Scenario]:
    """What is simulated, by what it is called in the table."""

    def offered(load: float, **details: Any) -> Scenario:
        return Scenario(load=lambda _: load, seconds=seconds, seed=seed, **details)

    return {
        **{f"50 rows each, {load:g} C": offered(load) for load in (0.8, 0.9, 1.2, 2, 5, 10)},
        **{f"5 to 300 rows, {load:g} C": offered(load, **MIXED) for load in (0.8, 1.2, 2, 10)},
        **{f"and 20 to 100 ms, {load:g} C": offered(load, **MIXED, **DEADLINES) for load in (0.8, 1.2, 2, 10)},
        "three classes, 2 C": offered(2, priorities=tuple(Priority)),
        "cost told 5 times too high, 2 C": offered(2, prior=Cost(0.005, 50e-6)),
        "cost told 5 times too low, 2 C": offered(2, prior=Cost(0.0002, 2e-6)),
    }


@click.command()
@click.option("--seconds", default=60.0, show_default=True, help="Virtual seconds of each scenario.")
@click.option("--seed", default=1, show_default=True)
def main(seconds: float, seed: int) -> None:
    """Print one line a scenario. C is what full batches can score."""
    lines = []
    with click.progressbar(scenarios(seconds, seed).items(), label="simulating") as named:
        for name, scenario in named:
            lines.append(line(name, simulate(scenario)))
    click.echo("| offered | goodput / C | refused | p50 | p99 | scored in vain |\n|---|---|---|---|---|---|")
    click.echo("\n".join(lines))


def line(name: str, run: Run) -> str:
    answered = run.outcomes()["ok"] / len(run.calls)
    p50, p99 = (f"{run.latency(quantile) * 1e3:.0f} ms" for quantile in (0.5, 0.99))
    return f"| {name} | {run.goodput():.3f} | {1 - answered:.1%} | {p50} | {p99} | {run.vain():.2%} |"


if __name__ == "__main__":
    main()
