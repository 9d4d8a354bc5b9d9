"""What the start-up says about a pooler: real PgBouncers in every mode, before the module's own database."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from sqlalchemy import literal, select

from service.db.addresses import Address
from service.db.pooling import Door, Pooling, WrongPoolerError, find_pooling
from service.db.roles import APPLICATION, SEARCHER
from service.local.ports import free_port
from service.resources import open_resources
from service.settings import Settings
from tests.conftest import PASSWORDS
from tests.pooler import PoolerError, find_program, running_pooler
from tests.test_cli_doors import door, sentences
from tests.worker_calls import environment_of

Start = Callable[..., AbstractAsyncContextManager[Settings]]


@pytest.fixture
def unpooled(settings: Settings) -> Settings:
    """Of a service without any pooler, whatever TEST_POOLER says."""
    assert settings.database_direct_url is not None
    parts = urlsplit(settings.database_direct_url.get_secret_value())

    def url(role: str, password: str) -> str:
        return urlunsplit(parts._replace(netloc=f"{role}:{password}@{parts.hostname}:{parts.port}"))

    return changed(
        settings,
        database_url=url(APPLICATION, PASSWORDS.application),
        search_database_url=url(SEARCHER, PASSWORDS.searcher),
        pg_statement_mode="tracked",
    )


@pytest.fixture
def pooled(unpooled: Settings) -> Start:
    """Starts a PgBouncer; the settings of a service whose two doors lead through it."""
    try:
        find_program()
    except PoolerError as error:
        pytest.skip(str(error))

    @asynccontextmanager
    async def pooled(**options: object) -> AsyncIterator[Settings]:
        database, search = (url.get_secret_value() for url in (unpooled.database_url, unpooled.search_database_url))
        users = {APPLICATION: PASSWORDS.application, SEARCHER: PASSWORDS.searcher}
        async with running_pooler(database, users=users, **options) as pooler:  # type: ignore[arg-type]
            urls = {"database_url": pooler.through(database), "search_database_url": pooler.through(search)}
            yield changed(unpooled, **urls)

    return pooled


def changed(settings: Settings, **values: object) -> Settings:
    return Settings.model_validate(settings.model_dump() | values)


def door_of(settings: Settings) -> Door:
    url = settings.database_url.get_secret_value()
    return Door("DATABASE_URL", Address.parse(url, tls="off", ca_file=None), unprepared=True)


async def started(settings: Settings) -> bool:
    """Opens everything as a start does, and asks the database once."""
    async with open_resources(settings) as resources, resources.primary.begin() as connection:
        return (await connection.execute(select(literal(1)))).scalar_one() == 1


async def refusal(settings: Settings) -> str:
    with pytest.raises(WrongPoolerError) as raised:
        await started(settings)
    return str(raised.value)


async def test_without_a_pooler_a_connection_is_its_clients(unpooled: Settings) -> None:
    assert await find_pooling(door_of(unpooled)) == "session"


@pytest.mark.parametrize("connections", [1, 3, 4, 5])
@pytest.mark.parametrize("tracked", [True, False])
async def test_a_pooler_in_transaction_mode_is_known_whatever_its_size(
    pooled: Start, connections: int, *, tracked: bool
) -> None:
    async with pooled(tracked=tracked, connections=connections) as settings:
        found = [await find_pooling(door_of(settings)) for _ in range(3)]

    assert found == ["tracked" if tracked else "untracked"] * 3


async def test_a_pooler_in_session_mode_is_as_good_as_none(pooled: Start) -> None:
    async with pooled(tracked=False, mode="session") as settings:
        assert await find_pooling(door_of(settings)) == "session"


@pytest.mark.parametrize("tracked", [True, False])
async def test_the_traffic_of_others_does_not_hide_it(pooled: Start, *, tracked: bool) -> None:
    found: list[Pooling] = []

    async def others(url: str) -> None:
        client = await asyncpg.connect(url, statement_cache_size=0)
        while len(found) < 10:
            async with client.transaction():
                await client.fetch("select pg_sleep(random() / 500)")
        client.terminate()

    async with pooled(tracked=tracked, connections=5) as settings:
        url = settings.database_url.get_secret_value()
        async with asyncio.TaskGroup() as traffic:
            for _ in range(8):
                traffic.create_task(others(url))
            for _ in range(10):
                found.append(await find_pooling(door_of(settings)))  # noqa: PERF401  the others watch it grow

    assert found == ["tracked" if tracked else "untracked"] * 10


async def test_a_start_that_trusts_a_pooler_which_does_not_track_is_refused(pooled: Start) -> None:
    async with pooled(tracked=False) as settings:
        sentence = await refusal(settings)

    assert "PG_STATEMENT_MODE is tracked" in sentence
    assert "DATABASE_URL" in sentence
    assert "set PG_STATEMENT_MODE=untracked" in sentence


async def test_the_search_door_is_tested_too(pooled: Start, unpooled: Settings) -> None:
    async with pooled(tracked=False) as both:
        sentence = await refusal(changed(both, database_url=unpooled.database_url))

    assert "the pooler of SEARCH_DATABASE_URL" in sentence


async def test_it_starts_when_the_setting_says_what_the_pooler_does(pooled: Start) -> None:
    async with pooled(tracked=False) as settings:
        assert await started(changed(settings, pg_statement_mode="untracked"))
    async with pooled(tracked=True) as settings:
        assert await started(settings)


async def test_psqlpy_is_refused_where_the_pooler_tracks_and_the_setting_denies_it(pooled: Start) -> None:
    async with pooled(tracked=True) as settings:
        denied = changed(settings, pg_statement_mode="untracked", search_driver="psqlpy")
        sentence = await refusal(denied)
        assert await started(changed(denied, search_driver="asyncpg"))

    assert "set PG_STATEMENT_MODE=tracked" in sentence


@pytest.mark.parametrize("mode", ["tracked", "untracked"])
async def test_no_setting_makes_statement_mode_usable(pooled: Start, mode: str) -> None:
    async with pooled(tracked=True, mode="statement") as settings:
        sentence = await refusal(changed(settings, pg_statement_mode=mode))

    assert "the pooler of DATABASE_URL is in statement mode" in sentence
    assert "set its pool_mode to transaction" in sentence


async def test_a_tenant_that_somebody_left_on_a_connection_is_noticed(pooled: Start) -> None:
    async with pooled(tracked=True, connections=1) as settings:
        careless = await asyncpg.connect(settings.database_url.get_secret_value(), statement_cache_size=0)
        await careless.execute("set app.tenant_id = '01900000-0000-7000-8000-000000000000'")
        careless.terminate()
        sentence = await refusal(settings)

    assert "somebody has set app.tenant_id for the session" in sentence


async def test_a_search_database_that_is_away_does_not_stop_the_start(unpooled: Settings) -> None:
    nowhere = f"postgresql://{SEARCHER}:s@127.0.0.1:{free_port()}/service"

    assert await started(changed(unpooled, search_database_url=nowhere))


async def test_the_doors_say_it_in_one_sentence(pooled: Start) -> None:
    async with pooled(tracked=False) as settings:
        environment = {**environment_of(settings), "PG_STATEMENT_MODE": "tracked", "PORT": str(free_port())}
        answers = await asyncio.gather(door(["serve"], environment), door(["worker"], environment))

    for answer in answers:
        (sentence,) = sentences(answer)
        assert "set PG_STATEMENT_MODE=untracked" in sentence


def test_the_pooler_under_test_is_one_that_can_track() -> None:
    """Otherwise half of this file would prove nothing."""
    try:
        program = find_program()
    except PoolerError as error:
        pytest.skip(str(error))

    assert os.access(program, os.X_OK)
