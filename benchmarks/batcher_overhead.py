"""What the batcher adds when nobody else asks: rows scored through it against rows scored at once, in pairs.

    python -m benchmarks.batcher_overhead build/reference

Both ways score the same rows with the same engine on one event loop; each pair is timed one right after the other and
in turns, so that a busy machine slows both alike.
"""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click
import numpy as np
import uvloop
from numpy.typing import NDArray

from batching import Batcher, Lane, calibrate
from registry import load_model

Rows = NDArray[np.float64]


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--engine", type=click.Choice(["reference", "compiled"]), default="reference", show_default=True)
@click.option("--rows", default=50, show_default=True)
@click.option("--pairs", default=5_000, show_default=True)
def main(bundle: Path, engine: Literal["reference", "compiled"], rows: int, pairs: int) -> None:
    """Time pairs on BUNDLE and print the percentiles of what the batcher adds."""
    uvloop.run(_measure(bundle, engine, rows, pairs))


async def _measure(bundle: Path, engine: Literal["reference", "compiled"], count: int, pairs: int) -> None:
    model = load_model(bundle, engine)
    golden = model.bundle.golden().rows

    def sample(rows: int) -> Rows:
        return np.ascontiguousarray(np.resize(golden, (rows, golden.shape[1])))

    def score(batch: Sequence[Rows]) -> list[Rows]:
        return [model.engine.score(rows) for rows in batch]

    lane = Lane(score, lambda rows, start, stop: rows[start:stop], np.concatenate, calibrate(score, sample))
    rows = sample(count)
    direct: list[float] = []
    batched: list[float] = []
    async with Batcher({"lane": lane}) as batcher:
        for pair in range(pairs):
            for way in (direct, batched) if pair % 2 else (batched, direct):
                started = time.perf_counter()
                if way is direct:
                    score([rows])
                else:
                    await batcher.submit("lane", rows, rows=count, due_at=started + 10)
                way.append(1e3 * (time.perf_counter() - started))
                await asyncio.sleep(0)
    added = np.array(batched) - np.array(direct)
    p50, p99 = np.percentile(added, [50, 99])
    click.echo(
        f"{engine}, {count} rows: alone {np.median(direct):.3f} ms, batched {np.median(batched):.3f} ms (medians); "
        f"added p50 {p50:.3f} ms, p99 {p99:.3f} ms over {pairs} pairs"
    )


if __name__ == "__main__":
    main()
