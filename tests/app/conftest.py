"""Two small models in bundles, and the service that serves them, in this process."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from app_models import write_models
from history_models import write_history_models
from served import serving

from app.models import fetch_models, load_models
from app.service import Service
from app.settings import Settings, read_settings


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FRONTROW_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundles `control` and `treatment`."""
    folder = tmp_path_factory.mktemp("bundles")
    write_models(folder)
    return folder


@pytest.fixture(scope="session")
def history_bundles(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundles `pairs` and `visitors`, whose models look at histories."""
    folder = tmp_path_factory.mktemp("history_bundles")
    write_history_models(folder, bundles / "catalog.parquet")
    return folder


@pytest.fixture
def settings(bundles: Path) -> Settings:
    return read_settings(
        control_model=str(bundles / "control"),
        treatment_model=str(bundles / "treatment"),
        allow_forced_variant=True,
        code_version="test",
        max_batch_rows=512,
        request_timeout_ms=10_000,  # a slow machine must not turn into refusals
        log_level="error",
    )


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[Service]:
    service = Service(settings, load_models(settings, fetch_models(settings)))
    await service.start()
    yield service
    await service.stop()


@pytest.fixture
async def client(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service, over a real connection."""
    async with serving(service) as client:
        yield client
