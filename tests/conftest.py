"""For all tests."""

import asyncio
import gc
from collections.abc import Iterator

import pytest

pytest_plugins = ["redis_server"]


@pytest.fixture(scope="session", autouse=True)
def _current_event_loop() -> Iterator[None]:
    """looptime's plugin asks for the current event loop in every test; without one, Python makes one nobody closes."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """No garbage goes by itself, and there is none at the beginning."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
