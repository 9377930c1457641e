"""A service behind its own HTTP protocol on a free port, in the loop of a test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from uvicorn.server import ServerState

from app.protocol import HttpProtocol
from app.routes import Application
from app.service import Service


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
