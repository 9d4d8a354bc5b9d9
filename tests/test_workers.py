"""`serve --workers N`: one port, N processes, none of which is missed for long, and nothing that starts over and over."""

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import httpx
import psutil
import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest

from service.db.addresses import Address
from service.db.capacity import TooManyConnectionsError, check_room
from service.db.pooling import Door
from service.resources import connections
from service.settings import Settings
from service.telemetry.siblings import Seat, among_siblings
from tests.test_cli_doors import ROOT, door
from tests.worker_calls import environment_of


@asynccontextmanager
async def served(
    settings: Settings, workers: int, **more: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, httpx.AsyncClient]]:
    """The supervisor, and a client of a new connection each time."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    environment = {"PATH": os.defpath, "HOME": "/", **environment_of(settings), "PORT": str(port), **more}
    words = ["-m", "service", "serve", "--workers", str(workers)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, cwd=ROOT, env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    fresh = httpx.Limits(max_keepalive_connections=0)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", limits=fresh, trust_env=False) as client:
            yield process, client
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), 60)


def crew(process: asyncio.subprocess.Process) -> set[int]:
    return {child.pid for child in psutil.Process(process.pid).children(recursive=True)}


async def until_all_answer(client: httpx.AsyncClient, *, without: Mapping[str, str] | None = None) -> dict[str, str]:
    """The start of each worker, as the metrics of one answer tell; none of them the same as `without` says."""
    async with asyncio.timeout(60):
        while True:
            try:
                text = (await client.get("/metrics")).text
            except httpx.TransportError:
                text = ""
            starts = dict(re.findall(r'^process_start_time_seconds\{worker="(\d)"\} (\S+)$', text, re.MULTILINE))
            if len(starts) == 2 and starts != without:
                return starts
            await asyncio.sleep(0.05)


async def test_a_worker_that_dies_is_started_again_and_all_end_together(
    settings: Settings, admin: asyncpg.Connection
) -> None:
    async with served(settings, 2) as (process, client):
        first = await until_all_answer(client)
        announced = await admin.fetchval("select count(*) from instances where kind = 'api'")
        before = crew(process)
        os.kill(min(before), signal.SIGKILL)
        again = await until_all_answer(client, without=first)
        after = crew(process)
        process.terminate()
        status = await asyncio.wait_for(process.wait(), 60)

    assert announced >= 2
    assert len(before) == len(after) == 2
    assert len(before & after) == 1
    assert len(set(first.items()) & set(again.items())) == 1
    assert status == 0
    assert not any(psutil.pid_exists(pid) for pid in after)


async def test_what_keeps_the_first_from_serving_is_one_sentence_and_the_end(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as another service with workers does
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        own = {**environment_of(settings), "HOST": "127.0.0.1"}
        greedy = own | {"DATABASE_POOL_SIZE": "5000", "PORT": "0"}
        answers = await asyncio.gather(
            door(["serve", "--workers", "2"], own | {"PORT": str(port)}),
            door(["serve"], own | {"PORT": str(port)}),
            door(["serve", "--workers", "2"], greedy),
        )
    shared, alone, too_many = [code_and_sentences(answer) for answer in answers]

    assert shared == alone == (1, [f"Error: PORT: {port} is taken by another program on 127.0.0.1: choose another"])
    assert too_many[0] == 1
    (sentence,) = too_many[1]
    assert sentence.startswith("Error: DATABASE_URL: SERVE_WORKERS 2 * (DATABASE_POOL_SIZE 5000 + SEARCH_POOL_SIZE 8")
    assert "lower SERVE_WORKERS" in sentence


def code_and_sentences(answer: tuple[int, str, str]) -> tuple[int, list[str]]:
    code, _, err = answer
    return code, err.splitlines()


async def test_pools_that_fit_exactly_are_let_in_and_one_more_is_not(
    settings: Settings, admin: asyncpg.Connection
) -> None:
    address = Address.parse(settings.database_url.get_secret_value(), tls=settings.database_tls, ca_file=None)
    reserved = await admin.fetchval(
        "select sum(setting::int) from pg_settings where name in ('superuser_reserved_connections', 'reserved_connections')"
    )
    room = int(await admin.fetchval("show max_connections")) - reserved
    door = Door("DATABASE_URL", address, unprepared=True)
    await check_room(door, pooling="session", wanted=room, because="this")
    await check_room(door, pooling="tracked", wanted=room + 1, because="this")

    with pytest.raises(TooManyConnectionsError, match=f"this may open {room + 1} connections"):
        await check_room(door, pooling="session", wanted=room + 1, because="this")


def test_a_replica_takes_its_share_of_the_connections(settings: Settings) -> None:
    elsewhere = settings.model_copy(
        update={"search_database_url": type(settings.database_url)("postgresql://s:s@far/d")}
    )
    by_psqlpy = settings.model_copy(update={"search_driver": "psqlpy"})

    assert [each.total for each in connections(settings)] == [18, 18]
    assert [each.total for each in connections(by_psqlpy)] == [20, 20], "its rare shapes have connections of their own"
    assert [each.total for each in connections(elsewhere)] == [14, 8]


async def test_whoever_is_asked_for_metrics_tells_those_of_all_that_answer(tmp_path: Path) -> None:
    registries = [CollectorRegistry(), CollectorRegistry()]
    for number, registry in enumerate(registries):
        Counter("searches", "Of all.", ["route"], registry=registry).labels("exact").inc(number + 1)
    async with among_siblings(Seat(0, 3, tmp_path), registries[0]) as first:
        async with among_siblings(Seat(1, 3, tmp_path), registries[1]) as second:
            both = [generate_latest(await each.collected()).decode() for each in (first, second)]
        alone = generate_latest(await first.collected()).decode()
    one, two = (f'searches_total{{route="exact",worker="{n}"}} {n + 1}.0' for n in (0, 1))

    assert all(text.count("# TYPE searches_total counter") == 1 and one in text and two in text for text in both)
    assert one in alone
    assert two not in alone
