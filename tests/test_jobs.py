"""The queue by itself: who gets a job, for how long, and what becomes of it."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from service.db import jobs
from service.db.jobs import Job
from service.db.primary import Primary
from service.domain.ids import new_id
from service.resources import Resources
from tests.worker_calls import until

A, B = "index_text", "index_file"


@pytest.fixture
async def primary(resources: Resources, admin: asyncpg.Connection) -> Primary:
    """With an empty queue."""
    await admin.execute("delete from jobs")
    return resources.primary


async def add(primary: Primary, number: int = 1, *, kind: str = A, **options: Any) -> None:
    async with primary.begin() as connection:
        for _ in range(number):
            await jobs.enqueue(connection, kind, tenant_id=None, **options)


async def claim(primary: Primary, *, kinds: tuple[str, ...] = (A,), limit: int = 100, lease: float = 30) -> list[Job]:
    async with primary.begin() as connection:
        return await jobs.claim(connection, kinds=kinds, limit=limit, lease_seconds=lease)


async def finish(primary: Primary, claimed: list[Job]) -> set[UUID]:
    async with primary.begin() as connection:
        return await jobs.finish(connection, claimed)


async def fail(primary: Primary, claimed: list[Job], **options: Any) -> list[jobs.ReturnedJob]:
    async with primary.begin() as connection:
        return await jobs.fail(connection, claimed, error="it went wrong", **options)


async def release(primary: Primary, claimed: list[Job]) -> None:
    async with primary.begin() as connection:
        await jobs.release(connection, claimed)


async def expire(primary: Primary) -> list[jobs.ReturnedJob]:
    async with primary.begin() as connection:
        return await jobs.expire(connection)


async def test_each_job_is_given_to_one_of_many_claimers(primary: Primary) -> None:
    await add(primary, 300)

    async def take() -> list[Job]:
        taken = []
        while part := await claim(primary, limit=7):
            taken += part
        return taken

    times = Counter(job.id for taken in await asyncio.gather(*(take() for _ in range(8))) for job in taken)

    assert len(times) == 300
    assert set(times.values()) == {1}


async def test_a_claim_waits_for_no_other_claim(primary: Primary) -> None:
    await add(primary, 3)
    async with primary.begin() as connection:
        first = await jobs.claim(connection, kinds=(A,), limit=2, lease_seconds=30)
        second = await asyncio.wait_for(claim(primary), 30)

    assert (len(first), len(second)) == (2, 1)


async def test_the_oldest_due_jobs_of_the_wanted_kinds_come_first(primary: Primary, admin: asyncpg.Connection) -> None:
    await add(primary, 4)
    await add(primary, kind=B)
    await add(primary, delay_seconds=60)
    ids = [row["id"] for row in await admin.fetch("select id from jobs where kind = $1 order by id", A)]
    await admin.execute("update jobs set run_at = run_at - interval '1 min' where id = $1", ids[3])

    taken = [[job.id for job in await claim(primary, limit=1)] for _ in range(5)]

    assert taken == [[ids[3]], [ids[0]], [ids[1]], [ids[2]], []]
    assert [job.kind for job in await claim(primary, kinds=(A, B))] == [B]


async def test_a_look_names_the_kinds_of_which_a_job_is_due_and_no_others(primary: Primary) -> None:
    await add(primary, kind=A, delay_seconds=60)
    await add(primary, kind=B)
    await add(primary, kind=jobs.DELETE_BLOBS)
    await claim(primary, kinds=(jobs.DELETE_BLOBS,))

    async with primary.look() as connection:
        due = await jobs.due_kinds(connection, [A, B, jobs.DELETE_BLOBS])

    assert due == {B}


async def test_of_two_duplicates_the_earlier_time_counts(primary: Primary) -> None:
    await add(primary, dedupe_key="k", delay_seconds=60)
    await add(primary, dedupe_key="k", delay_seconds=0)
    await add(primary, dedupe_key="k", delay_seconds=60)

    assert len(await claim(primary)) == 1


async def test_a_queued_duplicate_is_dropped_and_a_running_one_is_not_in_the_way(primary: Primary) -> None:
    await add(primary, 3, dedupe_key="same")
    first = await claim(primary)
    await add(primary, 2, dedupe_key="same")
    second = await claim(primary)

    assert (len(first), len(second)) == (1, 1)


async def test_what_comes_back_does_not_collide_with_the_job_that_took_its_key(primary: Primary) -> None:
    for give_back in (release, fail):
        await add(primary, dedupe_key="same")
        running = await claim(primary)
        await add(primary, dedupe_key="same")
        await give_back(primary, running)

    async with primary.begin() as connection:
        assert (
            len(await jobs.summaries(connection, state="queued", limit=10)) == 3
        )  # The last two found one key waiting.


async def test_a_waiting_duplicate_is_not_begun_before_the_change_that_relies_on_it_is_committed(
    primary: Primary,
) -> None:
    """Begun earlier, it would not see the change, and nothing would come after it."""
    await add(primary, dedupe_key="same")
    async with primary.begin() as connection:
        await jobs.enqueue(connection, A, tenant_id=None, dedupe_key="same")
        assert await claim(primary) == []

    assert len(await claim(primary)) == 1


async def test_the_conflict_clause_finds_its_partial_index_with_a_generic_plan_too(resources: Resources) -> None:
    """The sixth execution of a prepared statement may be planned without values: a bound predicate fails there."""
    async with resources.primary.begin() as connection:
        for _ in range(20):
            await jobs.enqueue(connection, A, tenant_id=None, dedupe_key="again")
        waiting = await jobs.summaries(connection, state="queued", limit=100)

    assert [job.kind for job in waiting] == [A]


async def test_a_silent_worker_loses_its_job_and_the_attempt(primary: Primary, admin: asyncpg.Connection) -> None:
    await add(primary)
    (lost,) = await claim(primary)
    assert await expire(primary) == []
    await silent_too_long(admin)

    assert [job.id for job in await expire(primary)] == [lost.id]
    again = await claimed_at_last(primary)
    assert (again.id, again.attempt) == (lost.id, 2)


async def silent_too_long(admin: asyncpg.Connection) -> None:
    """Every lease is over, as if its time had passed."""
    await admin.execute("update jobs set lease_until = now() - interval '1 s' where state = 'running'")


async def claimed_at_last(primary: Primary) -> Job:
    taken: list[Job] = await until(lambda: claim(primary))
    return taken[0]


async def test_a_heartbeat_keeps_a_slow_job(primary: Primary, admin: asyncpg.Connection) -> None:
    await add(primary)
    taken = await claim(primary)
    for _ in range(4):
        await silent_too_long(admin)
        async with primary.begin() as connection:
            assert await jobs.extend(connection, taken, lease_seconds=30) == {taken[0].id}
        assert await expire(primary) == []

    assert await finish(primary, taken) == {taken[0].id}


@pytest.mark.parametrize("action", ["finish", "fail", "release", "extend"])
async def test_who_lost_the_lease_changes_nothing(primary: Primary, admin: asyncpg.Connection, action: str) -> None:
    await add(primary)
    zombie = await claim(primary)
    await silent_too_long(admin)
    await expire(primary)
    heir = await claimed_at_last(primary)
    before = await admin.fetch("select * from jobs")

    async with primary.begin() as connection:
        match action:
            case "finish":
                assert await jobs.finish(connection, zombie) == set()
            case "fail":
                assert await jobs.fail(connection, zombie, error="late") == []
            case "release":
                await jobs.release(connection, zombie)
            case "extend":
                assert await jobs.extend(connection, zombie, lease_seconds=99) == set()

    assert await admin.fetch("select * from jobs") == before
    assert await finish(primary, [heir]) == {heir.id}


async def test_a_released_job_is_due_at_once_with_its_attempt_back(primary: Primary) -> None:
    await add(primary)
    await release(primary, await claim(primary))

    assert [job.attempt for job in await claim(primary)] == [1]


async def test_the_wait_grows_has_jitter_and_is_capped(primary: Primary, admin: asyncpg.Connection) -> None:
    async def waits(attempt: int) -> list[float]:
        """Of 40 jobs that have just failed in this attempt."""
        await admin.execute("delete from jobs")
        await add(primary, 40)
        await admin.execute("update jobs set attempt = $1 - 1, max_attempts = 100", attempt)
        await fail(primary, await claim(primary))
        now = datetime.now(UTC)  # After it, so that the longest wait is not longer by what the machine does meanwhile.
        return [(row["run_at"] - now).total_seconds() for row in await admin.fetch("select run_at from jobs")]

    early, late, last = await waits(1), await waits(6), await waits(30)

    assert max(early) <= 1 < max(late) <= 32 < max(last) <= 300
    assert min(late) < 0.5 * max(late)
    assert len({round(wait, 2) for wait in late}) > 30


async def test_a_job_dies_with_its_last_attempt_and_says_why(primary: Primary, admin: asyncpg.Connection) -> None:
    await add(primary)
    await admin.execute("update jobs set max_attempts = 2")
    states = []
    for _ in range(2):
        await admin.execute("update jobs set run_at = now()")
        states += [job.state for job in await fail(primary, await claim(primary))]

    assert states == ["queued", "dead"]
    async with primary.begin() as connection:
        (summary,) = await jobs.summaries(connection, state="dead", limit=10)
    assert (summary.attempt, summary.last_error) == (2, "it went wrong")
    assert await claim(primary) == []


async def test_an_outage_kills_no_job_and_leaves_it_attempts(primary: Primary, admin: asyncpg.Connection) -> None:
    await add(primary)
    for _ in range(30):
        await admin.execute("update jobs set run_at = now()")
        assert [job.state for job in await fail(primary, await claim(primary), outage=True)] == ["queued"]

    (job,) = await admin.fetch("select attempt, run_at from jobs")
    assert job["attempt"] == 5
    assert job["run_at"] < datetime.now(UTC) + timedelta(seconds=35)


async def test_a_revived_job_has_all_its_attempts_and_is_revived_once(
    primary: Primary, admin: asyncpg.Connection
) -> None:
    await add(primary)
    await admin.execute("update jobs set max_attempts = 1")
    (dead,) = await fail(primary, await claim(primary))
    async with primary.begin() as connection:
        assert await jobs.dead(connection, [new_id()]) == []
        assert await jobs.dead(connection, None) == [dead]
        assert [await jobs.revive(connection, dead.id) for _ in range(2)] == [True, False]

    assert [job.attempt for job in await claim(primary)] == [1]


async def test_looking_for_a_job_reads_no_queue_of_another_kind(primary: Primary, admin: asyncpg.Connection) -> None:
    """Otherwise a backlog of files would slow down every look for a text."""
    await admin.execute(
        "insert into jobs (id, kind, run_at) select uuidv7(), 'index_file', now() - interval '1 h' from generate_series(1, 5000)"
    )
    await add(primary, 3)
    await admin.execute("analyze jobs")

    plan = "\n".join(
        row[0]
        for row in await admin.fetch(
            "explain (analyze, costs off, timing off) select id from jobs where state = 'queued' and run_at <= now()"
            " and kind in ('index_text') order by run_at, id limit 32 for update skip locked"
        )
    )

    assert "ix_jobs_claim" in plan
    assert "Rows Removed" not in plan
    await admin.execute("delete from jobs")
