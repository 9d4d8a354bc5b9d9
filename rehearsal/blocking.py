"""Holds locks before a migrator and lets it through one at a time, so that it can be met in the middle of a step."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import asyncpg

from rehearsal.ground import Ground
from service.db.roles import MIGRATOR

POLL_SECONDS = 0.01
READER_PATIENCE, READER_POLL, READER_SECONDS = 10.0, 0.05, 1.0  # The last is longer than migrations/env.py waits.
# Of a migrator that waits for a lock which a blocker, and no other migrator, holds.
WAITING = """
select pid, regexp_replace(query, '\\s+', ' ', 'g') as statement from pg_stat_activity
where datname = $1 and usename = $2 and wait_event_type = 'Lock' and wait_event <> 'advisory'"""
# The lock of a partitioned table takes its partitions in.
TABLES = """
select quote_ident(relname) from pg_class
where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition and relname <> 'alembic_version'"""


@dataclass(frozen=True)
class Waiting:
    """A server process of a migrator, and the statement at which it waits."""

    pid: int
    statement: str


async def find_waiting(ground: Ground, database: str, process: asyncio.subprocess.Process) -> Waiting | None:
    """None when the process ends without having to wait."""
    async with ground.admin(database) as connection:
        while process.returncode is None:
            row = await connection.fetchrow(WAITING, database, MIGRATOR)
            if row is not None:
                return Waiting(row["pid"], row["statement"][:80])
            await asyncio.sleep(POLL_SECONDS)
    return None


async def terminate(ground: Ground, waiting: Waiting) -> None:
    """Ends what a killed client has left on the server, as a lost connection does in time."""
    async with ground.admin("postgres") as connection:
        await connection.execute("select pg_terminate_backend($1)", waiting.pid)


class Blocker:
    """Holds every table against whoever changes it; readers and writers pass.

    Each lock is a connection's only one, so no two ever wait for each other.
    """

    def __init__(self, ground: Ground, database: str) -> None:
        self._ground, self._database = ground, database
        self._locks: list[tuple[asyncpg.Connection, asyncio.Task[None]]] = []

    async def __aenter__(self) -> Self:
        self._locks = await self._lock_all()
        await asyncio.gather(*(task for _, task in self._locks))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async with self._ground.admin("postgres") as admin:
            await release(admin, self._locks)

    async def nth_wait(self, process: asyncio.subprocess.Process, number: int) -> Waiting | None:
        """Lets it through until it waits for the `number`th time; None when it ends before."""
        waiting = await find_waiting(self._ground, self._database, process)
        for _ in range(number - 1):
            if waiting is None:
                return None
            await self._let_through()
            waiting = await find_waiting(self._ground, self._database, process)
        return waiting

    async def _let_through(self) -> None:
        """New locks queue behind the migrator before the old ones are given up, and are held when it has gone on."""
        former, self._locks = self._locks, await self._lock_all()
        await asyncio.sleep(5 * POLL_SECONDS)
        async with self._ground.admin("postgres") as admin:
            await release(admin, former)

    async def _lock_all(self) -> list[tuple[asyncpg.Connection, asyncio.Task[None]]]:
        async with self._ground.admin(self._database) as admin:
            tables = [row[0] for row in await admin.fetch(TABLES)]
        urls = [self._ground.admin_url(self._database)] * len(tables)
        connections = await asyncio.gather(*map(asyncpg.connect, urls))
        return [(each, asyncio.create_task(lock(each, name))) for each, name in zip(connections, tables, strict=True)]


async def lock(connection: asyncpg.Connection, table: str) -> None:
    await connection.execute("begin")
    await connection.execute(f"lock table {table} in share update exclusive mode")


async def release(admin: asyncpg.Connection, locks: list[tuple[asyncpg.Connection, asyncio.Task[None]]]) -> None:
    """Also of those who still wait for theirs, whom only the server can end."""
    pids = [connection.get_server_pid() for connection, _ in locks]
    await admin.execute("select pg_terminate_backend(pid) from unnest($1::int[]) as pid", pids)
    await asyncio.gather(*(task for _, task in locks), return_exceptions=True)
    for connection, _ in locks:
        connection.terminate()


@asynccontextmanager
async def long_reader(ground: Ground, database: str) -> AsyncIterator[None]:
    """A report that reads every table, until a migrator has waited for it longer than it may.

    An ALTER waits behind it, and whoever comes later waits behind the ALTER.
    """

    async def read() -> None:
        async with ground.admin(database) as connection, connection.transaction():
            tables = ", ".join(row[0] for row in await connection.fetch(TABLES))
            await connection.execute(f"lock table {tables} in access share mode")
            async with asyncio.timeout(READER_PATIENCE):
                while not await connection.fetchrow(WAITING, database, MIGRATOR):  # noqa: ASYNC110  the server has no event
                    await asyncio.sleep(READER_POLL)
            await asyncio.sleep(READER_SECONDS)

    reading = asyncio.create_task(read())
    try:
        yield
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
