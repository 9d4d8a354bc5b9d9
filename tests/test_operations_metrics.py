"""What the metrics count while things happen, what that costs, and where they are to be had."""

import asyncio
import timeit
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.responses import Response

from service.api.middleware import RequestEnvelope
from service.ingest.extract import Extractor
from service.ingest.tools import Tools
from service.ingest.worker import Schedule, run_worker
from service.resources import Resources
from service.settings import Settings
from service.telemetry.metrics import Metrics, PortTakenError, listening
from service.telemetry.telemetry import Telemetry
from tests.api_calls import Api
from tests.operations_calls import scrape, serving, value, values
from tests.worker_calls import PickyEmbedder, until

MOST_SECONDS = 50e-6  # What telemetry may cost a request.


async def test_metrics_need_no_key_and_speak_openmetrics_where_asked(app: FastAPI) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as stranger:
        plain = await stranger.get("/metrics")
        asked = await stranger.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})

    assert plain.headers["content-type"].startswith("text/plain")
    assert asked.headers["content-type"].startswith("application/openmetrics-text")
    assert asked.text.endswith("# EOF\n")
    assert plain.headers["x-request-id"]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(("exact_chunks", "way"), [(13_000, "exact"), (0, "hnsw")])
async def test_the_way_that_the_statement_took_is_counted(
    settings: Settings, api: Api, collection: str, exact_chunks: int, way: str
) -> None:
    await api.make_document(collection, wait=20)
    async with serving(settings, api, exact_chunks=exact_chunks) as (_, asked):
        url = f"/v1/collections/{collection}/search"

        async def is_counted() -> bool:
            return bool((await api.status(collection))["settled"])

        await until(is_counted)
        for _ in range(3):
            await asked.client.post(url, json={"query": "fox"})
        text = await scrape(asked.client)

    assert {labels: n for (name, labels), n in values(text).items() if name == "hybrid_search_routes_total"} == {
        frozenset({("route", way)}): 3
    }


async def test_statement_shapes_are_counted(settings: Settings, api: Api, collection: str) -> None:
    async with serving(settings, api) as (_, asked):
        for mode in ("hybrid", "lexical", "hybrid"):
            await asked.client.post(f"/v1/collections/{collection}/search", json={"query": "fox", "mode": mode})
        text = await scrape(asked.client)

    assert (value(text, "hybrid_search_statements", kind="prepared") or 0) >= 2
    assert value(text, "hybrid_search_statements", kind="unprepared") is not None


async def test_an_attempt_that_fails_is_counted_and_names_its_documents(
    resources: Resources, api: Api, collection: str, admin: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry, stop = Telemetry(), asyncio.Event()
    bad = await api.make_document(collection, text="poison")
    async with Extractor() as extractor:
        r = resources
        tools = Tools(r.primary, r.blobs, PickyEmbedder("poison"), r.profile, extractor, 0, telemetry)
        schedule = Schedule(poll_seconds=0.01, lease_seconds=30)
        working = asyncio.create_task(run_worker(tools, schedule=schedule, stop=stop))
        last_error = "select last_error from jobs where document_id = $1"
        await until(lambda: admin.fetchval(last_error, bad["id"]))
        stop.set()
        await working
    await admin.execute("delete from jobs")
    text = telemetry.metrics.exposed("")[0].decode()

    assert (value(text, "hybrid_job_seconds_count", kind="index_text", outcome="failed") or 0) >= 1
    assert value(text, "hybrid_job_seconds_count", kind="index_text", outcome="done") is None
    assert value(text, "hybrid_indexed_documents_total", outcome="indexed") is None
    [line, *_] = [record.getMessage() for record in caplog.records if "jobs failed" in record.getMessage()]
    assert bad["id"] in line


async def test_what_was_rolled_back_is_not_counted(
    resources: Resources, api: Api, collection: str, admin: asyncpg.Connection
) -> None:
    telemetry, stop = Telemetry(), asyncio.Event()
    document = await api.make_document(collection)
    async with as_if_commit_failed(admin), Extractor() as extractor:
        r = resources
        tools = Tools(r.primary, r.blobs, r.embedder, r.profile, extractor, 0, telemetry)
        running = asyncio.create_task(run_worker(tools, schedule=Schedule(0.01, 30), stop=stop))
        last_error = "select last_error from jobs where document_id = $1"
        await until(lambda: admin.fetchval(last_error, document["id"]))
        stop.set()
        await running
    text = telemetry.metrics.exposed("")[0].decode()

    assert value(text, "hybrid_indexed_documents_total", outcome="indexed") is None
    assert (value(text, "hybrid_index_stage_seconds_total", stage="write") or 0) > 0
    await admin.execute("delete from jobs")


@asynccontextmanager
async def as_if_commit_failed(admin: asyncpg.Connection) -> AsyncIterator[None]:
    """A constraint that is checked at the very end refuses every new chunk."""
    await admin.execute(
        "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$"
    )
    await admin.execute(
        "create constraint trigger refuse after insert on chunks initially deferred for each row execute function refuse()"
    )
    try:
        yield
    finally:
        await admin.execute("drop trigger refuse on chunks; drop function refuse")


def test_a_worker_answers_on_its_port_and_without_one_nowhere() -> None:
    metrics = Metrics()
    with (
        listening(metrics, host="127.0.0.1", port=0) as port,
        listening(metrics, host="127.0.0.1", port=None) as nowhere,
    ):
        answer = httpx.get(f"http://127.0.0.1:{port}/metrics")

        assert answer.status_code == 200
        assert "process_resident_memory_bytes" in answer.text
        assert nowhere is None
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/metrics")


def test_a_port_that_is_taken_is_one_sentence() -> None:
    with (
        listening(Metrics(), host="127.0.0.1", port=0) as port,
        pytest.raises(PortTakenError, match=rf"^WORKER_METRICS_PORT: 127\.0\.0\.1:{port} cannot be listened on"),
        listening(Metrics(), host="127.0.0.1", port=port),
    ):
        pass


def test_two_processes_in_one_have_each_their_own_numbers() -> None:
    first, second = Telemetry(), Telemetry()
    first.searched("exact", ["budget"])

    assert isinstance(first.metrics.registry, CollectorRegistry)
    assert value(first.metrics.exposed("")[0].decode(), "hybrid_search_routes_total", route="exact") == 1
    assert value(second.metrics.exposed("")[0].decode(), "hybrid_search_routes_total", route="exact") is None


def test_what_a_search_pays_for_being_measured_is_below_50_microseconds() -> None:
    telemetry = Telemetry()
    envelope = RequestEnvelope(Response(), requests=telemetry.metrics.http_requests)
    scope = {"path": "/metrics", "route": None}

    def one_search() -> None:
        clock = telemetry.search_clock()
        with clock.stage("embedding"):
            pass
        with clock.stage("statement"):
            pass
        telemetry.searched("exact", ())
        clock.end()
        envelope._end(scope, 200, method="POST", seconds=0.01)

    seconds = min(timeit.repeat(one_search, number=100, repeat=100)) / 100  # While nobody else had the processor.

    assert seconds < MOST_SECONDS, f"{seconds * 1e6:.1f} µs"
