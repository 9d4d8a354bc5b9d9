"""The stack under test: real Postgres and a real S3 server, started once per test process, a database per module.

TEST_STACK says where they come from (tests/stacks.py), TEST_POOLER what stands before Postgres (tests/pooler.py).
"""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import cache
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import botocore.session
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
from service.local.postgres import EmbeddedPostgres
from service.resources import Resources
from service.settings import Settings
from tests import announced, hanging, left_out, longest_first, openers
from tests.api_calls import Api
from tests.pooler import Pooler, chosen_pooling, running_pooler
from tests.stacks import Stack, chosen_stack, open_stack
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

# Long enough for servers that refuse short ones.
PASSWORDS = Passwords(
    migrator="migrator-of-the-tests-7Qx2",
    application="application-of-the-tests-7Qx2",
    searcher="searcher-of-the-tests-7Qx2",
)

pytest_plugins = ["tests.documented_report"]

databases = count(1)

# Every object store that a test opens would read what boto3 knows of S3 again: a tenth of a second, a thousand times.
botocore.session.create_loader = cache(botocore.session.create_loader)


def pytest_configure(config: pytest.Config) -> None:
    for plugin in (announced, left_out, hanging, longest_first, openers):
        config.pluginmanager.register(plugin)


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    async with open_stack(chosen_stack(), folder) as running:
        yield running
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
async def stoppable(stack: Stack) -> EmbeddedPostgres:
    """Postgres where a test may stop and start it."""
    if stack.embedded is None:
        pytest.skip("only a Postgres of the tests' own may be stopped; add it with: make test")
    return stack.embedded


@pytest.fixture(scope="session")
async def as_superuser(stack: Stack) -> None:
    """For what an ordinary administrator, such as Neon's, may not do."""
    connection = await asyncpg.connect(stack.postgres.url())
    superuser = await connection.fetchval("select rolsuper from pg_roles where rolname = current_user")
    await connection.close()
    if not superuser:
        pytest.skip("the role of TEST_DATABASE_URL is no superuser; add it with: make test")


@pytest.fixture(scope="session")
async def pooler(stack: Stack) -> AsyncIterator[Pooler | None]:
    """What stands between the service and Postgres; nothing, unless TEST_POOLER asks for it."""
    pooling = chosen_pooling()
    if pooling == "none":
        yield None
    elif stack.pooled_url is not None:
        yield Pooler.of(stack.pooled_url)
    else:
        users = {
            MIGRATOR: PASSWORDS.migrator,
            APPLICATION: PASSWORDS.application,
            SEARCHER: PASSWORDS.searcher,
        }
        async with running_pooler(stack.postgres.url(), users=users, tracked=pooling == "tracked") as running:
            yield running


@pytest.fixture(scope="session")
async def template(stack: Stack) -> AsyncIterator[str]:
    """A database made by the real migrations, to copy."""
    name = f"{stack.database_prefix}_template"
    await execute(stack, f"create database {name}")
    await create_roles(stack.postgres.url(database=name), PASSWORDS)
    url = stack.postgres.url(MIGRATOR, PASSWORDS.migrator, name)
    await upgrade(url)
    await ensure_profile(url, name=HashingEmbedder.name, dimension=HashingEmbedder().dimension)
    yield name
    await execute(stack, f"drop database {name} with (force)")


async def execute(stack: Stack, statement: str) -> None:
    connection = await asyncpg.connect(stack.postgres.url())
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="module")
async def settings(stack: Stack, template: str, pooler: Pooler | None) -> AsyncIterator[Settings]:
    """Of a fresh database."""
    database = template.replace("template", str(next(databases)))
    await execute(stack, f"create database {database} template {template}")

    def url(role: str, password: str, *, pooled: bool = True) -> SecretStr:
        direct = stack.postgres.url(role, password, database)
        return SecretStr(pooler.through(direct) if pooled and pooler else direct)

    store = stack.store
    yield Settings(
        database_url=url(APPLICATION, PASSWORDS.application),
        search_database_url=url(SEARCHER, PASSWORDS.searcher),
        database_direct_url=url(MIGRATOR, PASSWORDS.migrator, pooled=False),
        database_tls=stack.postgres.tls,
        pg_statement_mode="untracked" if chosen_pooling() == "untracked" else "tracked",
        s3_endpoint_url=store.endpoint_url,
        s3_bucket=store.bucket,
        s3_access_key_id=SecretStr(store.access_key_id),
        s3_secret_access_key=SecretStr(store.secret_access_key),
        s3_region=store.region,
        embedding_model="hashing",
        recall_sample_share=0,  # No test shall meet a search that nobody asked for.
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
        pytest.skip(f"no data in {folder}; add it with: DATA=/folder/of/data make test")
    return folder
