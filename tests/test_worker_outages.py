"""The worker while the database or the object store is away: nothing is lost, and it goes on by itself."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import httpx
import pytest

from service.app import create_app
from service.db.keys import create_key
from service.db.migrate import upgrade
from service.db.owner import as_owner
from service.db.primary import Primary
from service.db.profiles import ensure_profile
from service.db.roles import APPLICATION, MIGRATOR, SEARCHER, create_roles
from service.domain.errors import OverloadedError, UnavailableError
from service.embeddings.hashing import HashingEmbedder
from service.local.stack import Stack, embedded_stack
from service.resources import Resources, open_primary
from service.settings import Settings
from tests.api_calls import Api
from tests.conftest import PASSWORDS
from tests.stacks import UNSAFE
from tests.worker_calls import check_whole, until, until_idle, working_with


@pytest.fixture(scope="module")
async def own_stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """One that a test may stop; Postgres keeps its data, so a restart is a restart."""
    folder = tmp_path_factory.mktemp("own-stack")
    async with embedded_stack(folder, settings=UNSAFE) as stack:
        await create_roles(stack.postgres.url(), PASSWORDS)
        direct_url = stack.postgres.url(MIGRATOR, PASSWORDS.migrator)
        await upgrade(direct_url)
        await ensure_profile(direct_url, name=HashingEmbedder.name, dimension=HashingEmbedder.dimension)
        yield stack
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
async def settings(own_stack: Stack) -> Settings:
    def url(role: str, password: str) -> str:
        return own_stack.postgres.url(role, password)

    values = {
        "database_url": url(APPLICATION, PASSWORDS.application),
        "search_database_url": url(SEARCHER, PASSWORDS.searcher),
        "database_direct_url": url(MIGRATOR, PASSWORDS.migrator),
        "database_tls": "off",
        "embedding_model": "hashing",
        "blob_grace_seconds": 0,
        **{name.lower(): value for name, value in own_stack.environment().items()},
    }
    return Settings.model_validate(values)


@pytest.fixture(scope="module")
async def opened(settings: Settings) -> AsyncIterator[tuple[Resources, Api]]:
    app = create_app(settings)
    direct_url = settings.database_direct_url
    assert direct_url is not None
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        async with as_owner(direct_url.get_secret_value()) as connection:
            key = await create_key(connection, "tenant", "test")
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://service",
            headers={"Authorization": f"Bearer {key}"},
            timeout=60,
        )
        yield app.state.resources, Api(await stack.enter_async_context(client))


async def test_a_restart_of_the_database_loses_no_job(own_stack: Stack, opened: tuple[Resources, Api]) -> None:
    resources, api = opened
    collection = await api.make_collection()
    await api.batch(collection, [{"text": f"Document {n}. " * 40} for n in range(600)])
    async with working_with(resources)(batch=8, lease_seconds=1):
        for _ in range(2):
            await asyncio.sleep(0.3)
            await own_stack.postgres.stop()
            answer = await api.client.get(f"/v1/collections/{collection}/status")
            assert answer.status_code == 503
            await own_stack.postgres.start()
        admin = await asyncpg.connect(own_stack.postgres.url())
        await until_idle(admin, 60)
        await check_whole(admin)
        await admin.close()

    status = await api.status(collection)
    assert status["documents"] == {"pending": 0, "processing": 0, "indexed": 600, "failed": 0}
    assert status["jobs"]["dead"] == 0


async def test_files_wait_for_the_object_store_and_are_indexed_when_it_returns(
    own_stack: Stack, opened: tuple[Resources, Api]
) -> None:
    resources, api = opened
    collection = await api.make_collection()
    document = await api.make_file(collection)
    await own_stack.object_store.stop()
    admin = await asyncpg.connect(own_stack.postgres.url())
    await admin.execute("update jobs set max_attempts = 1")  # An outage uses up no last attempt.
    last_error = "select last_error from jobs where state = 'queued' and kind = 'index_file'"
    async with working_with(resources)():
        reason = await until(lambda: admin.fetchval(last_error), 60)
        text = await api.make_document(collection, wait=60)
        assert text["status"] == "indexed"
        assert (await api.get(document))["status"] in {"pending", "processing"}
        await own_stack.object_store.start()
        await admin.execute("update jobs set run_at = now()")
        await until_idle(admin)

    assert "Error" not in reason
    assert (await api.get(document))["status"] == "indexed"
    await check_whole(admin)
    await admin.close()


async def test_a_server_that_is_starting_or_gone_is_unavailable_and_no_surprise(
    own_stack: Stack, settings: Settings
) -> None:
    primary = open_primary(settings)
    await own_stack.postgres.stop()
    starting = asyncio.create_task(own_stack.postgres.start())
    answers = set()
    while not starting.done():
        answers.add(await outcome(primary))
    await starting

    assert answers <= {"unavailable", "fine"}
    assert "unavailable" in answers
    assert await outcome(primary) == "fine"
    await primary.close()


async def test_a_database_that_takes_no_connections_and_a_wrong_password_are_one_sentence(
    own_stack: Stack, settings: Settings
) -> None:
    url = settings.database_url.get_secret_value()
    for wrong in (
        url.replace(f":{PASSWORDS.application}@", ":wrong@"),
        url.replace("hybrid_application", "nobody"),
        url + "x",
    ):
        primary = open_primary(Settings.model_validate(settings.model_dump() | {"database_url": wrong}))
        with pytest.raises(UnavailableError, match="refuses the login"):
            async with primary.begin():
                pass
        await primary.close()
    admin = await asyncpg.connect(own_stack.postgres.url())
    await admin.execute("create database shut allow_connections false")
    await admin.close()
    shut = url.rsplit("/", 1)[0] + "/shut"
    primary = open_primary(Settings.model_validate(settings.model_dump() | {"database_url": shut}))
    assert await outcome(primary) == "unavailable"
    await primary.close()


async def outcome(primary: Primary) -> str:
    try:
        async with primary.begin():
            return "fine"
    except UnavailableError:
        return "unavailable"


async def test_two_transactions_in_each_others_way_end_as_overload(resources_of: Primary) -> None:
    first_has, second_has = asyncio.Event(), asyncio.Event()

    async def cross(one: str, other: str, mine: asyncio.Event, theirs: asyncio.Event) -> None:
        async with resources_of.begin() as connection:
            await connection.exec_driver_sql(f"select pg_advisory_xact_lock({one})")
            mine.set()
            await theirs.wait()
            await connection.exec_driver_sql(f"select pg_advisory_xact_lock({other})")

    both = await asyncio.gather(
        cross("1", "2", first_has, second_has), cross("2", "1", second_has, first_has), return_exceptions=True
    )

    assert [type(each) for each in both if each is not None] == [OverloadedError]


@pytest.fixture
def resources_of(opened: tuple[Resources, Api]) -> Primary:
    return opened[0].primary
