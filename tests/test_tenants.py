"""Tenants are sealed: what one has, no other can see, change, or learn of."""

import json
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import func, select

from service.db import tables
from service.domain.ids import new_id
from service.resources import Resources
from tests.api_calls import Api, code

ANY = {"If-Match": "*"}
NDJSON = {"Content-Type": "application/x-ndjson"}


def requests_about(collection: str, document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Every route that names something of a tenant."""
    place, one, by_name = (
        f"/v1/collections/{collection}",
        f"/v1/documents/{document['id']}",
        f"/v1/collections/{collection}/documents/{document['external_id']}",
    )
    return [
        ("GET", place, {}),
        ("PATCH", place, {"json": {"attributes": {"a": "string"}}}),
        ("DELETE", place, {}),
        ("GET", f"{place}/status", {}),
        ("PUT", f"{place}/bulk-load", {}),
        ("GET", f"{place}/bulk-load", {}),
        ("DELETE", f"{place}/bulk-load", {}),
        ("GET", f"{place}/documents", {}),
        ("POST", f"{place}/documents", {"json": {"text": "x"}}),
        ("POST", f"{place}/documents", {"content": b"x", "headers": {"Content-Type": "text/plain"}}),
        ("POST", f"{place}/documents:batch", {"content": b'{"text": "x"}', "headers": NDJSON}),
        ("GET", f"{place}/documents?sort=title", {}),
        ("GET", f"{place}/documents?filter=%7B%7D", {}),
        ("POST", f"{place}/search", {"json": {"query": "fox"}}),
        ("POST", f"{place}/search:batch", {"json": {"searches": [{"query": "fox"}]}}),
        ("POST", f"{place}/recommend", {"json": {"positive": [document["id"]]}}),
        ("PUT", by_name, {"json": {"text": "x"}}),
        ("PUT", by_name, {"content": b"x", "headers": {"Content-Type": "text/plain"}}),
        ("GET", by_name, {}),
        ("PATCH", by_name, {"json": {"title": "t"}, "headers": ANY}),
        ("PATCH", by_name, {"json": {"title": "t"}}),
        ("DELETE", by_name, {"headers": ANY}),
        ("DELETE", by_name, {}),
        ("GET", one, {}),
        ("PATCH", one, {"json": {"title": "t"}, "headers": ANY}),
        ("PATCH", one, {"json": {"title": "t"}}),
        ("DELETE", one, {"headers": ANY}),
        ("DELETE", one, {}),
        ("POST", f"{one}:retry", {}),
        ("GET", f"{one}/chunks", {}),
        ("GET", f"{one}/similar", {}),
        ("GET", f"{one}/content", {}),
        ("GET", f"{one}/content?stream=true", {}),
    ]


@pytest.mark.usefixtures("worker")
async def test_what_is_foreign_does_not_exist(api: Api, other_api: Api) -> None:
    mine = await api.make_collection("sealed")
    document = await api.make_document(mine, external_id="x", wait=60)

    for method, url, parts in requests_about(mine, document):
        answer = await other_api.client.request(method, url, **parts)
        assert code(answer) == (404, "not_found"), (method, url)

    assert await api.get(document) == document
    assert (await api.status(mine))["documents"]["indexed"] == 1


async def test_the_foreign_and_the_unknown_answer_alike(api: Api, other_api: Api) -> None:
    mine = await api.make_collection()
    document = await api.make_document(mine, external_id="x")
    unknown = {"id": str(new_id()), "external_id": "x"}

    pairs = zip(requests_about(mine, document), requests_about("unknown", unknown), strict=True)
    for (method, foreign_url, parts), (_, unknown_url, _) in pairs:
        foreign = await other_api.client.request(method, foreign_url, **parts)
        missing = await other_api.client.request(method, unknown_url, **parts)
        assert without_id(foreign.json()) == without_id(missing.json()), (method, foreign_url)


def without_id(problem: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in problem.items() if name != "request_id"}


def test_no_route_about_a_tenant_is_forgotten(app: FastAPI) -> None:
    filled = {"name": "n", "id": "i", "external_id": "e"}
    named = {
        (method.upper(), path.format(**filled))
        for path, methods in app.openapi()["paths"].items()
        for method in methods
        if "{" in path
    }

    tried = {(m, u.partition("?")[0]) for m, u, _ in requests_about("n", {"id": "i", "external_id": "e"})}

    assert tried == named


async def test_names_belong_to_their_tenant(api: Api, other_api: Api) -> None:
    for tenant in (api, other_api):
        name = await tenant.make_collection("same-name")
        await tenant.put(name, "same-id", {"text": "x"})

    for tenant in (api, other_api):
        listed = (await tenant.client.get("/v1/collections/same-name/documents")).json()["documents"]
        assert [each["external_id"] for each in listed] == ["same-id"]
        assert listed[0]["version"] == 1


async def test_lists_show_ones_own_only(api: Api, other_api: Api) -> None:
    name = await other_api.make_collection("of-the-other")
    await other_api.make_document(name, external_id="of-the-other")

    for url in ("/v1/collections?limit=100", f"/v1/collections/{await api.make_collection()}/documents"):
        assert "of-the-other" not in (await api.client.get(url)).text


async def test_a_foreign_cursor_opens_nothing(api: Api, other_api: Api) -> None:
    for _ in range(2):
        await api.make_collection()
    cursor = (await api.client.get("/v1/collections", params={"limit": 1})).json()["next_cursor"]

    answer = await other_api.client.get("/v1/collections", params={"cursor": cursor})

    assert code(answer) == (400, "cursor_mismatch")


async def test_a_client_cannot_choose_ids_or_keys(api: Api, collection: str) -> None:
    document = await api.make_document(collection)
    for field in ("id", "tenant_id", "collection_id", "blob_key", "version", "status", "sha256"):
        body = {"text": "x", field: document["id"]}
        assert code(await api.post(collection, body)) == (422, "invalid")
        line = (await api.batch(collection, [json.dumps(body).encode()]))[0]
        assert line["status"] == 422


@pytest.mark.usefixtures("worker")
async def test_row_security_holds_where_a_statement_forgets_its_tenant(
    api: Api, connect: Any, resources: Resources
) -> None:
    collection = await api.make_collection()
    await api.make_document(collection, wait=60)
    await connect("third")
    sealed = (tables.collections, tables.documents, tables.document_versions, tables.chunks, tables.embeddings)

    for tenant_id in (new_id(), None):
        async with resources.primary.begin(tenant_id) as connection:
            for table in sealed:
                count = (await connection.execute(select(func.count()).select_from(table))).scalar_one()
                assert count == 0, table.name
