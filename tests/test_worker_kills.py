"""The worker as a process that is killed, stopped and frozen: everything is indexed once and whole."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import pytest

from service.resources import Resources
from service.settings import Settings
from tests.api_calls import Api
from tests.worker_calls import check_whole, environment_of, until, until_idle, working_with

ROOT = Path(__file__).parents[1]
DOCUMENTS, SENTENCES = 400, 60  # two chunks each
KILLS = 5

Worker = subprocess.Popen[bytes]
Start = Callable[..., Worker]


@pytest.fixture
async def start(settings: Settings, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a worker as a process of its own: leases of a second, small batches."""
    environment = {
        **os.environ,
        **environment_of(settings),
        "LEASE_SECONDS": "1",
        "WORKER_POLL_SECONDS": "0.02",
        "WORKER_BATCH": "8",
        "PYTHONPATH": str(ROOT),
    }
    workers: list[Worker] = []
    log = tmp_path / "worker.log"

    def start(**variables: str) -> Worker:
        with log.open("ab") as file:
            command = [sys.executable, "-m", "service", "worker"]
            workers.append(subprocess.Popen(command, env={**environment, **variables}, stdout=file, stderr=file))
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()
        worker.wait()
    sys.stdout.write(log.read_text()[-20_000:])  # into pytest's report of a failed test


@pytest.fixture
async def backlog(api: Api, admin: asyncpg.Connection) -> str:
    """Documents in a new collection, of which every second has a second version already."""
    collection = await api.make_collection()
    await admin.execute("delete from jobs")
    for turn in (1, 2):
        lines = [
            {"external_id": str(n), "title": f"Title {n}", "text": f"Version {turn} of {n} says so. " * SENTENCES}
            for n in range(0, DOCUMENTS, turn)
        ]
        await api.batch(collection, lines)
    return collection


async def indexed(admin: asyncpg.Connection) -> int:
    count: int = await admin.fetchval("select count(*) from documents where indexed_version is not null")
    return count


async def all_is_indexed(api: Api, collection: str, admin: asyncpg.Connection) -> None:
    await until_idle(admin, 60)
    status = await api.status(collection)
    assert status["documents"] == {"pending": 0, "processing": 0, "indexed": DOCUMENTS, "failed": 0}
    assert status["settled"]
    await check_whole(admin)
    orphans = "select count(*) from documents where indexed_version <> version"
    assert await admin.fetchval(orphans) == 0


async def test_kill_9_at_any_moment_loses_and_doubles_nothing(
    api: Api, admin: asyncpg.Connection, backlog: str, start: Start
) -> None:
    moments = random.Random(7)  # noqa: S311  repeatable, not secret
    worker = start()
    for _ in range(KILLS):
        heir, before = start(), await indexed(admin)

        async def works(before: int = before) -> bool:
            return await indexed(admin) > before or await admin.fetchval("select count(*) from jobs") == 0

        await until(works)
        await asyncio.sleep(moments.random() * 0.15)
        worker.kill()
        worker.wait()
        await check_whole(admin)
        worker = heir

    await all_is_indexed(api, backlog, admin)


async def test_sigterm_ends_in_seconds_and_gives_everything_back(
    api: Api, admin: asyncpg.Connection, backlog: str, start: Start
) -> None:
    before = await indexed(admin)
    worker = start(LEASE_SECONDS="30")  # One of a second may run out on a busy machine, and that spends an attempt.

    async def works() -> bool:
        return await indexed(admin) > before

    await until(works)
    begun = time.monotonic()
    worker.send_signal(signal.SIGTERM)

    assert await asyncio.to_thread(worker.wait, 30) == 0
    assert time.monotonic() - begun < 10
    assert await admin.fetchval("select count(*) from jobs where state = 'running'") == 0
    assert await admin.fetchval("select coalesce(max(attempt), 0) from jobs where kind = 'index_text'") == 0
    start()
    await all_is_indexed(api, backlog, admin)


async def test_a_worker_frozen_past_its_lease_writes_nothing_when_it_wakes(
    api: Api, admin: asyncpg.Connection, backlog: str, start: Start, resources: Resources
) -> None:
    zombie = start(WORKER_LANES="2")  # Of three, one is always in a transaction.
    await until(lambda: frozen_at_work(zombie, admin))
    async with working_with(resources)(lease_seconds=1):
        await all_is_indexed(api, backlog, admin)
    before = await admin.fetch("select id, xmin from chunks union all select id, xmin from documents order by 1")

    zombie.send_signal(signal.SIGCONT)
    await asyncio.sleep(1)

    after = await admin.fetch("select id, xmin from chunks union all select id, xmin from documents order by 1")
    assert after == before
    assert await admin.fetchval("select count(*) from jobs") == 0
    zombie.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(zombie.wait, 30) == 0


async def frozen_at_work(worker: Worker, admin: asyncpg.Connection) -> bool:
    """Frozen with jobs in hand and no transaction open: one that is open ends by the role's own timeout."""
    if not await admin.fetchval("select count(*) from jobs where state = 'running'"):
        return False
    worker.send_signal(signal.SIGSTOP)
    await asyncio.sleep(0.02)
    in_hand = await admin.fetchval("select count(*) from jobs where state = 'running' and kind = 'index_text'")
    inside = await admin.fetchval(
        "select count(*) from pg_stat_activity where datname = current_database()"
        " and usename = 'hybrid_application' and xact_start is not null"
    )
    if in_hand and not inside:
        return True
    worker.send_signal(signal.SIGCONT)
    return False
