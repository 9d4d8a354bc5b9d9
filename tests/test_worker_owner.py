"""The owner's jobs: an index for each declared attribute, built while everything goes on."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from service.db.attribute_indexes import attribute_index_name, build_index, changing_indexes, settle_index
from service.domain.errors import OverloadedError
from service.resources import Resources
from service.settings import Settings
from tests.api_calls import Api, fields
from tests.worker_calls import check_whole, until_idle, working_with

HARD_KEYS = (
    "it's",
    'a"b',
    "a:b",
    ":name",
    "100%",
    "%s",
    "a\\b",
    "a\\:b",
    "ключ",
    "🙂",
    "a b",
    "$1",
    "x" * 200,
    "a.b.c",
)


@pytest.fixture
def direct_url(settings: Settings) -> str:
    assert settings.database_direct_url is not None
    return settings.database_direct_url.get_secret_value()


@pytest.fixture
async def owner(resources: Resources, direct_url: str) -> AsyncIterator[None]:
    async with working_with(resources)(direct_url=direct_url):
        yield


async def index_attribute(direct_url: str, key: str, *, patience: str = "5s") -> None:
    async with changing_indexes(direct_url, patience=patience) as connection:
        await build_index(connection, key)


async def declare(api: Api, collection: str, **attributes: str | None) -> None:
    answer = await api.client.patch(f"/v1/collections/{collection}", json={"attributes": attributes})
    assert answer.status_code == 200, answer.text


async def index_of(admin: asyncpg.Connection, key: str) -> asyncpg.Record | None:
    return await admin.fetchrow(
        "select i.indisvalid, pg_get_indexdef(i.indexrelid) as ddl, c.relowner::regrole::text as owner"
        " from pg_index i join pg_class c on c.oid = i.indexrelid where c.relname = $1",
        attribute_index_name(key),
    )


@pytest.mark.usefixtures("owner")
async def test_a_declared_attribute_gets_a_valid_index_of_the_owner(
    api: Api, collection: str, admin: asyncpg.Connection
) -> None:
    await declare(api, collection, year="integer")
    await until_idle(admin)

    index = await index_of(admin, "year")
    assert index is not None
    assert (index["indisvalid"], index["owner"]) == (True, "hybrid_owner")


@pytest.mark.usefixtures("owner")
async def test_a_list_gets_no_index_of_its_own(api: Api, collection: str, admin: asyncpg.Connection) -> None:
    await declare(api, collection, authors="string[]")
    await until_idle(admin)
    await api.make_document(collection, attributes={"authors": [f"Author number {n}" for n in range(2_000)]}, wait=60)

    assert await index_of(admin, "authors") is None


@pytest.mark.usefixtures("owner")
async def test_keys_of_any_letters_are_indexed_and_found(api: Api, collection: str, admin: asyncpg.Connection) -> None:
    await declare(api, collection, **dict.fromkeys(HARD_KEYS, "string"))
    await until_idle(admin)
    attributes: dict[str, Any] = {key: f"value of {key}" for key in HARD_KEYS if "." not in key}
    document = await api.make_document(collection, attributes=attributes | {"a": {"b": {"c": "deep"}}}, wait=60)

    for key in HARD_KEYS:
        index = await index_of(admin, key)
        assert index is not None, key
        assert index["indisvalid"]
        found = await api.client.post(
            f"/v1/collections/{collection}/search",
            json={"query": "fox", "filter": {f"attributes.{key}": "deep" if "." in key else f"value of {key}"}},
        )
        assert [hit["document_id"] for hit in found.json()["hits"]] == [document["id"]], (key, found.text)


async def test_the_index_of_a_path_serves_the_filter_on_it(
    collection: str, admin: asyncpg.Connection, direct_url: str
) -> None:
    await index_attribute(direct_url, "nest.n")
    await index_attribute(direct_url, "x" * 300)
    id_ = await admin.fetchval("select id from collections where name = $1", collection)
    await admin.execute(
        "insert into documents (id, collection_id, attributes) select uuidv7(), $1,"
        " jsonb_build_object('nest', jsonb_build_object('n', n)) from generate_series(1, 3000) n",
        id_,
    )
    await admin.execute("analyze documents")
    plan = await admin.fetch(
        f"explain select id from documents where collection_id = '{id_}'"  # noqa: S608
        " and indexed_value(attributes -> 'nest' -> 'n') = '7'"
    )
    await admin.execute("delete from documents where collection_id = $1", id_)

    assert attribute_index_name("nest.n") in "\n".join(row[0] for row in plan)


@pytest.mark.usefixtures("as_superuser")
async def test_an_index_that_a_broken_build_left_behind_is_built_again(
    admin: asyncpg.Connection, direct_url: str
) -> None:
    name = attribute_index_name("broken")
    await index_attribute(direct_url, "broken")
    await admin.execute("update pg_index set indisvalid = false where indexrelid = $1::regclass", name)
    before = await admin.fetchval("select $1::regclass::oid", name)
    await index_attribute(direct_url, "broken")
    after = await admin.fetchval("select $1::regclass::oid", name)
    await index_attribute(direct_url, "broken")

    index = await index_of(admin, "broken")
    assert index is not None
    assert index["indisvalid"]
    assert before != after == await admin.fetchval("select $1::regclass::oid", name)


async def test_a_build_that_a_writer_interrupts_leaves_what_the_next_one_replaces(
    collection: str, admin: asyncpg.Connection, direct_url: str
) -> None:
    """The builder gives up on a transaction that stays open, and what it has begun stays behind, invalid."""
    id_ = await admin.fetchval("select id from collections where name = $1", collection)
    writer = await asyncpg.connect(direct_url)
    try:
        async with writer.transaction():
            await writer.execute("set role hybrid_owner")
            await writer.execute("insert into documents (id, collection_id) values (uuidv7(), $1)", id_)
            with pytest.raises(OverloadedError):
                await index_attribute(direct_url, "interrupted", patience="100ms")
            left = await index_of(admin, "interrupted")
            await writer.execute("delete from documents where collection_id = $1", id_)
    finally:
        await writer.close()
    await index_attribute(direct_url, "interrupted")

    assert left is not None
    assert not left["indisvalid"]
    built = await index_of(admin, "interrupted")
    assert built is not None
    assert built["indisvalid"]


@pytest.mark.usefixtures("owner")
async def test_the_index_goes_with_the_last_collection_that_declares_the_attribute(
    api: Api, other_api: Api, admin: asyncpg.Connection
) -> None:
    mine, theirs, third = await api.make_collection(), await other_api.make_collection(), await api.make_collection()
    for one, collection in ((api, mine), (other_api, theirs), (api, third)):
        await declare(one, collection, shared="integer")
    await until_idle(admin)
    assert await index_of(admin, "shared") is not None

    await declare(api, mine, shared=None)
    await until_idle(admin)
    assert await index_of(admin, "shared") is not None

    await declare(other_api, theirs, shared="string[]")
    await until_idle(admin)
    assert await index_of(admin, "shared") is not None

    assert (await api.client.delete(f"/v1/collections/{third}")).status_code == 204
    await until_idle(admin)
    assert await index_of(admin, "shared") is None


async def test_a_job_does_what_holds_once_it_runs(api: Api, admin: asyncpg.Connection, direct_url: str) -> None:
    """Declared, withdrawn and declared again before the worker comes: whichever job is late, the last word counts."""
    collection = await api.make_collection()
    await declare(api, collection, late="integer")
    await declare(api, collection, late=None)
    await settle_index(direct_url, "late")
    assert await index_of(admin, "late") is None

    await declare(api, collection, late="number")
    await settle_index(direct_url, "late")
    await settle_index(direct_url, "late")

    index = await index_of(admin, "late")
    assert index is not None
    assert index["indisvalid"]
    assert await admin.fetchval("select count(*) from jobs where kind = 'index_attribute'") == 1
    await admin.execute("delete from jobs")


@pytest.mark.usefixtures("owner")
async def test_a_value_longer_than_an_index_entry_stops_neither_the_index_nor_another_tenant(
    api: Api, other_api: Api, admin: asyncpg.Connection
) -> None:
    """One index serves all collections, so what one of them does not declare must not be refused there."""
    mine, theirs = await api.make_collection(), await other_api.make_collection()
    values = {"long": "".join(chr(0x4E00 + n * 7919 % 20_000) for n in range(6_000))}  # does not compress
    older = await api.make_document(mine, attributes=values, wait=60)
    await declare(api, mine, long="string")
    await until_idle(admin)

    index = await index_of(admin, "long")
    assert index is not None
    assert index["indisvalid"]
    refused = await api.post(mine, {"text": "x", "attributes": values})
    assert fields(refused) == ["attributes.long"]
    assert (await api.make_document(mine, attributes={"long": "é" * 1_000}, wait=60))["status"] == "indexed"
    assert fields(await api.post(mine, {"text": "x", "attributes": {"long": "é" * 1_000 + "x"}})) == ["attributes.long"]
    other = await other_api.make_document(theirs, attributes=values, wait=60)
    assert other["status"] == "indexed"
    assert (await other_api.patch(other, {"tags": ["a"]})).status_code == 200
    assert (await api.patch(older, {"tags": ["a"]})).status_code == 200
    await check_whole(admin)


async def test_the_ends_of_the_calendar_are_no_moments(api: Api, collection: str) -> None:
    """The driver would store them as infinities, which the other driver cannot read."""
    for moment in ("0001-01-01T00:00:00Z", "0001-01-01T02:00:00+02:00", "9999-12-31T23:59:59.999999Z"):
        assert fields(await api.post(collection, {"text": "x", "published_at": moment})) == ["published_at"]
    for moment in ("0001-01-01T00:00:00.000001Z", "9999-12-31T23:59:59.999998Z"):
        document = await api.make_document(collection, published_at=moment)
        assert document["published_at"] == moment
