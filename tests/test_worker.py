"""The worker in this process: what becomes searchable, what ends failed, and what must be gone."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from tests.api_calls import Api
from tests.worker_calls import (
    Gate,
    HeldEmbedder,
    HeldExtractor,
    Working,
    check_whole,
    is_indexed,
    until,
    until_idle,
)

ONCE = 60  # Between two looks for jobs: a worker that holds what it found at its start, and takes nothing else.
EVERY_TABLE = ("documents", "document_versions", "chunks", "chunk_terms", "embeddings", "lexeme_frequencies")


@pytest.fixture(autouse=True)
async def no_jobs_left(admin: asyncpg.Connection) -> None:
    await admin.execute("delete from collections where deleted_at is not null")
    await admin.execute("delete from jobs")


async def chunk_texts(api: Api, document: dict[str, Any]) -> list[str]:
    chunks = (await api.client.get(f"/v1/documents/{document['id']}/chunks")).json()["chunks"]
    return [chunk["text"] for chunk in chunks]


async def rows_of(admin: asyncpg.Connection, document: dict[str, Any]) -> int:
    count = "select count(*) from {} where document_id = $1"
    tables = ("document_versions", "chunks", "chunk_terms", "embeddings", "jobs")
    return sum([await admin.fetchval(count.format(table), document["id"]) for table in tables])


# Versions


async def test_an_older_version_is_never_served_after_a_newer_one(
    api: Api, collection: str, admin: asyncpg.Connection, working: Working
) -> None:
    document = await api.make_document(collection, external_id="x", text="The old text.")
    gate = Gate()
    async with working(embedder=HeldEmbedder(gate), poll_seconds=ONCE):
        await gate.reached.wait()
        async with working():
            assert (await api.put(collection, "x", {"text": "The new text."}, wait=60)).status_code == 200
            gate.open.set()
            await until_idle(admin)

    assert await chunk_texts(api, document) == ["The new text."]
    assert (await api.get(document))["indexed_version"] == 2
    await check_whole(admin)


async def test_a_version_overtaken_while_it_is_indexed_is_served_until_the_newer_one_is_ready(
    api: Api, collection: str, admin: asyncpg.Connection, working: Working
) -> None:
    document = await api.make_document(collection, external_id="x", text="The old text.")
    gate = Gate()
    async with working(embedder=HeldEmbedder(gate)):
        await gate.reached.wait()
        await api.put(collection, "x", {"text": "The new text."})
        gate.open.set()
        await until_idle(admin)

    assert await chunk_texts(api, document) == ["The new text."]
    await check_whole(admin)


async def test_a_document_deleted_while_it_is_indexed_leaves_nothing(
    api: Api, collection: str, admin: asyncpg.Connection, working: Working
) -> None:
    document = await api.make_document(collection)
    gate = Gate()
    async with working(embedder=HeldEmbedder(gate)):
        await gate.reached.wait()
        assert (await api.delete(document)).status_code == 204
        gate.open.set()
        await until_idle(admin)

    assert await rows_of(admin, document) == 0
    await check_whole(admin)


@pytest.mark.parametrize("content", [b"# Good", b"%PDF-1.7 broken"])
async def test_whoever_lost_the_lease_while_indexing_writes_nothing(
    api: Api, collection: str, admin: asyncpg.Connection, working: Working, *, content: bytes
) -> None:
    """Neither chunks nor a failure."""
    document = await api.make_file(collection, content)
    gate = Gate()
    async with working(extractor=HeldExtractor(gate), poll_seconds=ONCE):
        await gate.reached.wait()
        await admin.execute("update jobs set lease_token = uuidv7() where state = 'running'")
        before = await admin.fetch("select * from document_versions where document_id = $1", document["id"])
        gate.open.set()
        await asyncio.sleep(0.5)

    assert await admin.fetch("select * from document_versions where document_id = $1", document["id"]) == before
    assert await admin.fetchval("select count(*) from chunks where document_id = $1", document["id"]) == 0
    assert await admin.fetchval("select state from jobs where document_id = $1", document["id"]) == "running"
    await api.delete(document)


# Blobs


async def test_the_blobs_of_superseded_versions_and_deleted_documents_go(
    api: Api, admin: asyncpg.Connection, working: Working, count_blobs: Callable[[], Awaitable[int]]
) -> None:
    collection, before = await api.make_collection(), await count_blobs()
    async with working():
        for content in (b"# One", b"# Two", b"# Three"):
            await api.client.put(
                f"/v1/collections/{collection}/documents/x", params={"wait": 60, "filename": "a.md"}, content=content
            )
        await until_idle(admin)
        assert await count_blobs() == before + 1

        await api.client.delete(f"/v1/collections/{collection}/documents/x", headers={"If-Match": "*"})
        await until_idle(admin)
    assert await count_blobs() == before


async def test_a_blob_that_a_patched_version_shares_is_kept(
    api: Api, admin: asyncpg.Connection, working: Working, count_blobs: Callable[[], Awaitable[int]]
) -> None:
    collection, before = await api.make_collection(), await count_blobs()
    document = await api.make_file(collection)
    gate = Gate()
    async with working(extractor=HeldExtractor(gate)):
        await gate.reached.wait()
        document = (await api.patch(document, {"title": "Another"})).json()
        gate.open.set()
        await until_idle(admin)
        for change in ({"title": "Third"}, {"tags": ["a"]}, {"language": "german"}):
            document = (await api.patch(await api.get(document), change)).json()
            await until_idle(admin)

    assert (await api.get(document))["indexed_version"] == 5
    assert await count_blobs() == before + 1
    answer = await api.client.get(f"/v1/documents/{document['id']}/content", params={"stream": "true"})
    assert answer.content == b"# Title\n\nText of a file.\n"
    await check_whole(admin)


async def test_deleting_a_collection_removes_rows_and_blobs_in_the_background(
    api: Api, admin: asyncpg.Connection, working: Working, count_blobs: Callable[[], Awaitable[int]]
) -> None:
    collection, kept, before = await api.make_collection(), await api.make_collection(), await count_blobs()
    id_ = await admin.fetchval("select id from collections where name = $1 and deleted_at is null", collection)
    gate = Gate()
    async with working():
        await api.batch(collection, [{"text": f"Text number {n}."} for n in range(600)])
        await asyncio.gather(*(api.make_file(collection) for _ in range(5)))
        await api.make_document(kept, wait=60)
        await until_idle(admin)
    await api.batch(collection, [{"text": f"Being indexed {n}."} for n in range(5)])
    async with working(embedder=HeldEmbedder(gate), poll_seconds=ONCE):
        await gate.reached.wait()
        assert (await api.client.delete(f"/v1/collections/{collection}")).status_code == 204
        async with working():
            await asyncio.sleep(0.3)
            gate.open.set()
            await until_idle(admin)

    count = "select count(*) from {} where collection_id = $1"
    counts = [await admin.fetchval(count.format(table), id_) for table in EVERY_TABLE]
    assert counts == [0] * len(EVERY_TABLE)
    assert await admin.fetchval("select count(*) from collections where id = $1", id_) == 0
    assert await count_blobs() == before
    assert (await api.status(kept))["documents"]["indexed"] == 1
    await check_whole(admin)


# Lanes and the end


async def test_slow_files_do_not_delay_texts(api: Api, collection: str, working: Working) -> None:
    gate = Gate()
    async with working(extractor=HeldExtractor(gate)):
        for _ in range(10):
            await api.make_file(collection)
        await gate.reached.wait()
        document = await api.make_document(collection, wait=60)

        assert document["status"] == "indexed"  # While not one of the files is.
        gate.open.set()


async def test_a_worker_that_must_stop_gives_back_what_takes_too_long(
    api: Api, collection: str, admin: asyncpg.Connection, working: Working
) -> None:
    document = await api.make_document(collection)
    gate = Gate()
    async with working(embedder=HeldEmbedder(gate), patience_seconds=0.1):
        await gate.reached.wait()
        begun = time.monotonic()
    assert time.monotonic() - begun < 4  # And a worker that nobody told waits five.

    job = await admin.fetchrow("select state, attempt from jobs where document_id = $1", document["id"])
    assert tuple(job) == ("queued", 0)
    async with working():
        await until(lambda: is_indexed(api, document))


async def test_a_worker_that_must_stop_finishes_what_is_nearly_done(
    api: Api, collection: str, working: Working
) -> None:
    document = await api.make_document(collection)
    gate = Gate()
    async with working(embedder=HeldEmbedder(gate)):
        await gate.reached.wait()
        asyncio.get_running_loop().call_later(0.2, gate.open.set)

    assert await is_indexed(api, document)


async def test_a_long_job_keeps_its_lease(
    api: Api, collection: str, admin: asyncpg.Connection, working: Working
) -> None:
    document = await api.make_document(collection)
    gate = Gate()
    async with working(embedder=HeldEmbedder(gate), lease_seconds=2, poll_seconds=ONCE):
        await gate.reached.wait()
        lease = await admin.fetchval("select lease_until from jobs where document_id = $1", document["id"])
        async with working(lease_seconds=2):
            await until(lambda: admin.fetchval("select clock_timestamp() > $1::timestamptz + interval '.2 s'", lease))
        job = await admin.fetchrow("select state, attempt from jobs where document_id = $1", document["id"])
        gate.open.set()

    assert tuple(job) == ("running", 1)
