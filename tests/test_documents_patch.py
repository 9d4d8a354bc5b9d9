from typing import Any

import pytest

from tests.api_calls import EVERYTHING, Api, code, fields
from tests.worker_calls import until


@pytest.mark.usefixtures("worker")
async def test_patching_what_touches_no_chunk_is_served_at_once(api: Api, collection: str) -> None:
    document = await api.make_document(collection, wait=60, **EVERYTHING)

    answer = await api.patch(
        document,
        {
            "tags": None,
            "source": "s",
            "attributes": {"year": None, "deep": {"list": None, "more": 1}},
            "published_at": None,
        },
    )

    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')
    patched = answer.json()
    assert (patched["version"], patched["indexed_version"], patched["status"]) == (2, 2, "indexed")
    assert (patched["tags"], patched["source"], patched["published_at"]) == ([], "s", None)
    assert patched["attributes"] == {"deep": {"more": 1}, "": "empty key"}
    assert (patched["title"], patched["language"]) == (EVERYTHING["title"], "german")
    assert patched["chunk_count"] == document["chunk_count"]
    assert patched["updated_at"] > document["updated_at"]


@pytest.mark.usefixtures("worker")
async def test_search_serves_a_patch_from_its_answer_on(api: Api, collection: str) -> None:
    document = await api.make_document(collection, wait=60, attributes={"year": 2020}, tags=["old"])

    await api.patch(document, {"tags": ["new"], "source": "s", "attributes": {"year": 2024}})

    for wanted, hits in (
        ({"tags": {"$contains": "new"}, "source": "s", "attributes.year": 2024}, 1),
        ({"tags": ["old"]}, 0),
    ):
        answer = await api.client.post(f"/v1/collections/{collection}/search", json={"query": "fox", "filter": wanted})
        assert len(answer.json()["hits"]) == hits


@pytest.mark.usefixtures("worker")
async def test_patching_the_title_indexes_again_and_keeps_the_text(api: Api, collection: str) -> None:
    document = await api.make_document(collection, wait=60, title="old")

    patched = (await api.patch(document, {"title": "zebra"})).json()

    assert (patched["version"], patched["title"]) == (2, "zebra")
    await until_indexed(api, document)
    search = {"query": "zebra", "mode": "lexical"}
    found = (await api.client.post(f"/v1/collections/{collection}/search", json=search)).json()["hits"]
    assert [(hit["document_id"], hit["title"]) for hit in found] == [(document["id"], "zebra")]
    assert found[0]["chunks"][0]["text"].startswith("The quick")


async def until_indexed(api: Api, document: dict[str, Any]) -> None:
    async def is_indexed() -> bool:
        found = await api.get(document)
        return bool(found["indexed_version"] == found["version"])

    await until(is_indexed)


async def test_patching_a_pending_document_adds_a_pending_version(api: Api, collection: str) -> None:
    document = await api.make_document(collection)

    patched = (await api.patch(document, {"tags": ["x"]})).json()

    assert (patched["version"], patched["status"], patched["tags"]) == (2, "pending", ["x"])
    assert (patched["sha256"], patched["size"]) == (document["sha256"], document["size"])


async def test_an_empty_patch_is_a_version_too(api: Api, collection: str) -> None:
    document = await api.make_document(collection)

    assert (await api.patch(document, {})).json()["version"] == 2


@pytest.mark.parametrize(
    "body", [{"text": "x"}, {"external_id": "x"}, {"vector": [1]}, {"status": "indexed"}, [], "x", 1]
)
async def test_a_patch_changes_fields_and_nothing_else(api: Api, collection: str, body: object) -> None:
    document = await api.make_document(collection)

    assert code(await api.patch(document, body)) == (422, "invalid")
    assert (await api.get(document))["version"] == 1


async def test_a_patch_may_not_leave_a_document_empty(api: Api, collection: str) -> None:
    document = await api.make_document(collection, text="", title="t")

    assert fields(await api.patch(document, {"title": None})) == ["title"]


async def test_a_merge_patch_has_a_type_of_its_own(api: Api, collection: str) -> None:
    document = await api.make_document(collection)
    url, etag = f"/v1/documents/{document['id']}", {"If-Match": '"1"'}

    good = await api.client.patch(
        url, content=b'{"title": "t"}', headers=etag | {"Content-Type": "application/merge-patch+json"}
    )
    bad = await api.client.patch(url, content=b'{"title": "t"}', headers=etag | {"Content-Type": "text/plain"})

    assert good.status_code == 200
    assert code(bad) == (415, "unsupported_media_type")
