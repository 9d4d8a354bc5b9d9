"""What the job that counts words does for searches, seconds after a load: tables analysed, the words of GIN indexes merged."""

from dataclasses import replace

import asyncpg
import pytest
from sqlalchemy import text

from service.db.jobs import REWRITE_WEIGHTS, enqueue
from service.db.owner import as_owner
from service.db.upkeep import analyze_changed, merge_pending
from service.resources import Resources
from tests.api_calls import Api
from tests.left_out import thorough
from tests.search_calls import Library, collection_of, direct_url, library, working
from tests.search_plans import explain
from tests.test_search_plans import GRAPH, executed
from tests.worker_calls import until, until_idle

DOCUMENTS = 20_000
GIN = ("ix_chunk_terms_terms", "ix_documents_attributes", "ix_documents_tags")
TABLES = ("documents", "chunks", "chunk_terms", "embeddings")
ANALYZED = """
select coalesce(p.relname, t.relname)::text as name, sum(t.n_live_tup)::int as rows, sum(t.n_mod_since_analyze)::int as changed,
       sum(t.autoanalyze_count)::int as by_autovacuum
from pg_stat_user_tables t left join pg_inherits i on i.inhrelid = t.relid left join pg_class p on p.oid = i.inhparent
where coalesce(p.relname, t.relname) = any($1) and t.relid not in (select inhparent from pg_inherits) group by 1
"""


@pytest.fixture(scope="module")
async def loaded(api: Api, resources: Resources) -> Library:
    """A collection just loaded, as fast as the worker can; no table was looked at by autovacuum."""
    async with as_owner(direct_url(resources)) as connection:
        for table in ("documents", "chunks", "chunk_terms", f"embeddings_p_{resources.profile.id.hex}"):
            await connection.execute(text(f"alter table {table} set (autovacuum_enabled = off)"))
    loaded = await library(api, resources, [{"text": "first"}])
    name = loaded.collection.name

    async def settled() -> bool:
        return bool((await api.status(name))["settled"])

    async with working(resources):
        for start in range(0, DOCUMENTS, 1000):
            lines = [{"external_id": f"x{n}", "text": f"w{n % 700} v{n % 11} u{n}"} for n in range(start, start + 1000)]
            assert {answer["status"] for answer in await api.batch(name, lines)} == {202}
        await until(settled, 240)
    return replace(loaded, collection=await collection_of(api, resources, name))  # Which counts 20,001 chunks now.


@thorough
async def test_a_freshly_loaded_collection_is_searched_by_its_graph(
    loaded: Library, resources: Resources, admin: asyncpg.Connection
) -> None:
    rows = {row["name"]: row for row in await admin.fetch(ANALYZED, TABLES)}
    assert set(rows) == set(TABLES)
    for name, row in rows.items():
        assert row["by_autovacuum"] == 0
        assert row["changed"] <= DOCUMENTS * 0.3, name  # a fifth, and what the last connections had not reported yet
    known = await admin.fetchval("select reltuples from pg_class where relname = 'embeddings'")
    assert known > DOCUMENTS * 0.7  # of the table as a whole, which autovacuum never looks at
    plan = await explain(loaded, resources, "w7", mode="semantic")
    assert executed(plan, GRAPH), plan


@thorough
@pytest.mark.usefixtures("loaded")
async def test_what_has_hardly_changed_is_left_alone(resources: Resources, admin: asyncpg.Connection) -> None:
    """Less than a fifth."""
    await admin.execute("analyze")
    await admin.execute("select pg_stat_force_next_flush()")
    async with resources.primary.begin() as connection:
        assert await analyze_changed(connection) == []

    await admin.execute("update documents set source = 'again' where ctid in (select ctid from documents limit 3000)")
    await admin.execute("select pg_stat_force_next_flush()")
    async with resources.primary.begin() as connection:
        assert await analyze_changed(connection) == []


@thorough
@pytest.mark.usefixtures("loaded")
async def test_what_is_being_analysed_by_another_is_skipped(resources: Resources, admin: asyncpg.Connection) -> None:
    await admin.execute("update documents set source = 'once more'")
    await admin.execute("select pg_stat_force_next_flush()")
    other = admin.transaction()
    await other.start()
    await admin.execute("lock table documents in share update exclusive mode")
    try:
        async with resources.primary.begin() as connection:
            assert await analyze_changed(connection) == ["documents"]
    finally:
        await other.rollback()

    assert await admin.fetchval("select n_mod_since_analyze from pg_stat_user_tables where relname = 'documents'") > 0


async def still_pending(admin: asyncpg.Connection) -> dict[str, int]:
    """Pages in the pending list of each GIN index; to look is to merge them."""
    return {index: await admin.fetchval("select gin_clean_pending_list($1::text::regclass)", index) for index in GIN}


async def test_no_search_reads_words_that_wait_to_be_merged(
    api: Api, resources: Resources, admin: asyncpg.Connection
) -> None:
    texts = [{"text": f"w{n} v{n % 11}", "tags": [f"t{n}"], "attributes": {"n": n}} for n in range(200)]
    quiet = await library(api, resources, texts)
    assert set((await still_pending(admin)).values()) == {0}

    async with resources.primary.begin(quiet.collection.tenant_id) as connection:
        behind = text("update chunk_terms set epoch = epoch - 1 where collection_id = :id")
        await connection.execute(behind, {"id": quiet.collection.id})
        await enqueue(
            connection, REWRITE_WEIGHTS, tenant_id=quiet.collection.tenant_id, collection_id=quiet.collection.id
        )
    async with working(resources):
        await until_idle(admin)
    assert set((await still_pending(admin)).values()) == {0}


async def test_words_wait_until_somebody_merges_them(api: Api, resources: Resources, admin: asyncpg.Connection) -> None:
    """What the test above would not notice if the indexes had no pending lists, or nothing were ever in them."""
    quiet = await library(api, resources, [{"text": "first"}])
    await admin.execute("update chunk_terms set terms = terms || 1 where collection_id = $1", quiet.collection.id)
    async with resources.primary.begin() as connection:
        assert await merge_pending(connection) == 1
        assert await merge_pending(connection) == 0


async def test_a_list_ends_before_it_is_long(admin: asyncpg.Connection) -> None:
    kept = await admin.fetch("select relname::text, reloptions from pg_class where relname = any($1)", GIN)

    assert {row["relname"]: row["reloptions"] for row in kept} == {
        name: ["gin_pending_list_limit=1024"] for name in GIN
    }


@pytest.mark.parametrize("call", ["analyze_changed(0, 0)", "merge_pending()"])
async def test_only_the_application_may_ask_for_it(resources: Resources, call: str) -> None:
    connection = await asyncpg.connect(resources.settings.search_database_url.get_secret_value())
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"select {call}")
    finally:
        await connection.close()
