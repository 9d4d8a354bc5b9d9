import pytest
from sqlalchemy import func, select

from service.db import tables
from service.db.owner import as_owner
from service.resources import Resources
from tests.api_calls import EVERYTHING, Api, code, fields, path


@pytest.mark.parametrize("wait", ["-1", "61", "x", "nan", ""])
async def test_waiting_has_limits(api: Api, collection: str, wait: str) -> None:
    answer = await api.client.post(f"/v1/collections/{collection}/documents", json={"text": "x"}, params={"wait": wait})

    assert fields(answer) == ["wait"]


async def test_a_document_that_exists_is_a_conflict_for_post(api: Api, collection: str) -> None:
    await api.make_document(collection, external_id="x")

    assert code(await api.post(collection, {"external_id": "x", "text": "y"})) == (409, "document_exists")


@pytest.mark.usefixtures("worker")
async def test_put_creates_then_adds_versions_then_changes_nothing(api: Api, collection: str) -> None:
    first = await api.put(collection, "x", {"text": "one", "title": "t", "tags": ["a"]}, wait=60)
    second = await api.put(collection, "x", {"text": "two"}, wait=60)
    again = await api.put(collection, "x", {"text": "two"}, wait=60)

    assert [answer.status_code for answer in (first, second, again)] == [201, 200, 200]
    assert [answer.json()["version"] for answer in (first, second, again)] == [1, 2, 2]
    assert (second.json()["title"], second.json()["tags"]) == (None, [])
    assert again.json() == second.json()
    assert first.json()["id"] == second.json()["id"]


async def test_put_without_waiting_is_202_until_nothing_changes(api: Api, collection: str) -> None:
    answers = [await api.put(collection, "x", {"text": text}) for text in ("one", "two", "two")]

    assert [answer.status_code for answer in answers] == [202, 202, 200]
    assert [answer.headers["etag"] for answer in answers] == ['"1"', '"2"', '"2"']
    assert (await api.status(collection))["jobs"]["queued"] == 1


@pytest.mark.parametrize(
    "change",
    [
        {"title": "other"},
        {"source": "other"},
        {"tags": ["a", "b"]},
        {"tags": ["b", "b", "a"]},
        {"published_at": "2024-05-01T10:00:01Z"},
        {"language": "french"},
        {"attributes": EVERYTHING["attributes"] | {"deep": {"list": [True, 2.5, None, True, "x"]}}},
        {"attributes": EVERYTHING["attributes"] | {"more": None}},
        {"vector": [0.5] * 384},
        {"text": "other"},
    ],
)
async def test_every_field_counts_as_a_change(api: Api, collection: str, change: dict[str, object]) -> None:
    body = EVERYTHING | {"text": "x"}
    await api.put(collection, "x", body)
    same = await api.put(collection, "x", body | {"published_at": "2024-05-01T10:00:00.000Z"})
    assert (same.status_code, same.json()["version"]) == (200, 1)

    changed = await api.put(collection, "x", body | change)

    assert (changed.status_code, changed.json()["version"]) == (202, 2)
    assert (await api.put(collection, "x", body | change)).status_code == 200


async def test_the_body_of_a_put_must_not_contradict_its_path(api: Api, collection: str) -> None:
    assert (await api.put(collection, "x", {"external_id": "x", "text": "y"})).status_code == 202
    assert fields(await api.put(collection, "x", {"external_id": "z", "text": "y"})) == ["external_id"]


@pytest.mark.parametrize(
    ("if_match", "status"),
    [
        (None, 428),
        ("*", 200),
        ('"2"', 200),
        ('"1", "2"', 200),
        ('"1"', 412),
        ('"3"', 412),
        ('W/"2"', 412),
        ("2", 412),
        ('"x"', 412),
        ("", 412),
    ],
)
async def test_changes_need_the_version_that_they_change(
    api: Api, collection: str, if_match: str | None, status: int
) -> None:
    await api.put(collection, "x", {"text": "one"})
    document = (await api.put(collection, "x", {"text": "two"})).json()
    headers = {} if if_match is None else {"If-Match": if_match}

    for url in (f"/v1/documents/{document['id']}", path(collection, "x")):
        answer = await api.client.patch(url, json={"title": "t"}, headers=headers)
        assert answer.status_code == status
        if status == 200:
            headers = {"If-Match": "*"}
    deleted = await api.client.delete(path(collection, "x"), headers=headers)
    assert deleted.status_code == (204 if status == 200 else status)


async def test_put_obeys_its_conditions(api: Api, collection: str) -> None:
    absent, present, stale = {"If-None-Match": "*"}, {"If-Match": "*"}, {"If-Match": '"7"'}

    assert code(await api.put(collection, "x", {"text": "1"}, headers=present)) == (412, "precondition_failed")
    assert (await api.put(collection, "x", {"text": "1"}, headers=absent)).status_code == 202
    assert code(await api.put(collection, "x", {"text": "2"}, headers=absent)) == (412, "precondition_failed")
    assert code(await api.put(collection, "x", {"text": "2"}, headers=stale)) == (412, "precondition_failed")
    assert code(await api.put(collection, "x", {"text": "1"}, headers=stale)) == (412, "precondition_failed")
    assert (await api.put(collection, "x", {"text": "2"}, headers={"If-Match": '"1"'})).json()["version"] == 2


@pytest.mark.usefixtures("worker")
async def test_a_deleted_document_is_found_nowhere(api: Api, collection: str, resources: Resources) -> None:
    document = await api.make_document(collection, external_id="x", wait=60)

    deleted = await api.delete(document, if_match='"1"')

    assert (deleted.status_code, deleted.content) == (204, b"")
    for url in ("", "/chunks", "/content"):
        assert code(await api.client.get(f"/v1/documents/{document['id']}{url}")) == (404, "not_found")
    assert code(await api.client.get(path(collection, "x"))) == (404, "not_found")
    assert (await api.client.get(f"/v1/collections/{collection}/documents")).json()["documents"] == []
    assert (await api.status(collection))["documents"]["indexed"] == 0
    assert code(await api.delete(document)) == (404, "not_found")
    assert await leftovers(resources, document["id"]) == 0
    assert (await api.post(collection, {"external_id": "x", "text": "again"})).status_code == 202


async def leftovers(resources: Resources, document_id: str) -> int:
    """Rows of any table that still know the document, seen as the owner."""
    sealed = (tables.jobs, tables.document_versions, tables.chunks, tables.chunk_terms, tables.embeddings)
    assert resources.settings.database_direct_url is not None
    async with as_owner(resources.settings.database_direct_url.get_secret_value()) as owner:
        counts = [select(func.count()).where(table.c.document_id == document_id) for table in sealed]
        return sum([(await owner.execute(count)).scalar_one() for count in counts])


async def test_only_a_failed_document_is_retried(api: Api, collection: str) -> None:
    document = await api.make_document(collection)

    assert code(await api.client.post(f"/v1/documents/{document['id']}:retry")) == (409, "not_failed")


@pytest.mark.usefixtures("worker")
async def test_a_failed_document_says_why_and_can_be_retried(api: Api, collection: str) -> None:
    document = await api.make_file(collection, b"", wait=60)
    assert (document["status"], document["error"]["code"]) == ("failed", "empty")
    assert set(document["error"]) == {"code", "message"}

    retried = await api.client.post(f"/v1/documents/{document['id']}:retry")

    assert retried.status_code == 202
    assert (retried.json()["version"], retried.json()["error"]) == (1, None)
    assert retried.json()["status"] in {"pending", "processing"}
