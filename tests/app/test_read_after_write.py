"""An event that was answered with 202 counts in the next ranking of its visitor, whichever worker takes either.

`EVENTS_AND_RANKINGS` says how many pairs of them are sent to each kind of service (1,000 unless told).
"""

import asyncio
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import httpx
import lightgbm
import numpy as np
import psutil
import pytest
from processes import serving
from redis_server import RedisServer

from registry import Feature, write_bundle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.xdist_group("read_after_write")]

PAIRS = int(os.environ.get("EVENTS_AND_RANKINGS", "1000"))
VISITORS = 8  # at once
VIEWS = 40  # of a visitor, until the next one comes
CONNECTIONS = 12
MOST_VIEWS = 50


@pytest.fixture(scope="module")
def counting(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundle `control`, whose score says how often an activity was viewed."""
    folder = tmp_path_factory.mktemp("counting")
    views = np.repeat(np.arange(MOST_VIEWS + 1.0), 20)[:, None]
    parameters = {"objective": "regression", "num_leaves": 64, "min_data_in_leaf": 1, "verbosity": -1, "seed": 1}
    data = lightgbm.Dataset(views, views[:, 0], feature_name=["times_viewed"])
    text = lightgbm.train({**parameters, "min_data_in_bin": 1, "learning_rate": 1.0}, data, 1).model_to_string()
    write_bundle(
        folder / "control",
        model_text=text.encode(),
        features=[Feature("times_viewed", "derived", "integer")],
        golden_rows=views[::20].copy(),
        example=[],
        name="counting",
        version="1",
        source="models:/counting/1",
        trained_at=datetime(2026, 1, 1, tzinfo=UTC),
        catalog=(bundles / "catalog.parquet").read_bytes(),
    )
    return folder


def scores_of_counts(bundle: Path) -> list[float]:
    booster = lightgbm.Booster(model_file=str(bundle / "model.lgb"))
    scores: list[float] = booster.predict(np.arange(MOST_VIEWS + 1.0)[:, None]).tolist()
    assert len(set(scores)) == len(scores)
    return scores


async def send_pairs(url: str, scores: Sequence[float], pid: int, workers: int) -> int:
    """So many rankings had the event before them."""
    numbers = iter(range(PAIRS))
    clients = [httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) for _ in range(CONNECTIONS)]
    seen = 0

    async def visit(first: int) -> None:
        nonlocal seen
        visitor, views = "", VIEWS
        for number in numbers:
            if views == VIEWS:
                visitor, views = f"visitor-{number}", 0
            views += 1
            # Over one connection and another, so that two workers take them now and then.
            sender, asker = clients[(first + number) % CONNECTIONS], clients[(first + 5 * number + 1) % CONNECTIONS]
            event = {"visitor_id": visitor, "activity_id": "A7", "type": "view", "at": None}
            sent = await sender.post("/v1/events", json=event | {"at": now_ms() + views})
            assert sent.json()["kept"] == 1, sent.text
            answer = await asker.post("/v1/rank", json={"candidates": ["A7", "A8"]}, headers={"X-Visitor-Id": visitor})
            ranking = {one["id"]: one["score"] for one in answer.json()["ranking"]}
            assert not answer.json()["degraded"]
            seen += ranking == {"A7": scores[views], "A8": scores[0]}

    try:
        await asyncio.gather(*(visit(first) for first in range(VISITORS)))
        if workers > 1:
            assert await asyncio.to_thread(busy_workers, pid) == workers
    finally:
        for client in clients:
            await client.aclose()
    return seen


def now_ms() -> int:
    return int(1e3 * datetime.now(UTC).timestamp()) - 10_000


def busy_workers(pid: int) -> int:
    """How many of a server's processes have connections of callers."""
    children = psutil.Process(pid).children()
    return sum(any(one.status == "ESTABLISHED" for one in child.net_connections("tcp")) for child in children)


@pytest.mark.parametrize(
    ("store", "workers"),
    [
        ("memory", 1),
        ("sqlite", 1),
        ("sqlite", 2),
        pytest.param("redis", 1, marks=pytest.mark.real("redis")),
        pytest.param("redis", 2, marks=pytest.mark.real("redis")),
    ],
)
def test_each_event_is_seen_by_the_next_ranking(
    request: pytest.FixtureRequest, counting: Path, tmp_path: Path, store: str, workers: int
) -> None:
    urls = {"memory": "memory:", "sqlite": f"sqlite:{tmp_path / 'histories.db'}"}
    if store == "redis":
        redis: RedisServer = request.getfixturevalue("redis")
        urls["redis"] = redis.url
    settings = {"treatment_model": "", "log_level": "error", "feature_budget_ms": 1_000, "feature_store": urls[store]}
    with serving(counting, "--workers", str(workers), **settings) as service:
        scores = scores_of_counts(counting / "control")
        seen = asyncio.run(send_pairs(service.url, scores, service.pid, workers))
        service.terminate()  # the workers, too
        service.wait()
    print(f"{store}, {workers} processes: {seen} of {PAIRS}")
    assert seen == PAIRS
