"""The service's two doors through a real PgBouncer, whatever TEST_POOLER says about the rest of the run."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from service.db.addresses import Address
from service.db.primary import Primary
from service.settings import Settings
from tests.pooler import Pooler, PoolerError, find_program, running_pooler

PREPARED = text("select count(*), pg_backend_pid() from pg_prepared_statements where name <> ''")


@pytest.fixture(params=[True, False], ids=["tracked", "untracked"])
async def primary(request: pytest.FixtureRequest, settings: Settings) -> AsyncIterator[Primary]:
    """Ten connections of the service on two of the server."""
    try:
        find_program()
    except PoolerError as error:
        pytest.skip(str(error))
    direct_url = settings.database_direct_url
    assert direct_url is not None
    url = Pooler.of(direct_url.get_secret_value()).through(settings.database_url.get_secret_value())
    address = Address.parse(url, tls=settings.database_tls, ca_file=None)
    users = {address.user: address.password}
    async with running_pooler(url, users=users, tracked=request.param, connections=2) as pooler:
        through = Address.parse(pooler.through(url), tls="off", ca_file=None)
        primary = Primary(through, pool_size=10, tracked=request.param)
        yield primary
        await primary.close()


async def asked(primary: Primary, number: int) -> tuple[int, int, int]:
    """The number again, how many statements are kept where it was asked, and which process that was."""
    async with primary.begin() as connection:
        again = (await connection.execute(text(f"select :number + {number % 7}"), {"number": number})).scalar_one()
        await asyncio.sleep(0.001)
        kept, process = (await connection.execute(PREPARED)).one()
    return again - number % 7, kept, process


async def test_transactions_at_once_get_their_own_answers(primary: Primary) -> None:
    answers = await asyncio.gather(*(asked(primary, number) for number in range(200)))

    assert [again for again, _, _ in answers] == list(range(200))
    assert len({process for _, _, process in answers}) == 2


async def test_a_look_outside_a_transaction_gets_its_own_answer(primary: Primary) -> None:
    async def looked(number: int) -> int:
        async with primary.look() as connection:
            statement = text(f"select :number - {number % 5}")
            return int((await connection.execute(statement, {"number": number})).scalar_one()) + number % 5

    assert await asyncio.gather(*(looked(number) for number in range(200))) == list(range(200))


@pytest.mark.parametrize("primary", [False], ids=["untracked"], indirect=True)
async def test_no_statement_stays_where_another_process_comes_next(primary: Primary) -> None:
    answers = await asyncio.gather(*(asked(primary, number) for number in range(100)))

    assert {kept for _, kept, _ in answers} == {0}
