"""Numbers that Postgres writes with more digits than 64 bits hold, on their way in, out and through a search."""

from typing import Any

import pytest

from service.resources import Resources
from tests.api_calls import Api, Json, fields
from tests.search_calls import settle

NUMBERS = {
    "big": 1e20,
    "bigger": [1.5e21, -1e300, {"biggest": 1.7976931348623157e308}],
    "small": -1e-300,
    "int": 2**63 - 1,
}


@pytest.fixture
async def document(api: Api, resources: Resources, collection: str) -> Json:
    document = await api.make_document(collection, external_id="numbers", attributes=NUMBERS)
    await settle(api, resources, collection)
    return document


async def test_every_answer_shows_them(api: Api, collection: str, document: Json) -> None:
    url = f"/v1/collections/{collection}"
    listed = (await api.client.get(f"{url}/documents")).json()["documents"]
    named = (await api.client.get(f"{url}/documents/numbers")).json()
    found = (await api.client.post(f"{url}/search", json={"query": "fox"})).json()["hits"]

    for shown in (document, await api.get(document), named, *listed, *found):
        assert shown["attributes"] == NUMBERS
    assert len(listed) == len(found) == 1


async def test_they_are_compared(api: Api, collection: str, document: Json) -> None:
    async def found(filter_: dict[str, Any]) -> bool:
        body = {"query": "fox", "filter": filter_}
        response = await api.client.post(f"/v1/collections/{collection}/search", json=body)
        return [hit["document_id"] for hit in response.json()["hits"]] == [document["id"]]

    assert await found({"attributes.big": 1e20})
    assert await found({"attributes.big": {"$gte": 9.9e19, "$lt": 1e21}})
    assert not await found({"attributes.big": {"$gt": 1e20}})


async def test_a_patch_keeps_them(api: Api, document: Json) -> None:
    patched = await api.patch(document, {"attributes": {"more": 1e25}})

    assert patched.status_code == 200, patched.text
    assert patched.json()["attributes"] == {**NUMBERS, "more": 1e25}


async def test_a_declared_number_may_be_as_large(api: Api, collection: str) -> None:
    await api.client.patch(f"/v1/collections/{collection}", json={"attributes": {"big": "number", "int": "integer"}})

    document = await api.make_document(collection, attributes=NUMBERS)

    assert (await api.get(document))["attributes"] == NUMBERS
    assert fields(await api.post(collection, {"text": "x", "attributes": {"int": 1e20}})) == ["attributes.int"]
    assert fields(await api.post(collection, {"text": "x", "attributes": {"big": 10**20}})) == ["attributes.big"]
