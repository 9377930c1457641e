"""A service of the models of tests/app, and a browser that looks at it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parents[1] / room) for room in ("app", "alerts")]

from app_models import write_models
from chromium import BINARY, chromium, page_of
from history_models import write_history_models
from playwright.sync_api import Browser, Page
from processes import serving


def pytest_runtest_setup(item: pytest.Item) -> None:
    if any("chromium" in marker.args for marker in item.iter_markers("real")) and BINARY is None:
        if os.environ.get("CI") and os.environ.get("REAL_PARTS") == "1":
            pytest.fail("chromium is not installed, and CI has to have it")
        pytest.skip("chromium is not installed")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    write_models(folder)
    write_history_models(folder, folder / "catalog.parquet")
    return folder


@pytest.fixture(scope="module")
def url(bundles: Path) -> Iterator[str]:
    """A service that lets its callers ask for a variant."""
    with serving(bundles) as process:
        yield process.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with page_of(browser) as page:
        yield page
