"""What only the database knows: its settings and versions, what its tables weigh, how it runs the search statement."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import orjson

from bench.failures import BenchError
from service.cli.failures import CommandError
from service.cli.figures.search_latency import open_parts
from service.cli.own_settings import own_settings
from service.db import roles
from service.db.addresses import Address
from service.db.read_held import SET_SESSION, HeldReader, open_held_reader
from service.db.read_pool import Row
from service.db.retrieval import Statement
from service.domain.queries import Query, Words
from service.embeddings.base import Vector
from service.search.running import run
from service.settings import Settings

CHOSEN = """
select name, current_setting(name) from pg_settings
where source not in ('default', 'client', 'override', 'session')
   or name in ('shared_buffers', 'work_mem', 'effective_cache_size', 'jit', 'max_parallel_workers_per_gather',
               'plan_cache_mode', 'synchronous_commit', 'fsync', 'full_page_writes', 'wal_level')
order by name
"""
UNSAID = ("password", "secret", "file", "directory", "port", "address", "library", "path", "socket")
SIZES = """
select c.relname,
       case when c.relkind in ('i', 'I') then 'index' else 'table' end,
       case when c.relkind in ('i', 'I') then pg_relation_size(c.oid)
            else pg_table_size(c.oid) end
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'i', 'm') and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
"""


def settings_of(folder: Path | None, environ: Mapping[str, str]) -> Settings | None:
    """Of the service in a folder, else of the one that the environment describes; None where neither says anything."""
    if folder is not None:
        return own_settings({"DATA_DIR": str(folder)})
    return own_settings(environ) if "DATABASE_URL" in environ else None


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    address = Address.parse(
        settings.search_database_url.get_secret_value(), tls=settings.database_tls, ca_file=settings.database_ca_file
    )
    async with open_held_reader(address) as reader:
        yield reader.connection


async def read_settings(settings: Settings) -> dict[str, str]:
    """What differs from the defaults of Postgres, and what a reader asks about first. No paths, nothing secret."""
    async with connected(settings) as connection:
        rows = await connection.fetch(CHOSEN)
    return {name: value for name, value in rows if not any(word in name for word in UNSAID)}


async def read_versions(settings: Settings) -> dict[str, str]:
    async with connected(settings) as connection:
        server = await connection.fetchval("select current_setting('server_version')")
        vector = await connection.fetchval("select extversion from pg_extension where extname = 'vector'")
    return {"postgres": server, "pgvector": vector}


async def read_sizes(settings: Settings) -> dict[str, dict[str, Any]]:
    """Bytes of every table (with its TOAST) and every index."""
    async with connected(settings) as connection:
        rows = await connection.fetch(SIZES)
    return {name: {"kind": kind, "bytes": int(size)} for name, kind, size in rows}


class Explaining(HeldReader):
    """Has each statement explained as it is run: prepared, with the settings of the request."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        super().__init__(connection)
        self.plans: list[dict[str, Any]] = []

    async def fetch(
        self, statement: Statement, values: Mapping[str, object], *, settings: Mapping[str, str]
    ) -> Sequence[Row]:
        await self.connection.execute(SET_SESSION, list(settings), list(settings.values()))
        await self.connection.execute(f"prepare asked as {statement.sql}")
        bound = ", ".join(literal(value) for value in statement.bind(values, settings))
        explained = await self.connection.fetchval(f"explain (analyze, buffers, format json) execute asked ({bound})")
        self.plans += orjson.loads(explained)
        await self.connection.execute("deallocate asked")
        return await super().fetch(statement, values, settings=settings)


async def explain(settings: Settings, key: str, collection: str, question: str, vector: Vector) -> list[dict[str, Any]]:
    """The plan of a hybrid search, with what was executed of it and how many pages it read."""
    try:
        async with open_parts(collection, settings=settings, api_key=key) as parts:
            reader = Explaining(parts.reader.connection)
            tools = replace(parts.tools, reader=reader)
            await run(Query(question), Words.parse(question), vector, parts.collection, tools=tools)
            return reader.plans
    except CommandError as error:
        raise BenchError(str(error)) from None


def literal(value: object) -> str:
    """As SQL text of no type, which takes that of the parameter."""
    if value is None:
        return "null"
    if isinstance(value, np.ndarray):
        return f"'{[float(each) for each in value]}'"
    if isinstance(value, list | tuple):
        return roles.literal("{" + ", ".join(map(_member, value)) + "}")
    return roles.literal(str(value))


def _member(value: object) -> str:
    return "null" if value is None else '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
