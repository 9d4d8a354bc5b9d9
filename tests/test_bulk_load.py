"""Bulk loads: the index of vectors is put off where no search uses it, and comes back whatever happens."""

from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import orjson
import pytest

from service.db import graphs, jobs
from service.db.jobs import Job
from service.db.profiles import ensure_profile
from service.domain.ids import new_id
from service.resources import Resources
from service.settings import Settings
from tests.api_calls import Api
from tests.worker_calls import check_whole, until, until_idle, working_with

WORDS = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliett"]


@pytest.fixture
def direct_url(settings: Settings) -> str:
    assert settings.database_direct_url is not None
    return settings.database_direct_url.get_secret_value()


@pytest.fixture(autouse=True)
async def whole_again(resources: Resources, admin: asyncpg.Connection, direct_url: str) -> AsyncIterator[None]:
    """Whatever a test has left, the next one finds an index and an empty queue."""
    yield
    await admin.execute("delete from jobs where kind = any($1)", [jobs.DEFER_GRAPH, jobs.BUILD_GRAPH])
    await ensure_profile(direct_url, name=resources.profile.name, dimension=resources.profile.dimension)


async def index_of(admin: asyncpg.Connection, resources: Resources) -> asyncpg.Record | None:
    return await admin.fetchrow(
        "select i.indisvalid, i.indexrelid::bigint as id from pg_index i join pg_class c on c.oid = i.indexrelid"
        " where c.relname = $1",
        graphs.graph_name(resources.profile.id),
    )


async def call(api: Api, method: str, collection: str) -> str:
    answer = await api.client.request(method, f"/v1/collections/{collection}/bulk-load")
    assert answer.status_code == 200, answer.text
    return str(answer.json()["index"])


async def send(api: Api, collection: str, texts: list[str]) -> None:
    lines = b"\n".join(orjson.dumps({"external_id": text, "text": text}) for text in texts)
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await api.client.post(f"/v1/collections/{collection}/documents:batch", content=lines, headers=headers)
    assert [orjson.loads(line)["status"] for line in answer.content.splitlines()] == [202] * len(texts)


async def claimed(resources: Resources, kind: str) -> Job:
    async with resources.primary.begin() as connection:
        (job,) = await jobs.claim(connection, kinds=[kind], limit=1, lease_seconds=30)
    return job


async def defer(resources: Resources, direct_url: str, *, exact_chunks: int = 20_000) -> bool:
    """As an owner's worker does it."""
    job = await claimed(resources, jobs.DEFER_GRAPH)
    return await graphs.defer_graph(direct_url, job, resources.profile, exact_chunks=exact_chunks)


async def look(resources: Resources, admin: asyncpg.Connection, direct_url: str) -> bool:
    """As an owner's worker does it, at once."""
    await admin.execute("update jobs set run_at = now() where kind = $1", jobs.BUILD_GRAPH)
    return await graphs.build_graph(direct_url, await claimed(resources, jobs.BUILD_GRAPH), resources.profile)


async def test_the_graph_keeps_as_many_neighbours_as_were_measured(
    admin: asyncpg.Connection, resources: Resources
) -> None:
    name = graphs.graph_name(resources.profile.id)

    kept = await admin.fetchval("select reloptions from pg_class where relname = $1", name)

    assert kept == [f"m={graphs.M}", f"ef_construction={graphs.EF_CONSTRUCTION}"]


async def test_a_load_is_found_before_and_after_its_index_is_built(
    api: Api, collection: str, resources: Resources, admin: asyncpg.Connection, direct_url: str
) -> None:
    async with working_with(resources)(direct_url=direct_url):
        assert await call(api, "PUT", collection) in {"preparing", "deferred"}
        await until(lambda: standing(api, collection, "deferred"))
        gone = await index_of(admin, resources)
        await send(api, collection, WORDS)
        await until(lambda: settled(api, collection))
        meanwhile = await nearest(api, collection, "golf")
        await call(api, "DELETE", collection)
        await until(lambda: standing(api, collection, "live"))
        await until_idle(admin)

    assert gone is None
    assert meanwhile == await nearest(api, collection, "golf")
    assert meanwhile[0] == "golf"
    assert (await index_of(admin, resources) or {})["indisvalid"]
    await check_whole(admin)


async def standing(api: Api, collection: str, wanted: str) -> bool:
    return await call(api, "GET", collection) == wanted


async def settled(api: Api, collection: str) -> bool:
    status = (await api.client.get(f"/v1/collections/{collection}/status")).json()
    return bool(status["settled"] and status["documents"]["indexed"] == len(WORDS))


async def nearest(api: Api, collection: str, query: str) -> list[str]:
    asked = {"query": query, "mode": "semantic", "limit": 5}
    answer = await api.client.post(f"/v1/collections/{collection}/search", json=asked)
    return [hit["external_id"] for hit in answer.json()["hits"]]


async def test_an_index_that_searches_may_be_using_is_kept(
    api: Api, collection: str, resources: Resources, admin: asyncpg.Connection, direct_url: str
) -> None:
    async with working_with(resources)():
        await api.make_document(collection, wait=60)
    before = await index_of(admin, resources)
    await call(api, "PUT", collection)

    assert not await defer(resources, direct_url, exact_chunks=0)
    assert await index_of(admin, resources) == before
    assert await call(api, "GET", collection) == "live"
    assert not await admin.fetchval("select count(*) from jobs where kind = $1", jobs.BUILD_GRAPH)


async def test_whoever_lost_the_job_drops_nothing(
    api: Api, collection: str, resources: Resources, admin: asyncpg.Connection, direct_url: str
) -> None:
    await call(api, "PUT", collection)
    job = replace(await claimed(resources, jobs.DEFER_GRAPH), lease_token=new_id())

    assert not await graphs.defer_graph(direct_url, job, resources.profile, exact_chunks=20_000)
    assert await index_of(admin, resources) is not None


async def test_the_index_waits_for_texts_that_wait_even_after_the_end_was_said(
    api: Api, collection: str, resources: Resources, admin: asyncpg.Connection, direct_url: str
) -> None:
    await call(api, "PUT", collection)
    await defer(resources, direct_url)
    await send(api, collection, WORDS)
    await call(api, "DELETE", collection)

    assert not await look(resources, admin, direct_url)
    assert await index_of(admin, resources) is None
    row = await admin.fetchrow(
        "select state, attempt, payload::text as noted from jobs where kind = $1", jobs.BUILD_GRAPH
    )
    assert row is not None
    assert (row["state"], row["attempt"], orjson.loads(row["noted"])["ended"]) == ("queued", 0, True)


async def test_a_load_that_falls_silent_ends_by_itself(
    api: Api, collection: str, resources: Resources, admin: asyncpg.Connection, direct_url: str
) -> None:
    await call(api, "PUT", collection)
    await defer(resources, direct_url)

    looks = [await look(resources, admin, direct_url) for _ in range(graphs.IDLE_LOOKS + 1)]

    assert looks == [False] * graphs.IDLE_LOOKS + [True]
    assert (await index_of(admin, resources) or {})["indisvalid"]


@pytest.mark.usefixtures("as_superuser")
async def test_what_a_killed_build_left_behind_is_built_again(
    api: Api, collection: str, resources: Resources, admin: asyncpg.Connection, direct_url: str
) -> None:
    await call(api, "PUT", collection)
    await defer(resources, direct_url)
    await admin.execute(graphs.graph_ddl(resources.profile, concurrently=False))
    left = await index_of(admin, resources)
    assert left is not None
    await admin.execute("update pg_index set indisvalid = false where indexrelid = $1::bigint::oid", left["id"])
    await call(api, "DELETE", collection)

    assert await call(api, "GET", collection) == "deferred"
    assert await look(resources, admin, direct_url)
    built = await index_of(admin, resources)
    assert built is not None
    assert (built["indisvalid"], built["id"] != left["id"]) == (True, True)


async def test_a_start_leaves_the_index_to_the_job_that_will_build_it(
    api: Api, collection: str, resources: Resources, admin: asyncpg.Connection, direct_url: str
) -> None:
    await call(api, "PUT", collection)
    await defer(resources, direct_url)
    profile = resources.profile
    await ensure_profile(direct_url, name=profile.name, dimension=profile.dimension)
    awaited = await index_of(admin, resources)
    await admin.execute("delete from jobs where kind = $1", jobs.BUILD_GRAPH)
    await ensure_profile(direct_url, name=profile.name, dimension=profile.dimension)

    assert awaited is None
    assert await index_of(admin, resources) is not None
