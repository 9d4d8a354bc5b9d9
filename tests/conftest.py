"""The stack under test: real Postgres and a real S3 server, started once per test process, a database per module."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
import structlog
from fastapi import FastAPI
from pydantic import SecretStr

from service.app import create_app
from service.db.keys import create_key
from service.db.migrate import upgrade
from service.db.owner import as_owner
from service.db.profiles import ensure_profile
from service.db.roles import APPLICATION, MIGRATOR, SEARCHER, Passwords, create_roles
from service.embeddings.hashing import HashingEmbedder
from service.local.stack import Stack, embedded_stack
from service.resources import Resources
from service.settings import Settings
from tests.api_calls import Api
from tests.worker_calls import Working, working_with

# Into pytest's own report of a failed test.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(),
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
)

TEMPLATE = "template_service"
PASSWORDS = Passwords(migrator="m", application="a", searcher="s")
# A crash of the machine may take the test's database with it.
UNSAFE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

databases = count(1)


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    async with embedded_stack(folder, settings=UNSAFE) as running:
        yield running
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
async def template(stack: Stack) -> str:
    """A database made by the real migrations, to copy."""
    await execute(stack, f"create database {TEMPLATE}")
    await create_roles(stack.postgres.url(database=TEMPLATE), PASSWORDS)
    url = stack.postgres.url(MIGRATOR, PASSWORDS.migrator, TEMPLATE)
    await upgrade(url)
    await ensure_profile(url, name=HashingEmbedder.name, dimension=HashingEmbedder().dimension)
    return TEMPLATE


async def execute(stack: Stack, statement: str) -> None:
    connection = await asyncpg.connect(stack.postgres.url())
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="module")
async def settings(stack: Stack, template: str) -> AsyncIterator[Settings]:
    """Of a fresh database."""
    database = f"service_{next(databases)}"
    await execute(stack, f"create database {database} template {template}")

    def url(role: str, password: str) -> SecretStr:
        return SecretStr(stack.postgres.url(role, password, database))

    store = stack.object_store
    yield Settings(
        database_url=url(APPLICATION, PASSWORDS.application),
        search_database_url=url(SEARCHER, PASSWORDS.searcher),
        database_direct_url=url(MIGRATOR, PASSWORDS.migrator),
        database_tls="off",
        s3_endpoint_url=store.endpoint_url,
        s3_bucket=store.bucket,
        s3_access_key_id=SecretStr(store.access_key_id),
        s3_secret_access_key=SecretStr(store.secret_access_key),
        embedding_model="hashing",
        blob_grace_seconds=0,
    )
    await execute(stack, f"drop database {database} with (force)")


@pytest.fixture(scope="module")
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


@pytest.fixture(scope="module")
def resources(app: FastAPI) -> Resources:
    resources: Resources = app.state.resources
    return resources


@pytest.fixture(scope="module")
async def admin(stack: Stack, settings: Settings) -> AsyncIterator[asyncpg.Connection]:
    """The module's database as nobody in the service sees it: without row security."""
    database = urlsplit(settings.database_url.get_secret_value()).path.removeprefix("/")
    connection = await asyncpg.connect(stack.postgres.url(database=database))
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
async def connect(app: FastAPI, settings: Settings) -> AsyncIterator[Callable[[str], Awaitable[Api]]]:
    """Calls the API as a new tenant of this name."""
    direct_url = settings.database_direct_url
    assert direct_url is not None
    async with AsyncExitStack() as clients:

        async def connect(tenant: str) -> Api:
            async with as_owner(direct_url.get_secret_value()) as connection:
                key = await create_key(connection, tenant, "test")
            client = httpx.AsyncClient(
                transport=httpx.ASGITransport(app),
                base_url="http://service",
                headers={"Authorization": f"Bearer {key}"},
                timeout=60,
            )
            return Api(await clients.enter_async_context(client))

        yield connect


@pytest.fixture(scope="module")
async def api(connect: Callable[[str], Awaitable[Api]]) -> Api:
    return await connect("first")


@pytest.fixture(scope="module")
async def other_api(connect: Callable[[str], Awaitable[Api]]) -> Api:
    """Another tenant."""
    return await connect("second")


@pytest.fixture(scope="module")
def client(api: Api) -> httpx.AsyncClient:
    return api.client


@pytest.fixture
async def collection(api: Api) -> str:
    """A new, empty collection."""
    return await api.make_collection()


@pytest.fixture
def working(resources: Resources) -> Working:
    """Starts a worker in this process for the time of an `async with`; its arguments exchange tools and times."""
    return working_with(resources)


@pytest.fixture
async def worker(working: Working) -> AsyncIterator[None]:
    """Indexes in the background while the test runs."""
    async with working():
        yield


@pytest.fixture
def count_blobs(resources: Resources) -> Callable[[], Awaitable[int]]:
    async def count_blobs() -> int:
        return len([blob async for blob in resources.blobs.list_blobs()])

    return count_blobs


@pytest.fixture
def data() -> Path:
    """Real data beside the repository; without it the tests that read it are skipped."""
    import os  # noqa: PLC0415

    folder = Path(os.environ.get("DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data in {folder}: set DATA")
    return folder
