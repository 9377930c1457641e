"""Ends in their order, and a few in a turn of the loop."""

import asyncio
import itertools
from functools import partial

import pytest

from app.deadlines import ENDS_IN_A_TURN, Deadlines

CROWD = 3 * ENDS_IN_A_TURN + 1


async def ended_by_turn(deadlines: Deadlines, ended: list[int]) -> list[int]:
    """Watch a crowd whose ends put their numbers into `ended`; returns how many there are after each turn."""
    for number in range(CROWD):
        deadlines.watch(partial(ended.append, number))
    counts = [0]
    async with asyncio.timeout(20):
        while len(ended) < CROWD:
            await asyncio.sleep(0)
            counts.append(len(ended))
    return counts


async def test_a_crowd_ends_in_its_order_and_a_few_in_a_turn() -> None:
    ended: list[int] = []
    counts = await ended_by_turn(Deadlines(0), ended)
    assert ended == list(range(CROWD))
    assert max(after - before for before, after in itertools.pairwise(counts)) <= ENDS_IN_A_TURN


async def test_a_second_crowd_ends_like_the_first() -> None:
    deadlines, ended = Deadlines(0), list[int]()
    await ended_by_turn(deadlines, ended)
    await asyncio.sleep(0)
    again: list[int] = []
    await ended_by_turn(deadlines, again)
    assert again == ended


async def test_what_is_forgotten_does_not_end() -> None:
    deadlines, ended, last = Deadlines(0), list[str](), asyncio.Event()
    gone = partial(ended.append, "gone")
    deadlines.watch(gone)
    deadlines.watch(last.set)
    deadlines.forget(gone)
    deadlines.forget(gone)
    async with asyncio.timeout(20):
        await last.wait()
    assert ended == []


async def test_nothing_ends_before_its_time_and_watching_again_does_not_put_it_off() -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    deadlines, began_at = Deadlines(0.05), loop.time()
    deadlines.watch(ended.set)
    async with asyncio.timeout(20):
        while not ended.is_set():
            deadlines.watch(ended.set)
            await asyncio.sleep(0.001)
    assert loop.time() - began_at >= 0.05


async def test_an_end_that_fails_keeps_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("this one")

    deadlines, last = Deadlines(0), asyncio.Event()
    deadlines.watch(fail)
    deadlines.watch(last.set)
    async with asyncio.timeout(20):
        await last.wait()
    assert "this one" in caplog.text
