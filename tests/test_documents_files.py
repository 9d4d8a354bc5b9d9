import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from service.resources import Resources
from tests.api_calls import Api, code, fields, path
from tests.worker_calls import until

MARKDOWN = "# Grüße\n\nText of a file.\n".encode()
FIELDS: dict[str, Any] = {
    "title": "Titel",
    "source": "s",
    "tags": ["a", "b"],
    "published_at": "2024-05-01T10:00:00Z",
    "attributes": {"year": 2024},
    "language": "german",
}
QUERY = FIELDS | {"attributes": json.dumps(FIELDS["attributes"])}


def said(document: dict[str, Any]) -> dict[str, Any]:
    return {name: document[name] for name in FIELDS}


async def test_a_raw_file_takes_its_fields_from_the_query(api: Api, collection: str) -> None:
    url = f"/v1/collections/{collection}/documents"
    params = QUERY | {"filename": "a.md", "external_id": "x/y"}
    answer = await api.client.post(url, params=params, content=MARKDOWN, headers={"Content-Type": "text/x-markdown"})

    assert answer.status_code == 202
    document = answer.json()
    assert said(document) == FIELDS
    assert (document["external_id"], document["content_type"]) == ("x/y", "text/markdown")
    assert (document["size"], document["sha256"]) == (len(MARKDOWN), hashlib.sha256(MARKDOWN).hexdigest())
    assert answer.headers["location"] == f"/v1/documents/{document['id']}"


async def test_a_form_takes_its_fields_from_the_document_part(api: Api, collection: str) -> None:
    document_part = json.dumps(FIELDS | {"external_id": "x"}).encode()
    for part in ((None, document_part, "application/json"), ("document.json", document_part, "application/json")):
        files = {"file": ("b.md", MARKDOWN, "text/plain"), "document": part}
        answer = await api.client.put(path(collection, "x"), files=files)

        assert answer.status_code in {200, 202}, answer.text
        assert said(answer.json()) == FIELDS
    assert answer.json()["version"] == 1


async def test_a_form_needs_only_its_file(api: Api, collection: str) -> None:
    answer = await api.client.post(f"/v1/collections/{collection}/documents", files={"file": ("b.md", MARKDOWN)})

    assert (answer.status_code, answer.json()["content_type"]) == (202, "text/markdown")


@pytest.mark.parametrize(
    ("files", "data", "field"),
    [
        ({"document": (None, b"{}")}, {}, "file"),
        ({"document": (None, b"{}")}, {"file": "not a file"}, "file"),
        ({"file": ("a", b"x"), "extra": (None, b"x")}, {}, "extra"),
        ({"file": ("a", b"x"), "document": (None, b'{"text": "x"}')}, {}, "text"),
        ({"file": ("a", b"x"), "document": (None, b'{"tags": 1}')}, {}, "tags"),
        ({"file": ("a", b"x"), "document": (None, b"[]")}, {}, "body"),
        ({"file": ("a" * 1_025, b"x")}, {}, "filename"),
    ],
)
async def test_a_form_is_read_strictly(
    api: Api, collection: str, files: dict[str, Any], data: dict[str, Any], field: str
) -> None:
    answer = await api.client.post(f"/v1/collections/{collection}/documents", files=files, data=data)

    assert field in fields(answer)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"nonsense"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"),
        ("application/json", b"{"),
        ("application/json", b""),
        ("application/json", b"\xff"),
        ("application/json", b"[" * 100_000),
        ("application/json", b'{"text": NaN}'),
    ],
)
async def test_bodies_that_are_not_what_they_claim_are_malformed(
    api: Api, collection: str, content_type: str, body: bytes
) -> None:
    answer = await api.client.post(
        f"/v1/collections/{collection}/documents", content=body, headers={"Content-Type": content_type}
    )

    assert code(answer) == (400, "malformed")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"attributes": "{"}, "attributes"),
        ({"attributes": "[]"}, "attributes"),
        ({"attributes": '{"a": "\\u0000"}'}, "attributes.a"),
        ({"published_at": "x"}, "published_at"),
        ({"title": "\0"}, "title"),
        ({"filename": "a\0.pdf"}, "filename"),
        ({"external_id": ""}, "external_id"),
        ({"language": "klingon"}, "language"),
        ({"text": "x"}, "text"),
        ({"unknown": "x"}, "unknown"),
        ({"title": ["a", "b"]}, "title"),
    ],
)
async def test_a_raw_upload_is_checked_like_any_other(
    api: Api, collection: str, query: dict[str, str], field: str
) -> None:
    url = f"/v1/collections/{collection}/documents"
    answer = await api.client.post(url, params=query, content=b"x", headers={"Content-Type": "text/plain"})

    assert fields(answer) == [field]


async def test_query_fields_belong_to_raw_bodies_only(api: Api, collection: str) -> None:
    url = f"/v1/collections/{collection}/documents"

    assert fields(await api.client.post(url, params={"title": "t"}, json={"text": "x"})) == ["title"]
    assert fields(await api.client.post(url, params={"filename": "f"}, files={"file": ("a", b"x")})) == ["filename"]
    assert fields(await api.client.put(path(collection, "x"), params={"external_id": "x"}, content=b"x")) == [
        "external_id"
    ]


async def test_no_body_at_all_is_a_mistake(api: Api, collection: str) -> None:
    assert fields(await api.client.post(f"/v1/collections/{collection}/documents")) == ["body"]


@pytest.mark.parametrize(
    ("content", "headers", "filename", "content_type"),
    [
        (b"%PDF-1.7\n", {"Content-Type": "text/plain"}, "a.txt", "application/pdf"),
        (b"<!doctype html><title>x</title>", {"Content-Type": "text/plain"}, None, "text/html"),
        (b"# x", {}, "a.md", "text/markdown"),
        (b"hello", {}, None, "text/plain"),
        ("Grüße".encode("latin-1"), {"Content-Type": "text/plain; charset=ISO-8859-1"}, None, "text/plain"),
        (b"\x89PNG\r\n\x1a\n", {"Content-Type": "text/markdown"}, "a.md", "image/png"),
    ],
)
async def test_the_type_is_read_from_the_bytes_first(
    api: Api, collection: str, *, content: bytes, headers: dict[str, str], filename: str | None, content_type: str
) -> None:
    params = {"filename": filename} if filename else {}
    url = f"/v1/collections/{collection}/documents"
    document = (await api.client.post(url, params=params, content=content, headers=headers)).json()

    assert document["content_type"] == content_type


@pytest.mark.usefixtures("worker")
async def test_the_charset_of_the_header_reaches_the_reader(api: Api, collection: str) -> None:
    url = f"/v1/collections/{collection}/documents"
    headers = {"Content-Type": "text/plain; charset=iso-8859-5"}
    text = "Широка страна моя родная, много в ней лесов, полей и рек."
    posted = await api.client.post(url, params={"wait": 60}, content=text.encode("iso-8859-5"), headers=headers)

    chunks = (await api.client.get(f"/v1/documents/{posted.json()['id']}/chunks")).json()["chunks"]

    assert chunks[0]["text"] == text


async def test_the_same_file_again_is_200_and_leaves_no_second_blob(
    api: Api, collection: str, count_blobs: Callable[[], Awaitable[int]]
) -> None:
    url, params = path(collection, "x"), {"filename": "a.md", "title": "t"}
    before = await count_blobs()

    answers = [await api.client.put(url, content=MARKDOWN, params=params) for _ in range(3)]

    assert [(each.status_code, each.json()["version"]) for each in answers] == [(202, 1), (200, 1), (200, 1)]
    assert await count_blobs() == before + 1
    assert (await api.client.put(url, content=MARKDOWN, params=params | {"title": "u"})).json()["version"] == 2


async def test_a_refused_file_leaves_no_blob(
    api: Api, collection: str, count_blobs: Callable[[], Awaitable[int]]
) -> None:
    await api.make_document(collection, external_id="x")
    before = await count_blobs()
    url = f"/v1/collections/{collection}/documents"

    answers = [
        await api.client.post(url, params={"external_id": "x"}, content=MARKDOWN),
        await api.client.put(path(collection, "x"), content=MARKDOWN, headers={"If-Match": '"7"'}),
        await api.client.post(url, params={"language": "klingon"}, content=MARKDOWN),
        await api.client.post("/v1/collections/nowhere/documents", content=MARKDOWN),
    ]

    assert [answer.status_code for answer in answers] == [409, 412, 422, 404]
    assert await count_blobs() == before


@pytest.mark.usefixtures("worker")
async def test_a_deleted_file_loses_its_blob_after_the_grace(api: Api, collection: str, resources: Resources) -> None:
    document = await api.make_file(collection, MARKDOWN, wait=60)
    assert await blobs_of(document, resources) == 1

    await api.delete(document)

    await until_no_blob(document, resources)


@pytest.mark.usefixtures("worker")
async def test_an_overtaken_file_loses_its_blob_and_a_patched_one_keeps_it(
    api: Api, collection: str, resources: Resources
) -> None:
    await api.client.put(path(collection, "x"), content=MARKDOWN, params={"wait": 60})
    document = (await api.client.get(path(collection, "x"))).json()
    for changes in ({"tags": ["a"]}, {"title": "indexed anew"}):
        document = (await api.patch(document, changes)).json()
        await until_indexed(api, document)
    assert await blobs_of(document, resources) == 1

    await api.put(collection, "x", {"text": "no file any more"}, wait=60)

    await until_no_blob(document, resources)


async def blobs_of(document: dict[str, Any], resources: Resources) -> int:
    return len([blob async for blob in resources.blobs.list_blobs() if document["id"] in blob.key])


async def until_indexed(api: Api, document: dict[str, Any]) -> None:
    await until(lambda: is_indexed(api, document))


async def is_indexed(api: Api, document: dict[str, Any]) -> bool:
    found = await api.get(document)
    return bool(found["indexed_version"] == found["version"])


async def until_no_blob(document: dict[str, Any], resources: Resources) -> None:
    async def is_gone() -> bool:
        return await blobs_of(document, resources) == 0

    await until(is_gone)
