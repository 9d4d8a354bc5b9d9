"""What cannot be indexed: it fails alone, says why, and can be tried again."""

import asyncio
from itertools import islice, product
from string import ascii_lowercase

import asyncpg
import pytest
from typer.testing import CliRunner

from service.__main__ import app as doors
from service.cli.jobs import revive_dead
from service.db import indexing, jobs
from service.domain.ids import new_id
from service.resources import Resources
from service.settings import Settings
from tests.api_calls import Api
from tests.worker_calls import (
    PickyEmbedder,
    Working,
    check_whole,
    environment_of,
    is_indexed,
    until,
    until_idle,
)

VECTOR = [1.0] + [0.0] * 383


@pytest.fixture(autouse=True)
async def no_jobs_left(admin: asyncpg.Connection) -> None:
    await admin.execute("delete from collections where deleted_at is not null")
    await admin.execute("delete from jobs")


async def test_a_text_that_the_database_refuses_fails_alone(
    api: Api, admin: asyncpg.Connection, working: Working
) -> None:
    """More lexemes than a sparse vector may hold."""
    collection = await api.make_collection()
    words = " ".join(islice(("".join(letters) for letters in product(ascii_lowercase, repeat=4)), 0, 380_000, 19))
    lines = [{"external_id": str(n), "text": f"Good text {n}."} for n in range(10)]
    await api.batch(collection, [*lines, {"external_id": "bad", "text": words[:99_000], "vector": VECTOR}])
    async with working():
        await until_idle(admin)

    status = await api.status(collection)
    assert status["documents"] == {"pending": 0, "processing": 0, "indexed": 10, "failed": 1}
    bad = (await api.client.get(f"/v1/collections/{collection}/documents/bad")).json()
    assert (bad["status"], bad["error"]["code"]) == ("failed", "corrupt")
    await check_whole(admin)


async def test_a_document_that_breaks_its_batch_uses_up_its_own_attempts_only(
    api: Api, admin: asyncpg.Connection, working: Working
) -> None:
    collection = await api.make_collection()
    await api.batch(collection, [{"external_id": str(n), "text": f"Good text {n}."} for n in range(10)])
    bad = await api.make_document(collection, text="Poison")
    await admin.execute("update jobs set attempt = 1, max_attempts = 2")  # They failed together, and are due together.
    async with working(embedder=PickyEmbedder("Poison")):
        await until_idle(admin)

    assert (await api.status(collection))["documents"] == {"pending": 0, "processing": 0, "indexed": 10, "failed": 1}
    assert (await api.get(bad))["error"]["code"] == "timeout"
    await check_whole(admin)


@pytest.mark.parametrize("way", ["http", "cli"])
async def test_a_document_given_up_is_failed_and_indexed_after_a_retry(
    api: Api, admin: asyncpg.Connection, working: Working, settings: Settings, *, way: str
) -> None:
    collection = await api.make_collection()
    document = await api.make_document(collection, text="Poison")
    await admin.execute("update jobs set max_attempts = 1")
    async with working(embedder=PickyEmbedder("Poison")):
        await until_idle(admin)
    assert (await api.get(document))["error"]["code"] == "timeout"
    assert (await api.status(collection))["jobs"] == {"queued": 0, "running": 0, "dead": 1}

    if way == "http":
        assert (await api.client.post(f"/v1/documents/{document['id']}:retry")).status_code == 202
    else:
        listed = await command(settings, "jobs", "list", "--state", "dead")
        assert "index_text" in listed
        assert "RuntimeError" in listed
        assert await command(settings, "jobs", "retry", "--all") == "1 jobs are queued again.\n"
    assert (await api.get(document))["status"] == "pending"
    async with working():
        await until_idle(admin)

    assert (await api.get(document))["status"] == "indexed"
    assert await admin.fetchval("select count(*) from jobs") == 0


async def command(settings: Settings, *arguments: str) -> str:
    environment = environment_of(settings) | {"COLUMNS": "200"}
    result = await asyncio.to_thread(CliRunner().invoke, doors, arguments, env=environment)
    assert result.exit_code == 0, result.output
    return result.stdout


async def test_a_revival_that_comes_too_late_does_not_touch_the_document(
    api: Api, collection: str, admin: asyncpg.Connection, working: Working, resources: Resources
) -> None:
    """Between reading the dead jobs and reviving one, somebody else has retried it, and it has failed for good."""
    document = await api.make_file(collection)
    await admin.execute(
        "update document_versions set blob_key = 'gone', status = 'failed',"
        " failure = jsonb_build_object('code', 'timeout', 'message', '') where document_id = $1",
        document["id"],
    )
    await admin.execute("update jobs set state = 'dead'")
    async with resources.primary.begin() as connection:
        (dead,) = await jobs.dead(connection, None)
    async with working():
        assert (await api.client.post(f"/v1/documents/{document['id']}:retry")).status_code == 202
        await until_idle(admin)
    async with resources.primary.begin(dead.tenant_id) as connection:
        assert not await indexing.revive(connection, dead)

    assert (await api.get(document))["error"]["code"] == "corrupt"


async def test_retries_from_two_sides_leave_no_document_pending_without_a_job(
    api: Api, collection: str, admin: asyncpg.Connection, working: Working, resources: Resources
) -> None:
    documents = [await api.make_document(collection, text=f"Poison {n}") for n in range(8)]
    async with working(embedder=PickyEmbedder("Poison")):
        for _ in range(12):
            await admin.execute("update jobs set max_attempts = 1, run_at = now() where max_attempts <> 1")
            await asyncio.gather(
                *(revive_dead(resources.primary, None) for _ in range(2)),
                *(api.client.post(f"/v1/documents/{document['id']}:retry") for document in documents),
            )
            await check_whole(admin)
    async with working():
        await admin.execute("update jobs set run_at = now()")
        await api.client.post(f"/v1/documents/{documents[0]['id']}:retry")
        await revive_dead(resources.primary, None)
        await until_idle(admin)

    assert {(await api.get(document))["status"] for document in documents} == {"indexed"}


async def test_no_collection_gets_the_vectors_of_another_model(
    api: Api, admin: asyncpg.Connection, working: Working
) -> None:
    collection, neighbour, other = await api.make_collection(), await api.make_collection(), new_id()
    await admin.execute("insert into embedding_profiles (id, name, dimension) values ($1, 'other', 384)", other)
    await admin.execute(f"create table embeddings_p_{other.hex} partition of embeddings for values in ('{other}')")
    own = await admin.fetchval("select profile_id from collections where name = $1", collection)
    await admin.execute("update collections set profile_id = $1 where name = $2", other, collection)
    document, neighbours = await api.make_document(collection), await api.make_document(neighbour)

    async def refused() -> str | None:
        reason: str | None = await admin.fetchval("select last_error from jobs where document_id = $1", document["id"])
        return reason

    async with working():
        reason = await until(refused)
        await until(lambda: is_indexed(api, neighbours))
        assert "another" in reason or "profile" in reason
        assert (await api.get(document))["status"] in {"pending", "processing"}
        assert await admin.fetchval(f"select count(*) from embeddings_p_{other.hex}") == 0  # noqa: S608

        await admin.execute("update collections set profile_id = $1 where name = $2", own, collection)
        await admin.execute("update jobs set run_at = now()")
        await until(lambda: is_indexed(api, document))
    await admin.execute(f"drop table embeddings_p_{other.hex}")
    await admin.execute("delete from embedding_profiles where id = $1", other)
