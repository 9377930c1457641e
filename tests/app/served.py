"""A service behind its own HTTP protocol on a free port, in the loop of a test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from uvicorn.server import ServerState

from app.models import fetch_models, load_models
from app.protocol import HttpProtocol
from app.routes import Application
from app.service import Service
from app.settings import Settings
from features import HistoryStore


@asynccontextmanager
async def listening(service: Service) -> AsyncIterator[int]:
    """The port of a started service."""
    config = uvicorn.Config(
        Application(service), http=HttpProtocol, ws="none", log_config=None, access_log=False, proxy_headers=False
    )
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: HttpProtocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # for the sockets to be closed
        await asyncio.gather(*state.tasks, return_exceptions=True)


@asynccontextmanager
async def serving(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a started service."""
    async with (
        listening(service) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client,
    ):
        yield client


@asynccontextmanager
async def running(
    settings: Settings, store: HistoryStore | None = None
) -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    """A service of these settings and a client of it; its histories are in `store`, if there is one."""
    service = Service(settings, load_models(settings, fetch_models(settings)))
    if store is not None:
        service.visitors.store = store
    await service.start()
    try:
        async with serving(service) as client:
            yield service, client
    finally:
        await service.stop()
