"""GET /v1/documents/{id}/similar."""

import json
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import numpy as np
import pytest

from service.db.examples import find_places
from service.domain.errors import NotFoundError
from service.domain.ids import new_id
from service.resources import Resources
from tests.api_calls import Api, Json, code, fields
from tests.search_calls import collection_of, directions, fill, halves

COUNT = 40
VECTORS = directions(COUNT, seed=7)
HITS = {"hits", "next_cursor", "profile", "warnings", "took_ms"}


@pytest.fixture(scope="module")
async def cloud(api: Api, resources: Resources) -> str:
    """Documents in random directions, each one chunk; `n` counts them."""
    name = await api.make_collection("cloud")
    await fill(
        api,
        resources,
        name,
        [
            {"external_id": str(n), "text": f"point {n}", "vector": vector.tolist(), "attributes": {"n": n}}
            for n, vector in enumerate(VECTORS)
        ],
    )
    return name


async def document_of(api: Api, collection: str, external_id: str) -> Json:
    found: Json = (await api.client.get(f"/v1/collections/{collection}/documents/{external_id}")).json()
    return found


async def similar(api: Api, document: Json, **params: Any) -> Json:
    response = await api.client.get(f"/v1/documents/{document['id']}/similar", params=params)
    assert response.status_code == 200, response.text
    found: Json = response.json()
    return found


async def test_the_nearest_documents_come_in_order_of_their_cosine(api: Api, cloud: str) -> None:
    kept = halves(VECTORS)
    cosines = kept @ kept[3]
    expected = [n for n in np.argsort(-cosines) if n != 3][:10]

    found = await similar(api, await document_of(api, cloud, "3"))

    assert set(found) == HITS
    assert (found["next_cursor"], found["warnings"]) == (None, [])
    assert [hit["external_id"] for hit in found["hits"]] == [str(n) for n in expected]
    assert [hit["score"] for hit in found["hits"]] == pytest.approx(cosines[expected], abs=2e-3)


async def test_the_document_itself_is_no_hit_and_takes_no_place(api: Api, cloud: str) -> None:
    document = await document_of(api, cloud, "5")

    for limit in (1, 7, 100):
        hits = (await similar(api, document, limit=limit))["hits"]
        assert len(hits) == min(limit, COUNT - 1)
        assert "5" not in {hit["external_id"] for hit in hits}


async def test_a_filter_chooses_among_the_neighbours(api: Api, cloud: str) -> None:
    document = await document_of(api, cloud, "5")

    found = await similar(api, document, filter=json.dumps({"attributes.n": {"$lt": 9}}), limit=100)

    assert {hit["external_id"] for hit in found["hits"]} == {str(n) for n in range(9) if n != 5}


async def test_a_long_document_lies_at_the_mean_of_its_chunks(api: Api, resources: Resources) -> None:
    name = await api.make_collection("books-alike")
    words = ["heron", "falcon", "otter", "badger"]
    long = " ".join(f"The {word} waits. " * 150 for word in words)
    fill_in = [{"external_id": word, "text": f"The {word} waits. " * 20} for word in words]
    await fill(api, resources, name, [{"external_id": "long", "text": long}, *fill_in])
    document = await document_of(api, name, "long")
    texts = [c["text"] for c in (await api.client.get(f"/v1/documents/{document['id']}/chunks")).json()["chunks"]]
    mean = np.mean(halves(await resources.embedder.embed_passages(texts)), axis=0)
    others = halves(await resources.embedder.embed_passages([each["text"] for each in fill_in]))

    found = await similar(api, document)

    assert document["chunk_count"] == len(texts) > 4
    cosines = dict(zip(words, others @ (mean / np.linalg.norm(mean)), strict=True))
    assert {hit["external_id"] for hit in found["hits"]} == set(words)
    for hit in found["hits"]:
        assert hit["score"] == pytest.approx(cosines[hit["external_id"]], abs=5e-3)


async def test_other_collections_are_not_looked_into(api: Api, resources: Resources, cloud: str) -> None:
    name = await api.make_collection("beside-the-cloud")
    await fill(api, resources, name, [{"external_id": "alone", "text": "x", "vector": VECTORS[3].tolist()}])

    assert (await similar(api, await document_of(api, name, "alone")))["hits"] == []
    assert (await similar(api, await document_of(api, cloud, "3")))["hits"][0]["external_id"] != "alone"


async def test_a_document_that_is_not_indexed_yet_has_no_place(api: Api, collection: str) -> None:
    document = await api.make_document(collection)

    response = await api.client.get(f"/v1/documents/{document['id']}/similar")

    assert code(response) == (409, "in_progress")
    assert "pending" in response.json()["detail"]


@pytest.mark.usefixtures("worker")
async def test_a_document_that_could_not_be_indexed_has_no_place(api: Api, collection: str) -> None:
    document = await api.make_file(collection, b"%PDF-1.4 nothing", filename="a.pdf", wait=60)

    response = await api.client.get(f"/v1/documents/{document['id']}/similar")

    assert code(response) == (409, "in_progress")
    assert "failed" in response.json()["detail"]


async def test_the_version_that_is_served_has_neighbours_while_the_next_one_waits(
    api: Api, resources: Resources, collection: str
) -> None:
    await fill(api, resources, collection, [{"external_id": each, "text": "A bear sleeps."} for each in "ab"])
    document = (await api.put(collection, "a", {"text": "Something else."})).json()

    found = await similar(api, document)

    assert document["status"] == "pending"
    assert [(hit["external_id"], round(hit["score"], 2)) for hit in found["hits"]] == [("b", 1.0)]


async def test_a_document_without_chunks_has_no_neighbours(api: Api, admin: asyncpg.Connection, cloud: str) -> None:
    document = await document_of(api, cloud, "3")
    await admin.execute("create table kept as select * from embeddings where document_id = $1", UUID(document["id"]))
    await admin.execute("delete from embeddings where document_id = $1", UUID(document["id"]))
    try:
        assert (await similar(api, document))["hits"] == []
    finally:
        await admin.execute("insert into embeddings select * from kept")


async def test_no_statement_shows_a_foreign_tenant_where_a_document_lies(
    api: Api, resources: Resources, cloud: str
) -> None:
    mine = await collection_of(api, resources, cloud)
    document = await document_of(api, cloud, "3")
    asked: dict[str, Any] = {
        "ids": [UUID(document["id"])],
        "external_ids": ["4"],
        "profile": resources.profile,
        "reader": resources.reader,
    }

    assert {place.external_id for place in await find_places(mine, **asked)} == {"3", "4"}
    with pytest.raises(NotFoundError):
        await find_places(replace(mine, tenant_id=new_id()), **asked)
    empty = await api.make_collection()
    assert await find_places(await collection_of(api, resources, empty), **asked) == []


async def test_who_does_not_have_the_document_learns_nothing(api: Api, other_api: Api, cloud: str) -> None:
    document = await document_of(api, cloud, "3")

    for caller, id_ in ((other_api, document["id"]), (api, str(new_id())), (api, str(uuid4())), (api, "x")):
        assert code(await caller.client.get(f"/v1/documents/{id_}/similar")) == (404, "not_found")


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"filter": "{"}, "filter"),
        ({"filter": ""}, "filter"),
        ({"filter": "[]"}, "filter"),
        ({"filter": '{"color": 1}'}, "filter.color"),
        ({"mode": "semantic"}, "mode"),
        ({"cursor": "x"}, "cursor"),
    ],
)
async def test_parameters_are_checked_by_name(api: Api, cloud: str, params: dict[str, Any], field: str) -> None:
    document = await document_of(api, cloud, "3")

    assert fields(await api.client.get(f"/v1/documents/{document['id']}/similar", params=params)) == [field]
