"""A document of a title alone: one chunk of it, which shows the title wherever chunks are shown."""

from service.resources import Resources
from tests.api_calls import Api
from tests.search_calls import fill, settle

WOLF = {"external_id": "wolf", "title": "Wolf", "text": ""}


async def test_its_chunk_shows_the_title(api: Api, resources: Resources, collection: str) -> None:
    await fill(api, resources, collection, [WOLF, {"external_id": "bear", "title": "Bear", "text": "It growls."}])
    url = f"/v1/collections/{collection}"
    document = (await api.client.get(f"{url}/documents/wolf")).json()

    (chunk,) = (await api.client.get(f"/v1/documents/{document['id']}/chunks")).json()["chunks"]
    found = [
        (await api.client.post(f"{url}/search", json={"query": "wolf", "mode": mode, "limit": 1})).json()["hits"][0]
        for mode in ("hybrid", "lexical", "semantic")
    ]

    assert (chunk["text"], chunk["char_start"], chunk["char_end"]) == ("Wolf", 0, 0)
    for hit in found:
        assert {name: hit["chunks"][0][name] for name in chunk} == chunk
    assert (await api.client.get(f"/v1/documents/{document['id']}/content")).text == ""
    (bear,) = (await api.client.post(f"{url}/search", json={"query": "growls", "mode": "lexical"})).json()["hits"]
    assert bear["chunks"][0]["text"] == "It growls."


async def test_it_shows_the_title_that_search_serves(api: Api, resources: Resources, collection: str) -> None:
    await fill(api, resources, collection, [WOLF])
    document = (await api.client.get(f"/v1/collections/{collection}/documents/wolf")).json()
    chunks = f"/v1/documents/{document['id']}/chunks"

    assert (await api.patch(document, {"title": "Grey wolf"})).status_code == 200
    before = (await api.client.get(chunks)).json()["chunks"]
    await settle(api, resources, collection)
    after = (await api.client.get(chunks)).json()["chunks"]

    assert [[chunk["text"] for chunk in shown] for shown in (before, after)] == [["Wolf"], ["Grey wolf"]]
