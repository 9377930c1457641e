"""The collector is kept away from requests, and comes by on time."""

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from app.interpreter import YOUNG_OBJECTS, Tidying


class Circle:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def seldom() -> Iterator[None]:
    """As `settle` has it."""
    before = gc.get_threshold()
    gc.set_threshold(YOUNG_OBJECTS)
    yield
    gc.set_threshold(*before)


async def test_what_died_in_a_circle_goes_again_and_again() -> None:
    tidying = Tidying(0.001)
    for _ in range(3):
        dead = weakref.ref(Circle())
        async with asyncio.timeout(20):
            while dead() is not None:  # noqa: ASYNC110 its end is told by nothing else
                await asyncio.sleep(0)
    tidying.end()


async def test_it_ends_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    came: list[bool] = []
    monkeypatch.setattr("app.interpreter.gc.collect", lambda: came.append(True))
    tidying, later = Tidying(0.001), asyncio.Event()
    tidying.end()
    asyncio.get_running_loop().call_later(0.01, later.set)
    async with asyncio.timeout(20):
        await later.wait()
    assert came == []
