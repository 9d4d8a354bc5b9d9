"""A Postgres with pgvector of the service's own build and settings, for a peer that needs a database: its own server."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from service.local.postgres import EmbeddedPostgres


@asynccontextmanager
async def open_database(folder: Path) -> AsyncIterator[str]:
    """Its address; empty at the start, gone at the end."""
    shutil.rmtree(folder, ignore_errors=True)
    # langchain-postgres commits every row by itself; how fast it is filled is no figure, and reads do not notice.
    server = EmbeddedPostgres(folder, settings={"synchronous_commit": "off"})
    await server.start()
    try:
        connection = await asyncpg.connect(server.url())
        try:
            await connection.execute("create extension vector")
        finally:
            await connection.close()
        yield server.url()
    finally:
        await server.stop()
        shutil.rmtree(folder, ignore_errors=True)
