"""What a rehearsal stands on: an embedded Postgres that logs every wait for a lock, an S3 server, PgBouncer, databases."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from rehearsal.commands import run
from rehearsal.failures import RehearsalError
from rehearsal.releases import Release
from service.db.keys import create_key
from service.db.owner import as_owner
from service.db.roles import APPLICATION, MIGRATOR, SEARCHER, Passwords, create_roles
from service.local.folder import StateFolder
from service.local.postgres import EmbeddedPostgres
from service.local.stack import embedded_stack
from tests.pooler import Pooler, PoolerError, find_program, running_pooler

PASSWORDS = Passwords(*(f"{role}-of-the-rehearsal-7Qx2" for role in ("migrator", "application", "searcher")))
POOLER_ADMIN, ADMIN_PASSWORD = "pooler_admin", "admin-of-the-rehearsal-7Qx2"
POSTGRES = {
    "max_connections": "300",
    # The disk is not rehearsed.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    # Whoever waits longer than this for a lock is written down, with how long it was.
    "log_lock_waits": "on",
    "deadlock_timeout": "20ms",
}
INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "SYSTEMROOT")


@dataclass(frozen=True)
class Ground:
    """`folder` is where processes and their logs are kept, `log` the server's; `pooling` is said in the report."""

    postgres: EmbeddedPostgres
    passwords: Passwords
    variables: Mapping[str, str]  # of the object store and the embedder
    folder: StateFolder
    log: Path
    pooler: Pooler | None
    pooling: str

    def admin_url(self, database: str = "postgres") -> str:
        return self.postgres.url(database=database)

    def direct_url(self, database: str) -> str:
        return self.postgres.url(MIGRATOR, self.passwords.migrator, database)

    def pooled_url(self, role: str, password: str, database: str) -> str:
        direct = self.postgres.url(role, password, database)
        return self.pooler.through(direct) if self.pooler else direct

    def environment(self, database: str, tree: Path) -> dict[str, str]:
        """All variables of a process of the release in `tree`, on a database."""
        return {
            **{name: os.environ[name] for name in INHERITED if name in os.environ},
            "PYTHONPATH": str(tree),
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "200",
            "DATABASE_URL": self.pooled_url(APPLICATION, self.passwords.application, database),
            "SEARCH_DATABASE_URL": self.pooled_url(SEARCHER, self.passwords.searcher, database),
            "DATABASE_DIRECT_URL": self.direct_url(database),
            "DATABASE_TLS": "off",
            "RECALL_SAMPLE_SHARE": "0",
            "OMP_NUM_THREADS": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            **self.variables,
        }

    async def make_database(self, name: str, release: Release) -> None:
        """Empty, with the schema and the profile of a release."""
        await self.execute(f"create database {name}")
        await create_roles(self.admin_url(name), self.passwords)
        answer = await run(release.tree, "-m", "service", "migrate", environment=self.environment(name, release.tree))
        if answer.status:
            raise RehearsalError(f"release {release} cannot make its own schema: {answer.last_words}")

    async def copy_database(self, source: str, name: str) -> None:
        await self.execute(f"create database {name} template {source}")

    async def drop_database(self, name: str) -> None:
        await self.execute(f"drop database if exists {name} with (force)")

    async def make_key(self, database: str) -> str:
        async with as_owner(self.direct_url(database)) as connection:
            return await create_key(connection, "rehearsal", "rehearsal")

    async def execute(self, statement: str, database: str = "postgres") -> None:
        """Outside of a transaction, as the superuser."""
        async with self.admin(database) as connection:
            await connection.execute(statement)

    @asynccontextmanager
    async def admin(self, database: str) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self.admin_url(database))
        try:
            yield connection
        finally:
            await connection.close()

    async def reconnect(self, database: str) -> None:
        """After a contract step no server connection may keep a plan of what is gone."""
        if self.pooler is None:
            return
        where = urlsplit(self.pooler.through(self.admin_url("pgbouncer")))
        connection = await asyncpg.connect(
            host=where.hostname,
            port=where.port,
            user=POOLER_ADMIN,
            password=ADMIN_PASSWORD,
            database="pgbouncer",
            statement_cache_size=0,
        )
        try:
            await connection.execute(f'reconnect "{database}"')
        finally:
            connection.terminate()


@asynccontextmanager
async def open_ground(folder: Path) -> AsyncIterator[Ground]:
    """A server of its own, until the block ends."""
    async with embedded_stack(folder, settings=POSTGRES) as stack:
        variables = {**stack.environment(), "EMBEDDING_MODEL": "hashing"}
        async with pooled(stack.postgres, PASSWORDS) as (pooler, pooling):
            log = stack.folder.log("postgres")
            yield Ground(stack.postgres, PASSWORDS, variables, stack.folder, log, pooler, pooling)


@asynccontextmanager
async def pooled(postgres: EmbeddedPostgres, passwords: Passwords) -> AsyncIterator[tuple[Pooler | None, str]]:
    """A PgBouncer before it, and what to say of it. Without one the rehearsal goes on, and says so."""
    try:
        find_program()
    except PoolerError as error:
        yield None, f"no pooler ({error})"
        return
    users = {
        MIGRATOR: passwords.migrator,
        APPLICATION: passwords.application,
        SEARCHER: passwords.searcher,
        POOLER_ADMIN: ADMIN_PASSWORD,
    }
    async with running_pooler(postgres.url(), users=users, tracked=True, connections=10, admin=POOLER_ADMIN) as pooler:
        yield pooler, "PgBouncer, transaction mode, tracking prepared statements"
