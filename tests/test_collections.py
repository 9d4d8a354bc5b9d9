import asyncio
import json
import re

import pytest
from sqlalchemy import select

from service.db.owner import as_owner
from service.db.tables import collections
from service.resources import Resources
from tests.api_calls import Api, code, fields
from tests.worker_calls import until

RFC3339_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


async def test_a_created_collection_is_found_under_its_location(api: Api) -> None:
    created = await api.client.post("/v1/collections", json={"name": "papers"})

    assert created.status_code == 201
    assert created.headers["location"] == "/v1/collections/papers"
    found = await api.client.get(created.headers["location"])
    assert found.json() == created.json()
    assert set(found.json()) == {"name", "language", "attributes", "created_at", "updated_at"}
    assert (found.json()["language"], found.json()["attributes"]) == ("english", {})
    assert RFC3339_UTC.fullmatch(found.json()["created_at"])


@pytest.mark.parametrize("name", ["a", "0", "a-b_c", "a" * 63])
async def test_names_of_the_contract_are_taken(api: Api, name: str) -> None:
    assert (await api.client.post("/v1/collections", json={"name": name})).status_code == 201


@pytest.mark.parametrize("name", ["", "-a", "_a", "A", "a b", "ä", "a" * 64, "a\n", "a/b", None, 7, ["a"]])
async def test_other_names_are_refused_by_field(api: Api, name: object) -> None:
    assert fields(await api.client.post("/v1/collections", json={"name": name})) == ["name"]


async def test_null_and_absent_language_are_english_and_others_are_kept(api: Api) -> None:
    for given, kept in ((None, "english"), ("simple", "simple"), ("german", "german")):
        name = await api.make_collection(language=given)

        assert (await api.client.get(f"/v1/collections/{name}")).json()["language"] == kept


@pytest.mark.parametrize("language", ["klingon", "", "pg_catalog.english", "english\0", "\ud800", 7])
async def test_an_unknown_language_is_refused_by_field(api: Api, language: object) -> None:
    refused = await api.client.post(
        "/v1/collections", content=json.dumps({"name": "x", "language": language}), headers=JSON
    )

    assert fields(refused) == ["language"]


JSON = {"Content-Type": "application/json"}


async def test_a_taken_name_is_a_conflict_also_under_concurrency(api: Api) -> None:
    answers = await asyncio.gather(*(api.client.post("/v1/collections", json={"name": "taken"}) for _ in range(8)))

    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    assert {code(answer) for answer in answers if answer.status_code == 409} == {(409, "collection_exists")}


async def test_collections_are_listed_newest_first_page_by_page(api: Api) -> None:
    made = [await api.make_collection() for _ in range(5)]

    seen, cursor = [], None
    while True:
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await api.client.get("/v1/collections", params=params)).json()
        assert set(page) == {"collections", "next_cursor"}
        assert len(page["collections"]) <= 2
        seen += [each["name"] for each in page["collections"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen[:5] == made[::-1]
    assert len(seen) == len(set(seen))


async def test_attributes_are_declared_merged_and_withdrawn(api: Api, collection: str) -> None:
    url = f"/v1/collections/{collection}"
    before = (await api.client.get(url)).json()

    await api.client.patch(url, json={"attributes": {"year": "integer", "lang": "string"}})
    patched = await api.client.patch(url, json={"attributes": {"lang": None, "a.b": "string[]"}})

    assert patched.status_code == 200
    assert patched.json()["attributes"] == {"year": "integer", "a.b": "string[]"}
    assert (await api.client.get(url)).json() == patched.json()
    assert patched.json()["updated_at"] > before["updated_at"]


@pytest.mark.parametrize("type_", ["int", "", 7, ["string"], {"type": "string"}])
async def test_an_unknown_type_is_refused_by_name(api: Api, collection: str, type_: object) -> None:
    refused = await api.client.patch(f"/v1/collections/{collection}", json={"attributes": {"year": type_}})

    assert fields(refused) == ["attributes.year"]


@pytest.mark.parametrize("type_", ["string", None])
@pytest.mark.parametrize("name", ["", ".", "a..b", "a.", "x" * 201, "a\tb", ".".join("abcdefghijk")])
async def test_what_no_attribute_is_called_is_neither_declared_nor_withdrawn(
    api: Api, collection: str, name: str, type_: str | None
) -> None:
    refused = await api.client.patch(f"/v1/collections/{collection}", json={"attributes": {name: type_}})

    assert fields(refused) == [f"attributes.{name}"]


@pytest.mark.parametrize("body", [{"language": "german"}, {"name": "other"}, {"attributes": [], "x": 1}])
async def test_nothing_else_of_a_collection_changes(api: Api, collection: str, body: object) -> None:
    assert code(await api.client.patch(f"/v1/collections/{collection}", json=body)) == (422, "invalid")


async def test_a_deleted_collection_is_gone_at_once_and_its_name_is_free(api: Api) -> None:
    name = await api.make_collection()
    document = await api.make_document(name, external_id="x")

    deleted = await api.client.delete(f"/v1/collections/{name}")

    assert (deleted.status_code, deleted.content) == (204, b"")
    for path in ("", "/status", "/documents", "/documents/x"):
        assert code(await api.client.get(f"/v1/collections/{name}{path}")) == (404, "not_found")
    for path in ("", "/chunks", "/content"):
        assert code(await api.client.get(f"/v1/documents/{document['id']}{path}")) == (404, "not_found")
    assert code(await api.client.delete(f"/v1/collections/{name}")) == (404, "not_found")
    assert code(await api.post(name, {"text": "x"})) == (404, "not_found")
    await api.make_collection(name)
    assert (await api.client.get(f"/v1/collections/{name}/documents")).json()["documents"] == []


@pytest.mark.usefixtures("worker")
async def test_the_rows_and_blobs_of_a_deleted_collection_are_removed(api: Api, resources: Resources) -> None:
    name = await api.make_collection()
    await api.make_document(name, wait=60)
    file = await api.make_file(name, wait=60)
    tenant_prefix = [blob.key async for blob in resources.blobs.list_blobs() if file["id"] in blob.key]
    assert tenant_prefix

    await api.client.delete(f"/v1/collections/{name}")

    async def all_gone() -> bool:
        return not [blob.key async for blob in resources.blobs.list_blobs() if file["id"] in blob.key]

    await until(all_gone)


async def test_status_counts_documents_once_by_their_newest_version(api: Api, collection: str) -> None:
    await api.put(collection, "a", {"text": "one"})
    await api.put(collection, "a", {"text": "two"})
    await api.put(collection, "b", {"text": "three"})

    assert await api.status(collection) == {
        "documents": {"pending": 2, "processing": 0, "indexed": 0, "failed": 0},
        "jobs": {"queued": 2, "running": 0, "dead": 0},
        "settled": False,
    }


@pytest.mark.usefixtures("worker")
async def test_a_collection_settles_after_the_statistics_include_everything(
    api: Api, collection: str, resources: Resources
) -> None:
    await api.make_file(collection, b"", wait=60)
    await api.make_document(collection, wait=60)

    async def settled() -> bool:
        return bool((await api.status(collection))["settled"])

    await until(settled)
    assert await api.status(collection) == {
        "documents": {"pending": 0, "processing": 0, "indexed": 1, "failed": 1},
        "jobs": {"queued": 0, "running": 0, "dead": 0},
        "settled": True,
    }
    async with as_owner(direct_url_of(resources)) as owner:
        counted = select(collections.c.chunk_count).where(collections.c.name == collection)
        assert (await owner.execute(counted)).scalar_one() == 1


def direct_url_of(resources: Resources) -> str:
    assert resources.settings.database_direct_url is not None
    return resources.settings.database_direct_url.get_secret_value()


async def test_an_empty_collection_is_settled(api: Api, collection: str) -> None:
    assert (await api.status(collection))["settled"] is True
