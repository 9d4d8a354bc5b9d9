"""What stays cheap however many documents are indexed."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.collection_status import find_collection_status, unfinished_versions
from service.db.collections import find_collection
from service.db.keys import tenant_of_key
from service.db.listing import find_documents, find_ids
from service.db.owner import as_owner
from service.db.tables import jobs
from service.domain.documents import Collection, Document, Status
from service.resources import Resources
from tests.api_calls import Api

INDEXED = 20_000
FILL = (
    """
    insert into documents (id, collection_id, external_id, version, indexed_version)
    select uuidv7(), id, number::text, 1, 1 from collections, generate_series(1, :indexed) number where name = 'plans'
    """,
    """
    insert into document_versions (document_id, number, collection_id, content_type, size, sha256, text, status)
    select id, 1, collection_id, 'text/plain', 1, '', 'x', 'indexed' from documents
    """,
)
Measure = Callable[[Callable[[AsyncConnection], Awaitable[object]]], Awaitable[int]]


@pytest.fixture(scope="module")
async def filled(api: Api, resources: Resources) -> Collection:
    """A collection of many indexed documents and three pending ones."""
    await api.make_collection("plans")
    async with as_owner(owner_url(resources)) as owner:
        for statement in FILL:
            await owner.execute(text(statement), {"indexed": INDEXED} if ":indexed" in statement else {})
    await api.batch("plans", [{"text": "pending"}] * 3)
    async with as_owner(owner_url(resources), autocommit=True) as owner:
        await owner.execute(text("analyze documents, document_versions, collections"))
    async with resources.primary.begin(await tenant_id_of(api, resources)) as connection:
        return await find_collection(connection, await tenant_id_of(api, resources), "plans")


def owner_url(resources: Resources) -> str:
    assert resources.settings.database_direct_url is not None
    return resources.settings.database_direct_url.get_secret_value()


async def tenant_id_of(api: Api, resources: Resources) -> UUID:
    key = api.client.headers["Authorization"].removeprefix("Bearer ")
    async with resources.primary.begin() as connection:
        tenant_id = await tenant_of_key(connection, key)
    assert tenant_id is not None
    return tenant_id


@pytest.fixture
def versions_read(filled: Collection, resources: Resources) -> Measure:
    """How many rows of document_versions Postgres touches while something runs ten times on one connection."""

    async def total() -> int:
        statement = text(
            "select seq_tup_read + idx_tup_fetch from pg_stat_user_tables where relname = 'document_versions'"
        )
        async with as_owner(owner_url(resources)) as owner:
            return int((await owner.execute(statement)).scalar_one())

    async def versions_read(act: Callable[[AsyncConnection], Awaitable[object]]) -> int:
        before = await total()
        async with resources.primary.begin(filled.tenant_id) as connection:
            for _ in range(10):  # From the sixth on Postgres may keep a plan that has forgotten the values.
                await act(connection)
            await connection.execute(select(func.pg_stat_force_next_flush()))
        return await total() - before

    return versions_read


async def test_counting_by_status_does_not_read_the_indexed(versions_read: Measure, filled: Collection) -> None:
    async def count(connection: AsyncConnection) -> None:
        status = await find_collection_status(connection, filled)
        assert status.documents == {"pending": 3, "processing": 0, "indexed": INDEXED, "failed": 0}

    assert await versions_read(count) <= 100


@pytest.mark.parametrize(("status", "expected"), [("pending", 3), ("processing", 0), ("failed", 0), ("indexed", 21)])
async def test_a_page_of_one_status_reads_hardly_more_than_it_shows(
    versions_read: Measure, filled: Collection, status: Status, expected: int
) -> None:
    async def read(connection: AsyncConnection) -> None:
        found = await read_page(connection, filled, status, limit=21)
        assert len(found) == expected

    assert await versions_read(read) <= 10 * (2 * expected + 10)  # Found, and then shown.


@pytest.mark.parametrize("status", ["processing", "pending"])
async def test_a_page_of_what_a_load_has_left_looks_at_no_more_than_that(
    api: Api, resources: Resources, status: Status
) -> None:
    """The oldest hundred are in hand and the newest come first; nothing is analysed, and every job has been in hand before."""
    name = f"load-{status}"
    await api.make_collection(name)
    tenant_id = await tenant_id_of(api, resources)
    for start in range(0, 2_000, 1_000):
        await api.batch(name, [{"external_id": str(start + n), "text": "pending"} for n in range(1_000)])
    async with resources.primary.begin(tenant_id) as connection:
        loading = await find_collection(connection, tenant_id, name)
    async with as_owner(owner_url(resources)) as owner:
        # As an attribute's own index: one that has all of a collection, and no order of ids.
        await owner.execute(text("create index if not exists of_u on documents (collection_id, (attributes -> 'u'))"))
        for state, many in (("running", 2_000), ("queued", 2_000), ("running", 100)):
            first = select(jobs.c.id).where(jobs.c.collection_id == loading.id).order_by(jobs.c.id).limit(many)
            await owner.execute(update(jobs).where(jobs.c.id.in_(first)).values(state=state))

    async with resources.primary.begin(tenant_id) as connection:
        ran: list[tuple[str, Any]] = []
        event.listen(connection.sync_connection, "before_cursor_execute", lambda *about: ran.append(about[2:4]))
        found = await read_page(connection, loading, status, limit=100)
        pages = [await pages_of(connection, *statement) for statement in ran.copy()]

    names = [document.external_id for document in found]
    assert [document.status for document in found] == [status] * 100
    assert names == [str(n) for n in (range(99, -1, -1) if status == "processing" else range(1_999, 1_899, -1))]
    assert sum(pages) <= 3_000, pages


async def read_page(
    connection: AsyncConnection, collection: Collection, status: Status, *, limit: int
) -> list[Document]:
    found = await find_ids(connection, collection, None, None, status=status, after=None, limit=limit)
    return await find_documents(connection, collection, [each.id for each in found])


async def pages_of(connection: AsyncConnection, statement: str, values: Any) -> int:
    explained = await connection.exec_driver_sql(f"explain (analyze, buffers, format json) {statement}", values)
    plan = explained.scalar_one()[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


async def test_counting_what_a_load_has_left_reads_each_version_once(api: Api, resources: Resources) -> None:
    """Nothing is analysed, and every job has been in hand before: a join would look through all of them for each document."""
    count = 2_000
    await api.make_collection("load")
    tenant_id = await tenant_id_of(api, resources)
    for start in range(0, count, 1_000):
        await api.batch("load", [{"external_id": str(start + n), "text": "pending"} for n in range(1_000)])
    async with as_owner(owner_url(resources)) as owner:
        for state in ("running", "queued"):
            await owner.execute(text("update jobs set state = cast(:state as text)"), {"state": state})
    async with resources.primary.begin(tenant_id) as connection:
        loading = await find_collection(connection, tenant_id, "load")
        statement = unfinished_versions(loading.id).compile(connection, compile_kwargs={"literal_binds": True})
        assert [tuple(row) for row in await connection.execute(text(str(statement)))] == [("pending", False, count)]
        pages = await pages_of(connection, str(statement), ())

    assert pages <= 8 * count  # Itself, its document, and the collection of either for row security.
