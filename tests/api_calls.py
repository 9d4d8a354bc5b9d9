"""The API in the words of a test: one tenant's client, and makers of what tests need."""

import json
from collections.abc import Iterable, Mapping
from itertools import count
from typing import Any
from urllib.parse import quote

import httpx

Json = dict[str, Any]

numbers = count(1)

# A document with every field.
EVERYTHING: dict[str, Any] = {
    "title": "Titel",
    "source": "https://example.org/1",
    "tags": ["b", "a", "b"],
    "published_at": "2024-05-01T12:00:00+02:00",
    "attributes": {"year": 2024, "deep": {"list": [1, 2.5, None, True, "x"]}, "": "empty key"},
    "language": "german",
}


class Api:
    """Requests of one tenant. Makers assert success; `client` is there for everything else."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def make_collection(self, name: str | None = None, **fields: Any) -> str:
        name = name or f"collection-{next(numbers)}"
        response = await self.client.post("/v1/collections", json={"name": name, **fields})
        assert response.status_code == 201, response.text
        return name

    async def make_document(self, collection: str, *, wait: float | None = None, **fields: Any) -> Json:
        """A JSON document; with `wait`, indexed."""
        body = {"text": "The quick brown fox jumps over the lazy dog."} | fields
        response = await self.post(collection, body, wait=wait)
        assert response.status_code == (202 if wait is None else 201), response.text
        document: Json = response.json()
        return document

    async def make_file(
        self,
        collection: str,
        content: bytes = b"# Title\n\nText of a file.\n",
        *,
        wait: float | None = None,
        **query: Any,
    ) -> Json:
        params = {"filename": "a.md", **query} | ({} if wait is None else {"wait": wait})
        response = await self.client.post(f"/v1/collections/{collection}/documents", params=params, content=content)
        assert response.status_code in {201, 202}, response.text
        document: Json = response.json()
        return document

    async def post(self, collection: str, body: object, *, wait: float | None = None) -> httpx.Response:
        params = {} if wait is None else {"wait": wait}
        return await self.client.post(f"/v1/collections/{collection}/documents", json=body, params=params)

    async def put(
        self,
        collection: str,
        external_id: str,
        body: object,
        *,
        wait: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        params = {} if wait is None else {"wait": wait}
        return await self.client.put(path(collection, external_id), json=body, params=params, headers=headers)

    async def patch(self, document: Json, changes: object, *, if_match: str | None = None) -> httpx.Response:
        etag = f'"{document["version"]}"' if if_match is None else if_match
        return await self.client.patch(f"/v1/documents/{document['id']}", json=changes, headers={"If-Match": etag})

    async def get(self, document: Json) -> Json:
        response = await self.client.get(f"/v1/documents/{document['id']}")
        assert response.status_code == 200, response.text
        found: Json = response.json()
        return found

    async def delete(self, document: Json, *, if_match: str = "*") -> httpx.Response:
        return await self.client.delete(f"/v1/documents/{document['id']}", headers={"If-Match": if_match})

    async def batch(self, collection: str, lines: Iterable[object]) -> list[Json]:
        """Each line an object, or bytes that are sent as they are."""
        body = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
        response = await self.client.post(
            f"/v1/collections/{collection}/documents:batch",
            content=body,
            headers={"Content-Type": "application/x-ndjson"},
        )
        assert response.status_code == 200, response.text
        return [json.loads(line) for line in response.content.splitlines()]

    async def status(self, collection: str) -> Json:
        status: Json = (await self.client.get(f"/v1/collections/{collection}/status")).json()
        return status


def path(collection: str, external_id: str) -> str:
    return f"/v1/collections/{collection}/documents/{quote(external_id, safe='').replace('.', '%2E')}"


def code(response: httpx.Response) -> tuple[int, str]:
    """What went wrong, checked to be a problem."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["request_id"] == response.headers["x-request-id"]
    return problem["status"], problem["code"]


def fields(response: httpx.Response) -> list[str]:
    """The fields that a 422 names."""
    assert code(response) == (422, "invalid")
    return [error["field"] for error in response.json()["errors"]]
