"""The shadow stands behind everybody, and whatever it cannot follow is counted."""

import asyncio
import itertools
from math import ceil

import pytest
from test_canary_metrics import samples

from app.ranking import Work
from app.service import Service
from app.shadow import BUSY_SHARE, MOST_WAITING_ROWS, TURN_ROWS, Shadow

IDS = [f"A{n}" for n in range(40)]


@pytest.fixture
def hardly_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the time is for turns: on a busy machine one takes long, and the rest after it five hundred times so."""
    monkeypatch.setattr("app.shadow.BUSY_SHARE", 0.5)


def shadow_of(service: Service) -> Shadow:
    return Shadow(service.batcher, service.metrics.traffic, share=1, timeout_seconds=30)


async def follow(shadow: Shadow, service: Service, times: int) -> None:
    """As if control had answered so often, with scores that the shadow gives, too."""
    scorer = service.rankers["treatment"].scorer
    work: Work = scorer.work(None, IDS, None)
    scores = scorer.score([work])[0].values
    for _ in range(times):
        shadow.follow("treatment", scorer, work, scores)


def compared(service: Service) -> float:
    return samples(service, "frontrow_shadow_top_overlap_count")[()]


def refused(service: Service) -> float:
    return samples(service, "frontrow_shadow_refused_total")[()]


async def until_all_are_told(service: Service, count: int) -> None:
    async with asyncio.timeout(30):
        while compared(service) + refused(service) < count:  # noqa: ASYNC110 they are told by metrics alone
            await asyncio.sleep(0)


@pytest.mark.usefixtures("hardly_rests")
async def test_every_ranking_is_compared_turn_after_turn(service: Service) -> None:
    several_turns = MOST_WAITING_ROWS // len(IDS)
    assert MOST_WAITING_ROWS > TURN_ROWS
    await follow(shadow_of(service), service, several_turns)
    await until_all_are_told(service, several_turns)
    assert (compared(service), refused(service)) == (several_turns, 0)
    assert samples(service, "frontrow_shadow_top_overlap_sum")[()] == several_turns
    assert samples(service, "frontrow_shadow_pairs_turned_sum")[()] == 0


@pytest.mark.usefixtures("hardly_rests")
async def test_so_many_wait_and_no_more(service: Service) -> None:
    most = ceil(MOST_WAITING_ROWS / len(IDS))
    await follow(shadow_of(service), service, most + 3)
    assert refused(service) == 3
    await until_all_are_told(service, most + 3)
    assert compared(service) == most


async def test_after_a_turn_it_rests_in_proportion_to_what_the_turn_took(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = itertools.count(1_000.0, 2.0)
    monkeypatch.setattr("app.shadow.perf_counter", lambda: next(moments))
    shadow = shadow_of(service)
    await follow(shadow, service, 1)
    await until_all_are_told(service, 1)
    timer = shadow._timer  # noqa: SLF001 how long it rests is told by nothing else
    assert timer is not None
    rest = timer.when() - asyncio.get_running_loop().time()
    looks = (next(moments) - 1_000.0) / 2  # the clock was looked at so often, and each time two seconds had gone by
    assert rest == pytest.approx((looks - 1) * 2.0 * (1 / BUSY_SHARE - 1), rel=0.01)
    shadow.stop()


@pytest.mark.usefixtures("hardly_rests")
async def test_what_the_batcher_refuses_is_counted_and_the_next_turn_comes(service: Service) -> None:
    shadow = shadow_of(service)
    await service.batcher.drain()
    for already in (0, 4):
        await follow(shadow, service, 4)
        await until_all_are_told(service, already + 4)
    assert (compared(service), refused(service)) == (0, 8)
