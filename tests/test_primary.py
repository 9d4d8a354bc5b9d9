"""The writing door as it closes."""

import asyncio

import pytest
from sqlalchemy import text

from service.domain.errors import UnavailableError
from service.resources import open_primary
from service.settings import Settings


async def test_closing_leaves_no_connection_of_a_task_that_was_cancelled_just_before(settings: Settings) -> None:
    primary = open_primary(settings)
    pool = primary.engine.pool
    begun = asyncio.Event()

    async def work() -> None:
        async with primary.begin() as connection:
            begun.set()
            await connection.execute(text("select pg_sleep(60)"))

    working = asyncio.create_task(work())
    await begun.wait()
    working.cancel()
    await primary.close()
    await asyncio.wait([working])

    assert (working.cancelled(), pool.checkedout(), pool.checkedin()) == (True, 0, 0)  # type: ignore[attr-defined]  # a QueuePool has them


async def test_whoever_comes_after_the_end_opens_nothing(settings: Settings) -> None:
    primary = open_primary(settings)
    async with primary.begin() as connection:
        await connection.execute(text("select 1"))
    await primary.close()

    with pytest.raises(UnavailableError, match="stopping"):
        async with primary.begin():
            pass
    with pytest.raises(UnavailableError, match="stopping"):
        async with primary.look():
            pass
    assert primary.engine.pool.checkedin() == 0  # type: ignore[attr-defined]  # a QueuePool has it
