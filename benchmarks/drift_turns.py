"""What watching for drift adds to scoring a ranking: one scorer in one process, with its watch and without, in turns.

Two services differ by more than what a watch costs, so here nothing differs but the watch. CPU time of the thread is
what counts, so that others who use the machine do not.
"""

import asyncio
import gc
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from app.logs import configure_logs
from app.models import fetch_models, load_models
from app.ranking import Scorer, Work
from app.service import Service
from app.settings import read_settings
from benchmarks.live_features import CANDIDATES

DIFFERENT_RANKINGS: Final = 512
SEED: Final = 5


class Traffic(NamedTuple):
    """Of a service at its capacity: rankings a second, and how many of them a batch has."""

    rankings: int
    batch: int


class Turns(NamedTuple):
    """CPU seconds of scoring for a ranking, in each round: with a watch, without, and without once more."""

    watching: list[float]
    plain: list[float]
    twin: list[float]


def drift_turns(bundle: Path, traffic: Traffic, *, rounds: int) -> Turns:
    """Score a second of traffic in each turn, for a watch looks at so many rows a second; the first round warms up."""
    return asyncio.run(_drift_turns(bundle.resolve(), traffic, rounds))


async def _drift_turns(bundle: Path, traffic: Traffic, rounds: int) -> Turns:
    settings = read_settings(control_model=str(bundle), treatment_model="", log_level="error")
    configure_logs(settings.log_level)
    service = Service(settings, load_models(settings, fetch_models(settings)))
    await service.start()
    scorer = service.rankers["control"].scorer
    batches = _in_batches(await _works(service, scorer), traffic.batch)
    turns = Turns([], [], [])
    arms = list(zip(turns, (scorer.watch, None, None), strict=True))
    gc.freeze()
    for number in range(-1, rounds):
        for arm, scorer.watch in arms[:: 1 if number % 2 else -1]:
            seconds = _turn(scorer, batches, traffic)
            if number >= 0:
                arm.append(seconds)
    gc.unfreeze()
    await service.stop()
    return turns


async def _works(service: Service, scorer: Scorer) -> Sequence[Work]:
    """Rankings of any activities of the catalog, ready to be scored."""
    random, ids = np.random.default_rng(SEED), list(service.served["control"].catalog.rows)
    works = []
    for _ in range(DIFFERENT_RANKINGS):
        candidates = random.choice(ids, size=min(CANDIDATES, len(ids)), replace=False).tolist()
        body = json.dumps({"context": service.example().get("context"), "candidates": candidates})
        request = service.shape.decode(body.encode())
        works.append(scorer.work(request.context, request.candidates, None))
    return works if scorer.prepare is None else await scorer.prepare(works)


def _in_batches(works: Sequence[Work], size: int) -> list[Sequence[Work]]:
    return [works[start : start + size] for start in range(0, len(works) - size + 1, size)]


def _turn(scorer: Scorer, batches: Sequence[Sequence[Work]], traffic: Traffic) -> float:
    count = max(1, traffic.rankings // traffic.batch)
    started = time.thread_time()
    for number in range(count):
        scorer.score(batches[number % len(batches)])
    if scorer.watch is not None:
        scorer.watch.each_second(time.time())
    return (time.thread_time() - started) / (count * traffic.batch)
