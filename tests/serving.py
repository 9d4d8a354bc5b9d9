"""The application of a test on a real socket, with the protocol that `serve` speaks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from service.cli.protocol import ProblemProtocol


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[int]:
    """The port on which it answers meanwhile."""
    config = uvicorn.Config(app, port=0, lifespan="off", http=ProblemProtocol, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # pytest keeps its own
    running = asyncio.create_task(server.serve())
    async with asyncio.timeout(60):
        while not server.started:  # noqa: ASYNC110  uvicorn has no event for it
            await asyncio.sleep(0.01)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await running
