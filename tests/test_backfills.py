"""A backfill: every row once, a few at a time, from where it was stopped, around whoever holds a row."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise

import asyncpg
import pytest

from service.db.backfill import (
    Backfill,
    BackfillBusyError,
    EndlessBackfillError,
    FailedBackfillError,
    NoBackfillError,
    fill,
    find_backfill,
    is_finished,
)
from service.db.owner import as_owner
from service.resources import Resources
from tests.search_calls import direct_url

ROWS = 2_500
SHELVES = Backfill(
    name="shelves",
    table="shelves",
    key=("room", "place"),
    missing="label is null and book is not null",
    assign={"label": "upper(book)"},
    after="0001",
    until="never",
)


@pytest.fixture
async def shelves(admin: asyncpg.Connection, resources: Resources) -> AsyncIterator[str]:
    """A table with a key of two columns, and every fifth row without a book. The direct URL."""
    await admin.execute("create table shelves (room uuid, place int, book text, label text, primary key (room, place))")
    await admin.execute("alter table shelves owner to hybrid_owner")
    await admin.execute(
        "insert into shelves select md5((n % 7)::text)::uuid, n, case when n % 5 > 0 then 'book ' || n end"
        " from generate_series(1, $1) n",
        ROWS,
    )
    await admin.execute("analyze shelves")
    yield direct_url(resources)
    await admin.execute("drop table shelves")
    await admin.execute("delete from backfills")


async def left(admin: asyncpg.Connection) -> int:
    return int(await admin.fetchval("select count(*) from shelves where label is null and book is not null"))


async def test_every_row_is_filled_and_no_other_is_touched(shelves: str, admin: asyncpg.Connection) -> None:
    seen = [progress async for progress in fill(shelves, SHELVES, rows=100, share=1)]

    assert await left(admin) == 0
    assert await admin.fetchval("select count(*) from shelves where label = upper(book)") == ROWS * 4 // 5
    assert (seen[-1].changed, seen[-1].looked_at) == (ROWS * 4 // 5, ROWS)
    assert len(seen) == ROWS // 100 + 1
    assert [progress.share for progress in seen] == sorted(progress.share for progress in seen)
    row = await admin.fetchrow("select * from backfills")
    assert row["finished_at"] is not None


async def test_no_transaction_looks_at_more_rows_than_it_may(shelves: str) -> None:
    """However few of them are missing."""
    sparse = replace(SHELVES, missing="label is null and place % 500 = 0 and book is null")
    looked = [0] + [
        progress.looked_at async for progress in fill(shelves, replace(sparse, assign={"label": "'x'"}), rows=70)
    ]

    assert max(after - before for before, after in pairwise(looked)) == 70


async def test_a_value_that_leaves_its_row_missing_is_said_and_not_tried_for_ever(shelves: str) -> None:
    aimless = replace(SHELVES, assign={"label": "nullif(book, book)"})

    with pytest.raises(EndlessBackfillError, match=r"leaves rows as they are, such as \("):
        _ = [progress async for progress in fill(shelves, aimless)]


async def test_what_postgres_says_to_its_sql_is_a_sentence(shelves: str) -> None:
    mistaken = replace(SHELVES, assign={"label": "upper(novel)"})

    with pytest.raises(FailedBackfillError, match='the backfill shelves failed: column "novel" does not exist'):
        _ = [progress async for progress in fill(shelves, mistaken)]


async def test_it_goes_on_where_it_was_stopped(shelves: str, admin: asyncpg.Connection) -> None:
    running = fill(shelves, SHELVES, rows=100)
    for _ in range(3):
        await anext(running)
    await running.aclose()
    assert await left(admin) > 0
    first = await anext(fill(shelves, SHELVES, rows=100))

    assert first.looked_at == 400


async def test_a_row_that_somebody_holds_is_filled_by_a_later_pass(shelves: str, admin: asyncpg.Connection) -> None:
    holder = await asyncpg.connect(shelves)
    await holder.execute("set role hybrid_owner")
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("select from shelves where place in (11, 12) for update")
    seen = []
    async for progress in fill(shelves, SHELVES, rows=1_000, share=1):
        seen.append(progress)
        if progress.passes == 2 and not holder.is_closed():
            assert await left(admin) == 2
            await transaction.rollback()
            await holder.close()

    assert await left(admin) == 0
    assert seen[-1].passes >= 3


async def test_a_table_that_somebody_locks_is_waited_for(shelves: str, admin: asyncpg.Connection) -> None:
    async with admin.transaction():
        await admin.execute("lock table shelves in exclusive mode")
        running = asyncio.create_task(anext(fill(shelves, SHELVES)))
        await asyncio.sleep(1.2)
        assert not running.done()

    assert (await running).changed > 0


async def test_two_at_once_are_one(shelves: str) -> None:
    first = fill(shelves, SHELVES, rows=10)
    await anext(first)
    with pytest.raises(BackfillBusyError, match="shelves is already running"):
        await anext(fill(shelves, SHELVES))
    await first.aclose()


async def test_what_is_written_behind_its_back_keeps_it_unfinished(shelves: str, admin: asyncpg.Connection) -> None:
    async for _ in fill(shelves, SHELVES, share=1):
        pass
    async with as_owner(shelves) as connection:
        assert await connection.run_sync(is_finished, SHELVES)
        await admin.execute("update shelves set label = null where place = 1")
        assert not await connection.run_sync(is_finished, SHELVES)
    async for _ in fill(shelves, SHELVES, share=1):
        pass

    assert await left(admin) == 0


def test_a_name_that_no_file_has_is_a_sentence() -> None:
    with pytest.raises(NoBackfillError, match="no backfill is called 'nothing'"):
        find_backfill("nothing")
