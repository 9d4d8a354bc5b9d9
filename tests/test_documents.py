import hashlib
import json

import pytest

from tests.api_calls import EVERYTHING, Api, code, fields, path

MEMBERS = {
    "id",
    "external_id",
    "collection",
    "title",
    "source",
    "tags",
    "published_at",
    "attributes",
    "language",
    "content_type",
    "size",
    "sha256",
    "version",
    "indexed_version",
    "status",
    "error",
    "chunk_count",
    "created_at",
    "updated_at",
}


async def test_a_posted_document_is_accepted_with_its_location_and_tag(api: Api, collection: str) -> None:
    text = "Grüße 🙂"
    answer = await api.post(collection, {"external_id": "x", "text": text, **EVERYTHING})

    assert answer.status_code == 202
    document = answer.json()
    assert set(document) == MEMBERS
    assert answer.headers["location"] == f"/v1/documents/{document['id']}"
    assert answer.headers["etag"] == '"1"'
    expected = EVERYTHING | {
        "external_id": "x",
        "collection": collection,
        "published_at": "2024-05-01T10:00:00Z",
        "content_type": "text/plain",
        "size": len(text.encode()),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "version": 1,
        "indexed_version": None,
        "status": "pending",
        "error": None,
        "chunk_count": 0,
    }
    assert {name: document[name] for name in expected} == expected
    assert (await api.client.get(answer.headers["location"])).json() == document
    assert (await api.client.get(path(collection, "x"))).json() == document


async def test_null_means_absent(api: Api, collection: str) -> None:
    nulls = dict.fromkeys(
        ("external_id", "title", "source", "tags", "published_at", "attributes", "language", "vector")
    )
    document = (await api.post(collection, {"text": "x", **nulls})).json()

    assert (document["external_id"], document["title"], document["tags"], document["attributes"]) == (
        None,
        None,
        [],
        {},
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"text": None}, "text"),
        ({"text": ""}, "text"),
        ({"text": "a\0b"}, "text"),
        ({"text": 7}, "text"),
        ({"text": "\ud800"}, "text"),
        ({"title": "a\0"}, "title"),
        ({"title": ["a"]}, "title"),
        ({"source": 1}, "source"),
        ({"tags": "a"}, "tags"),
        ({"tags": ["a", 1]}, "tags.1"),
        ({"tags": ["\0"]}, "tags.0"),
        ({"tags": ["x" * 513]}, "tags.0"),
        ({"published_at": "2024-05-01"}, "published_at"),
        ({"published_at": "2024-05-01T00:00:00"}, "published_at"),
        ({"published_at": "2024-02-30T00:00:00Z"}, "published_at"),
        ({"published_at": 1_700_000_000}, "published_at"),
        ({"attributes": []}, "attributes"),
        ({"attributes": {"a": "\0"}}, "attributes.a"),
        ({"attributes": {"a": {"b": ["\ud800"]}}}, "attributes.a.b.0"),
        ({"attributes": {"a": 2**63}}, "attributes.a"),
        ({"attributes": {"a": "x" * 65_536}}, "attributes"),
        ({"language": "klingon"}, "language"),
        ({"external_id": ""}, "external_id"),
        ({"external_id": "x" * 513}, "external_id"),
        ({"external_id": "a\tb"}, "external_id"),
        ({"external_id": "a\x85b"}, "external_id"),
        ({"vector": [1.0]}, "vector"),
        ({"vector": [0.0] * 384}, "vector"),
        ({"vector": [1e9] * 384}, "vector"),
        ({"vector": [True] * 384}, "vector.0"),
        ({"vector": "x"}, "vector"),
        ({"unknown": 1}, "unknown"),
        ({"id": "x"}, "id"),
    ],
)
async def test_what_cannot_be_kept_is_refused_by_field(
    api: Api, collection: str, change: dict[str, object], field: str
) -> None:
    raw = json.dumps({"text": "x"} | change)  # httpx would not send half a surrogate pair
    url, headers = f"/v1/collections/{collection}/documents", {"Content-Type": "application/json"}
    answer = await api.client.post(url, content=raw, headers=headers)

    assert field in fields(answer)
    assert (await api.status(collection))["documents"]["pending"] == 0


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
async def test_numbers_that_are_none_are_refused(api: Api, collection: str, number: str) -> None:
    url, headers = f"/v1/collections/{collection}/documents", {"Content-Type": "application/json"}
    answer = await api.client.post(url, content=f'{{"text": "x", "attributes": {{"a": {number}}}}}', headers=headers)

    assert code(answer) in {(400, "malformed"), (422, "invalid")}


async def test_attributes_nest_twenty_deep_and_no_deeper(api: Api, collection: str) -> None:
    nested: object = 1
    for _ in range(19):
        nested = {"a": nested}
    assert (await api.post(collection, {"text": "x", "attributes": {"a": nested}})).status_code == 202

    assert fields(await api.post(collection, {"text": "x", "attributes": {"a": {"a": nested}}})) == [
        "attributes" + ".a" * 20
    ]


async def test_text_may_be_empty_when_the_title_is_not(api: Api, collection: str) -> None:
    assert (await api.post(collection, {"text": "", "title": "only a title"})).status_code == 202


async def test_declared_attributes_are_checked_on_every_way_in(api: Api, collection: str) -> None:
    declared = {"year": "integer", "score": "number", "name": "string", "ok": "boolean", "at": "timestamp"}
    declared |= {"kinds": "string[]", "deep.year": "integer"}
    await api.client.patch(f"/v1/collections/{collection}", json={"attributes": declared})
    good = {"year": 1, "score": 1.5, "name": "n", "ok": False, "at": "2024-01-01T00:00:00Z", "kinds": ["a"]}
    wrong: list[tuple[dict[str, object], str]] = [
        ({"year": "2024"}, "attributes.year"),
        ({"year": 1.5}, "attributes.year"),
        ({"year": True}, "attributes.year"),
        ({"score": "1"}, "attributes.score"),
        ({"name": 1}, "attributes.name"),
        ({"ok": 0}, "attributes.ok"),
        ({"at": "yesterday"}, "attributes.at"),
        ({"kinds": "a"}, "attributes.kinds"),
        ({"kinds": ["a", 1]}, "attributes.kinds.1"),
        ({"deep": {"year": "x"}}, "attributes.deep.year"),
    ]

    first = await api.make_document(collection, attributes=good | {"deep": {"year": 3}, "free": "anything"})
    for attributes, field in wrong:
        assert fields(await api.post(collection, {"text": "x", "attributes": attributes})) == [field]
        assert fields(await api.put(collection, "x", {"text": "x", "attributes": attributes})) == [field]
        assert fields(await api.patch(first, {"attributes": attributes})) == [field]
        line = (await api.batch(collection, [{"text": "x", "attributes": attributes}]))[0]
        assert (line["status"], line["problem"]["errors"][0]["field"]) == (422, field)
    assert (await api.get(first))["version"] == 1


async def test_a_whole_number_is_a_declared_integer_and_null_is_absent(api: Api, collection: str) -> None:
    await api.client.patch(f"/v1/collections/{collection}", json={"attributes": {"year": "integer"}})

    document = await api.make_document(collection, attributes={"year": 2020.0})

    assert repr(document["attributes"]["year"]) == "2020"
    assert (await api.post(collection, {"text": "x", "attributes": {"year": None}})).status_code == 202


@pytest.mark.usefixtures("worker")
async def test_waiting_turns_202_into_201(api: Api, collection: str) -> None:
    created = await api.post(collection, {"text": "Brown foxes jump."}, wait=60)

    assert created.status_code == 201
    document = created.json()
    assert (document["status"], document["version"], document["indexed_version"]) == ("indexed", 1, 1)
    assert document["chunk_count"] == 1
    assert created.headers["etag"] == '"1"'


async def test_waiting_in_vain_stays_202(api: Api, collection: str) -> None:
    answer = await api.post(collection, {"text": "x"}, wait=0.05)

    assert (answer.status_code, answer.json()["status"]) == (202, "pending")


@pytest.mark.parametrize("wait", ["-1", "61", "x", "nan", ""])
async def test_waiting_has_limits(api: Api, collection: str, wait: str) -> None:
    answer = await api.client.post(f"/v1/collections/{collection}/documents", json={"text": "x"}, params={"wait": wait})

    assert fields(answer) == ["wait"]


@pytest.mark.parametrize(
    "external_id",
    [
        "hep-th/9901001",
        "a/b/c/",
        "/a",
        "a//b",
        "..",
        "../../x",
        ".",
        "a?b=c",
        "a#b",
        "a%2Fb",
        "100%",
        "a b+c",
        "Ünïcödé 🙂",
        "x:retry",
        "documents:batch",
        "status",
        '"quoted"',
        "x" * 512,
        "🙂" * 512,
    ],
)
async def test_an_external_id_survives_the_path(api: Api, collection: str, external_id: str) -> None:
    put = await api.put(collection, external_id, {"text": "x"})
    assert (put.status_code, put.json()["external_id"]) == (202, external_id)

    assert (await api.client.get(path(collection, external_id))).json() == put.json()
    patched = await api.client.patch(path(collection, external_id), json={"title": "t"}, headers={"If-Match": "*"})
    assert patched.json()["title"] == "t"
    assert (await api.client.delete(path(collection, external_id), headers={"If-Match": '"2"'})).status_code == 204
    assert code(await api.client.get(path(collection, external_id))) == (404, "not_found")


@pytest.mark.parametrize("raw", ["%00", "a%0A", "a%09b", "%FF", "x" * 513, ""])
async def test_what_no_document_may_be_called_is_refused_and_not_found(api: Api, collection: str, raw: str) -> None:
    url = f"/v1/collections/{collection}/documents/{raw}"

    assert fields(await api.client.put(url, json={"text": "x"})) == ["external_id"]
    assert code(await api.client.get(url)) == (404, "not_found")


@pytest.mark.usefixtures("worker")
async def test_a_vector_makes_the_document_one_chunk(api: Api, collection: str) -> None:
    text = "word " * 2_000
    vector = [0.1] * 384
    answer = await api.put(collection, "x", {"text": text, "vector": vector}, wait=60)

    assert answer.json()["chunk_count"] == 1
    assert (await api.put(collection, "x", {"text": text, "vector": vector})).status_code == 200
