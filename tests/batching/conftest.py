from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from batching_world import World


@pytest.fixture
def make_world() -> Iterator[Callable[..., World]]:
    with ExitStack() as stack:
        yield lambda **how: stack.enter_context(World(**how))


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()
