"""The Python client on the path, a real service for all tests of a run, and the same tests for both kinds of client."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import HOUSE, Process, serving

sys.path += [str(HOUSE / "clients" / "python"), str(HOUSE / "tests" / "app")]

from app_models import write_models
from client_doors import OPEN, Open


@pytest.fixture(params=list(OPEN))
def opened(request: pytest.FixtureRequest) -> Open:
    """Opens a client of a URL, for threads and for asyncio; its calls are awaited either way."""
    return OPEN[request.param]


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundles `control` and `treatment`."""
    folder = tmp_path_factory.mktemp("bundles")
    write_models(folder)
    return folder


@pytest.fixture(scope="session")
def service(bundles: Path) -> Iterator[Process]:
    """A service that starts fast, and does not measure what scoring costs on a busy machine."""
    settings = {"engine": "reference", "pinned_batch_us": 100, "pinned_row_us": 1, "log_level": "error"}
    with serving(bundles, **settings) as process:
        yield process
