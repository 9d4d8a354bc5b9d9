import hashlib
from urllib.parse import unquote

import httpx

from tests.api_calls import Api, path

MARKDOWN = "# Grüße\n\nText of a file.\n".encode()


async def test_the_content_of_a_file_is_a_link_that_needs_no_key(api: Api, collection: str) -> None:
    document = await api.make_file(collection, MARKDOWN, filename="Grüße, Welt.md")

    answer = await api.client.get(f"/v1/documents/{document['id']}/content")

    assert (answer.status_code, answer.content) == (302, b"")
    async with httpx.AsyncClient() as anonymous:
        found = await anonymous.get(answer.headers["location"])
    assert (found.status_code, found.content) == (200, MARKDOWN)
    assert "Grüße, Welt.md" in unquote(found.headers["content-disposition"])


async def test_the_content_of_a_file_is_streamed_as_inert_bytes(api: Api, collection: str) -> None:
    page = b"<!doctype html><script>alert(1)</script>" + b"x" * 300_000
    document = await api.make_file(collection, page, filename="a.html")

    answer = await api.client.get(f"/v1/documents/{document['id']}/content", params={"stream": "true"})

    assert (answer.status_code, answer.content) == (200, page)
    assert answer.headers["content-type"] == "text/html"
    assert answer.headers["content-length"] == str(len(page))
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''a.html"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["etag"] == f'"{hashlib.sha256(page).hexdigest()}"'


async def test_the_content_of_a_json_document_is_its_text(api: Api, collection: str) -> None:
    document = await api.make_document(collection, text="Grüße 🙂\r\n")

    for params in ({}, {"stream": "true"}):
        answer = await api.client.get(f"/v1/documents/{document['id']}/content", params=params)
        assert (answer.status_code, answer.content) == (200, "Grüße 🙂\r\n".encode())
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"


async def test_content_is_the_newest_versions(api: Api, collection: str) -> None:
    await api.put(collection, "x", {"text": "text"})
    document = (await api.client.put(path(collection, "x"), content=b"one", params={"filename": "f.txt"})).json()
    await api.client.put(path(collection, "x"), content=b"two", params={"filename": "f.txt"})

    answer = await api.client.get(f"/v1/documents/{document['id']}/content", params={"stream": "true"})

    assert answer.content == b"two"
