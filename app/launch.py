"""From settings to an application, models first.

It takes most of the memory, so a parent of workers imports none of it.
"""

import importlib
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import structlog

from app.experiment import Variant
from app.logs import configure_logs
from app.memory import keep_large_apart
from app.models import fetch_models, load_models, warm_up
from app.processing import ProcessingError
from app.schemas import ShapeError
from app.settings import Settings, SettingsError, Unusable, read_settings
from app.siblings import Agreed, agree, read_agreed
from features import CatalogError
from monitoring.errors import ProfileError
from registry import BundleError, Fetched, RegistryUnavailable

log = structlog.get_logger("frontrow")

# Where a parent of workers has a folder for what they hold in common, and for what they agree on.
WORKER_FOLDER = "WORKER_FOLDER"


def make_application(settings: Settings) -> tuple[Any, str]:
    """The application of a process that serves alone, and a body that works, for people to copy. Raises `Unusable`."""
    keep_large_apart()
    service = _make_service(settings, _fetch(settings))
    return _application(service), json.dumps(service.example())


def worker_application() -> Any:
    """The application of one worker process."""
    keep_large_apart()
    threading.Thread(target=_leave_with_parent, name="parent", daemon=True).start()
    settings = read_settings()
    configure_logs(settings.log_level)
    folder = Path(os.environ[WORKER_FOLDER])
    agreed = read_agreed(folder)
    make = partial(_make_service, settings, shared=folder, features=agreed.features)
    try:
        return _application(make(agreed.bundles))
    except Unusable as error:  # the others loaded it when it was there
        log.warning("what the other workers serve is not to be had, so the models are asked for", reason=str(error))
        return _application(make(_fetch(settings)))


async def try_out() -> None:
    """Start and stop a service by the settings, without a port: whatever does not hold is raised.

    Afterwards its kernels' machine code is where `NUMBA_CACHE_DIR` says, for later starts.
    """
    settings = read_settings()
    configure_logs(settings.log_level)
    service = _make_service(settings, _fetch(settings))
    _application(service)  # which has kernels of its own
    await service.start()
    await service.stop()


def _leave_with_parent() -> None:
    """A worker whose parent was killed would keep the port, and nobody would replace it or tell it to end."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    log.error("the parent of the workers is gone, so this worker ends", parent=parent.pid)
    os.kill(os.getpid(), signal.SIGTERM)


def rehearse(answer: Connection) -> None:
    """Make, in a process of its own, what workers will make, and leave them word of it in their folder.

    Sends a body that works; or the `Unusable` or `SettingsError` that it met.
    """
    settings = read_settings()
    configure_logs(settings.log_level)
    try:
        fetched = _fetch(settings)
        service = _make_service(settings, fetched)
        if settings.feature_store == "memory:":
            log.warning("each worker keeps events to itself", store=settings.feature_store, workers=settings.workers)
        features = {str(variant): one.model.bundle.features for variant, one in service.served.items()}
        agree(Path(os.environ[WORKER_FOLDER]), Agreed(fetched, features))
        answer.send(json.dumps(service.example()))
    except (SettingsError, Unusable) as error:
        answer.send(error)


def _fetch(settings: Settings) -> dict[Variant, Fetched]:
    """Ask for the models; what the service is made of is imported and warmed up meanwhile, since both take seconds."""
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(fetch_models, settings)
        for module in ("app.routes", "scoring.compiled"):
            importlib.import_module(module)
        if not pending.done():
            warm_up(settings)
        try:
            return pending.result()
        except (RegistryUnavailable, BundleError) as error:
            raise Unusable(str(error)) from error


def _make_service(settings: Settings, fetched: Mapping[Variant, Fetched], **common: Any) -> Any:
    """`common` is what workers have in common."""
    from app.service import Service  # noqa: PLC0415 numba comes with it, which `_fetch` imports while it waits

    try:
        return Service(settings, load_models(settings, fetched), **common)
    except (BundleError, CatalogError, ProcessingError, ProfileError, ShapeError) as error:
        raise Unusable(str(error)) from error


def _application(service: Any) -> Any:
    from app.routes import Application  # noqa: PLC0415 see `_make_service`

    return Application(service)
