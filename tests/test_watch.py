"""One look for all idle lanes: who is woken, and by how many looks."""

import asyncio

import asyncpg
import pytest

from service.db import jobs
from service.db.primary import Primary
from service.ingest.watch import Watch
from service.resources import Resources

TEXT, FILE = (jobs.INDEX_TEXT,), (jobs.INDEX_FILE,)
POLL = 0.05


@pytest.fixture
async def primary(resources: Resources, admin: asyncpg.Connection) -> Primary:
    """With an empty queue."""
    await admin.execute("delete from jobs")
    return resources.primary


async def add(primary: Primary, kind: str) -> None:
    async with primary.begin() as connection:
        await jobs.enqueue(connection, kind, tenant_id=None)


async def test_only_a_lane_whose_kind_is_due_is_woken_and_a_second_one_by_a_second_look(primary: Primary) -> None:
    watch, stop = Watch(primary, kinds={*TEXT, *FILE}), asyncio.Event()
    first, second, file = (asyncio.create_task(watch.until_due(kinds)) for kinds in (TEXT, TEXT, FILE))
    await asyncio.sleep(0)
    await add(primary, jobs.INDEX_TEXT)

    looking = asyncio.create_task(watch.run(poll_seconds=60, stop=stop))
    async with asyncio.timeout(60):
        await first
    await asyncio.sleep(3 * POLL)

    assert not second.done()
    assert not file.done()
    stop.set()
    await asyncio.gather(looking, second, file)


async def test_what_becomes_due_while_a_lane_waits_is_seen_at_the_next_look(primary: Primary) -> None:
    watch, stop = Watch(primary, kinds={*TEXT, *FILE}), asyncio.Event()
    looking = asyncio.create_task(watch.run(poll_seconds=POLL, stop=stop))
    text, file = asyncio.create_task(watch.until_due(TEXT)), asyncio.create_task(watch.until_due(FILE))
    await asyncio.sleep(3 * POLL)
    assert not text.done()

    await add(primary, jobs.INDEX_TEXT)
    async with asyncio.timeout(60):
        await text

    assert not file.done()
    stop.set()
    await asyncio.gather(looking, file)


async def test_at_the_end_everybody_is_let_go_and_nobody_waits_any_more(primary: Primary) -> None:
    watch, stop = Watch(primary, kinds=TEXT), asyncio.Event()
    waiting = asyncio.create_task(watch.until_due(TEXT))
    looking = asyncio.create_task(watch.run(poll_seconds=POLL, stop=stop))
    await asyncio.sleep(0)

    stop.set()

    done, late = await asyncio.wait({looking, waiting, asyncio.create_task(watch.until_due(TEXT))}, timeout=60)
    assert late == set()
    assert [task.exception() for task in done] == [None] * 3


async def test_a_lane_that_is_cancelled_takes_no_wake_up_from_the_next_one(primary: Primary) -> None:
    watch, stop = Watch(primary, kinds=TEXT), asyncio.Event()
    gone, staying = asyncio.create_task(watch.until_due(TEXT)), asyncio.create_task(watch.until_due(TEXT))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    await add(primary, jobs.INDEX_TEXT)

    looking = asyncio.create_task(watch.run(poll_seconds=60, stop=stop))
    done, _late = await asyncio.wait({staying}, timeout=60)

    assert (gone.cancelled(), done) == (True, {staying})
    stop.set()
    await looking


async def test_connections_that_the_server_ended_are_replaced_and_nobody_hears_of_it(
    primary: Primary, admin: asyncpg.Connection
) -> None:
    async with primary.begin() as one, primary.begin() as other:
        pids = [
            (await connection.exec_driver_sql("select pg_backend_pid()")).scalar_one() for connection in (one, other)
        ]

    await admin.execute(
        "select pg_terminate_backend(pid, 60000) from unnest($1::int[]) pid", pids
    )  # until they are gone
    await asyncio.sleep(0.2)

    for _ in range(3):
        async with primary.begin() as connection:
            assert (await connection.exec_driver_sql("select pg_backend_pid()")).scalar_one() not in pids


async def test_while_every_urgent_lane_is_busy_the_others_are_still_looked_after(primary: Primary) -> None:
    watch, stop = Watch(primary, kinds={*TEXT, *FILE}, urgent=TEXT), asyncio.Event()
    looking = asyncio.create_task(watch.run(poll_seconds=POLL, stop=stop))
    file = asyncio.create_task(watch.until_due(FILE))
    await asyncio.sleep(3 * POLL)

    await add(primary, jobs.INDEX_FILE)
    found, _ = await asyncio.wait({file}, timeout=60)
    stop.set()
    await looking

    assert found == {file}
