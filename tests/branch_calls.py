"""What tests of branches share: primaries of their own, branches of them, and what two databases are compared by."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import unquote, urlsplit

import asyncpg
import httpx
from fastapi import FastAPI
from pydantic import SecretStr

from service.app import create_app
from service.branches.base import Addresses
from service.branches.dump import client_programs, environment
from service.branches.postgres import PostgresBranches, Way, of_database
from service.cli.branch_address import settings_of
from service.db.keys import create_key
from service.db.owner import OWNER, as_owner
from service.db.roles import identifier
from service.resources import Resources
from service.settings import Settings
from tests.api_calls import Api
from tests.stacks import Stack


@asynccontextmanager
async def a_primary(stack: Stack, template: str, settings: Settings) -> AsyncIterator[Settings]:
    """A database that nobody is connected to, as the settings of its service; its branches go with it."""
    name = template.replace("template", secrets.token_hex(4))
    admin = await asyncpg.connect(stack.postgres.url())
    try:
        await admin.execute(f"create database {name} template {template} owner {OWNER}")
        # Direct: a pooler would stay connected, and the admin's door knows no pooler.
        yield settings.model_copy(
            update={
                field: SecretStr(of_database(getattr(settings, field).get_secret_value(), name))
                for field in ("database_url", "search_database_url", "database_direct_url")
            }
        )
    finally:
        family = "select datname from pg_database where datname = $1 or starts_with(datname, $1 || '@')"
        for row in await admin.fetch(family, name):
            await admin.execute(f"drop database {identifier(row['datname'])} with (force)")
        await admin.close()


def branches_of(stack: Stack, settings: Settings, *, way: Way = "auto") -> PostgresBranches:
    direct = settings.database_direct_url
    return PostgresBranches(
        admin_url=stack.postgres.url(),
        addresses=Addresses(
            database_url=settings.database_url.get_secret_value(),
            search_database_url=settings.search_database_url.get_secret_value(),
            database_direct_url=direct.get_secret_value() if direct else None,
        ),
        s3_prefix=settings.s3_prefix,
        way=way,
    )


async def on_branch(branches: PostgresBranches, settings: Settings, name: str) -> Settings:
    """The settings with which a service runs on it."""
    return settings_of(settings, name, await branches.uri(name))


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[FastAPI]:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


@asynccontextmanager
async def inside(stack: Stack, database: str) -> AsyncIterator[asyncpg.Connection]:
    """Without row security."""
    connection = await asyncpg.connect(stack.postgres.url(database=database))
    try:
        yield connection
    finally:
        await connection.close()


async def schema_of(stack: Stack, database: str) -> str:
    """Tables, indexes, policies, owners, grants, functions: all that Postgres would need to make it again."""
    program = client_programs() / "pg_dump"
    process = await asyncio.create_subprocess_exec(
        *(str(program), "--schema-only", "--restrict-key=same"),
        env=environment(stack.postgres.url(database=database)),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


async def rows_of(stack: Stack, database: str) -> dict[str, tuple[int, str | None]]:
    """How many rows each table has, and a hash of them all. Leases and instances are the parent's alone."""
    found = {}
    async with inside(stack, database) as connection:
        listed = "select relname from pg_class where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace"
        for (table,) in await connection.fetch(listed):
            if table in {"jobs", "instances"}:
                continue
            hashed = "md5(string_agg(t::text, chr(10) order by t::text))"
            counted = f"select count(*), {hashed} from {identifier(table)} t"  # noqa: S608  names from the catalog
            row = await connection.fetchrow(counted)
            found[table] = (row[0], row[1])
    return found


def name_in(url: SecretStr) -> str:
    return unquote(urlsplit(url.get_secret_value()).path.removeprefix("/"))


class serving:  # noqa: N801  read as a verb
    """The API of these settings as a new tenant, with what its app has opened."""

    def __init__(self, settings: Settings, key: str | None = None) -> None:
        self.settings, self.key = settings, key
        self.running = running(settings)

    async def __aenter__(self) -> tuple[Api, str]:
        app = await self.running.__aenter__()
        self.key = self.key or await new_key(self.settings)
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://service",
            headers={"Authorization": f"Bearer {self.key}"},
            timeout=60,
        )
        return Api(self.client), self.key

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
        await self.running.__aexit__(None, None, None)


async def new_key(settings: Settings) -> str:
    assert settings.database_direct_url is not None
    async with as_owner(settings.database_direct_url.get_secret_value()) as connection:
        return await create_key(connection, "first", "test")


def resources_of(api: Api) -> Resources:
    """What the app behind these calls has opened."""
    transport = api.client._transport
    assert isinstance(transport, httpx.ASGITransport)
    assert isinstance(transport.app, FastAPI)
    resources: Resources = transport.app.state.resources
    return resources
