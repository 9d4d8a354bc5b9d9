"""The probes while a part of the service is away: alive whatever happens, ready when every part answers."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import httpx
import pytest
from fastapi import FastAPI

from service.app import create_app
from service.local.postgres import EmbeddedPostgres
from service.settings import Settings
from tests.api_calls import code
from tests.database_doors import proxy
from tests.operations_calls import scrape, value
from tests.worker_calls import until


@pytest.fixture
async def probe(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Without a key, as probes are."""
    async with client_of(app) as client:
        yield client


def client_of(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service", timeout=30)


@contextmanager
def forgotten(app: FastAPI) -> Iterator[None]:
    """What the probes remember of a moment ago would hide a change."""
    app.state.readiness._good_until = app.state.queue_watch._fresh_until = 0.0
    yield


def missing(answer: httpx.Response) -> set[str]:
    """The parts that a 503 names, in its sentence too."""
    assert code(answer) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    parts = {error["field"]: error["message"] for error in answer.json()["errors"]}
    assert all(f"{part}: {reason}" in answer.json()["detail"] for part, reason in parts.items())
    return set(parts)


async def test_without_the_database_the_service_is_alive_and_says_what_is_not_ready(
    app: FastAPI, probe: httpx.AsyncClient, stoppable: EmbeddedPostgres
) -> None:
    assert (await probe.get("/readyz")).json() == {"status": "ready"}
    await stoppable.stop()
    try:
        with forgotten(app):
            not_ready, alive, metrics = [await probe.get(path) for path in ("/readyz", "/livez", "/metrics")]
    finally:
        await stoppable.start()

    assert missing(not_ready) == {"database", "search_database"}
    assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
    assert metrics.status_code == 200
    assert value(metrics.text, "hybrid_jobs_readable") == 0
    assert (
        value(metrics.text, "hybrid_http_request_seconds_count", method="GET", route="/readyz", status="503") or 0
    ) >= 1

    async def is_ready() -> bool:
        return (await probe.get("/readyz")).status_code == 200

    await until(is_ready)
    assert value(await scrape(probe), "hybrid_jobs_readable") == 1


async def test_each_door_of_the_database_is_asked_for_itself(settings: Settings) -> None:
    url = httpx.URL(settings.search_database_url.get_secret_value())
    refused = settings.search_database_url.__class__(str(url.copy_with(username=url.username, password="another")))
    app = create_app(settings.model_copy(update={"search_database_url": refused}))
    async with app.router.lifespan_context(app), client_of(app) as probe:
        answer = await probe.get("/readyz")

    assert missing(answer) == {"search_database"}


async def test_it_is_ready_without_a_replica_whose_part_the_primary_takes(settings: Settings) -> None:
    url = httpx.URL(settings.search_database_url.get_secret_value())
    async with proxy(url.port or 5432) as (port, cut):
        beyond = settings.search_database_url.__class__(str(url.copy_with(port=port)))
        app = create_app(settings.model_copy(update={"search_database_url": beyond}))
        async with app.router.lifespan_context(app), client_of(app) as probe:
            assert (await probe.get("/readyz")).status_code == 200
            await cut()
            with forgotten(app):
                answer = await probe.get("/readyz")

    assert answer.status_code == 200


async def test_a_bucket_that_is_away_is_named_alone(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"}))
    async with app.router.lifespan_context(app), client_of(app) as probe:
        answer = await probe.get("/readyz")

    assert missing(answer) == {"bucket"}


async def test_a_database_that_is_silent_does_not_hold_the_probe_up(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"database_pool_size": 2}))
    async with app.router.lifespan_context(app), client_of(app) as probe:
        release, primary = asyncio.Event(), app.state.resources.primary

        async def hold() -> None:
            async with primary.begin():
                await release.wait()

        holding = [asyncio.create_task(hold()) for _ in range(2)]

        async def held() -> bool:
            return bool(primary.load().in_use == 2)

        await until(held)
        begun = time.monotonic()
        answer, metrics = await asyncio.gather(probe.get("/readyz"), probe.get("/metrics"))
        took = time.monotonic() - begun
        release.set()
        await asyncio.gather(*holding)
        after = await probe.get("/readyz")

    assert missing(answer) == {"database"}
    assert "within" in answer.json()["detail"]
    assert metrics.status_code == 200
    assert took < 5
    assert after.status_code == 200


async def test_a_full_search_queue_does_not_make_the_service_unready(settings: Settings) -> None:
    app = create_app(settings)
    async with app.router.lifespan_context(app), client_of(app) as probe:
        gate = app.state.resources.reader.gate
        gate.units |= {asyncio.get_running_loop().create_future() for _ in range(gate.most)}
        answer = await probe.get("/readyz")
        gate.units.clear()

    assert answer.status_code == 200
