"""Every write says where it ended; what a replica may answer takes that; without a replica nothing else changes."""

import httpx
import pytest
from fastapi import FastAPI

from service.domain.commits import CommitToken
from tests.api_calls import Api

TOKEN = "X-Commit-Token"
READS_BY_POST = {"search", "search_batch", "recommend"}
FROM_A_REPLICA = {*READS_BY_POST, "find_similar", "list_documents"}

pytestmark = pytest.mark.usefixtures("worker")


def test_the_document_of_the_api_tells_of_tokens_out_and_in(app: FastAPI) -> None:
    operations = [(method, operation) for path in app.openapi()["paths"].values() for method, operation in path.items()]
    taken = {
        operation["operationId"]
        for _, operation in operations
        if {"$ref": f"#/components/parameters/{TOKEN}"} in operation["parameters"]
    }
    silent = {
        operation["operationId"]
        for method, operation in operations
        if method != "get" and operation["operationId"] not in READS_BY_POST
        for status, answer in operation["responses"].items()
        if status.startswith("2") and TOKEN not in answer["headers"]
    }

    assert taken == FROM_A_REPLICA
    assert silent == set()


async def test_each_write_has_a_token_that_lies_behind_that_of_the_one_before(api: Api) -> None:
    under = "/v1/collections/tokens"
    any_version = {"If-Match": "*"}
    made = await api.client.post("/v1/collections", json={"name": "tokens"})
    declared = await api.client.patch(under, json={"attributes": {"year": "integer"}})
    accepted = await api.client.post(f"{under}/documents", json={"external_id": "a", "text": "bear"})
    finished = await api.client.put(f"{under}/documents/b?wait=30", json={"text": "bear"})
    of_a_file = await api.client.put(f"{under}/documents/c?wait=30", content=b"%PDF-1.4 broken")
    changed = await api.client.patch(f"{under}/documents/b", json={"title": "B"}, headers=any_version)
    many = await api.client.post(
        f"{under}/documents:batch", content=b'{"text": "fox"}\n', headers={"Content-Type": "application/x-ndjson"}
    )
    broken = (await api.client.get(f"{under}/documents/c")).json()
    retried = await api.client.post(f"/v1/documents/{broken['id']}:retry")
    by_id = await api.client.patch(f"/v1/documents/{broken['id']}", json={"title": "C"}, headers=any_version)
    gone = await api.client.delete(f"{under}/documents/a", headers=any_version)
    all_gone = await api.client.delete(under)
    answers = [made, declared, accepted, finished, of_a_file, changed, many, retried, by_id, gone, all_gone]
    tokens = [CommitToken.parse(answer.headers[TOKEN]) for answer in answers]

    assert [answer.status_code for answer in answers] == [201, 200, 202, 201, 201, 200, 200, 202, 200, 204, 204]
    assert len({token.system for token in tokens}) == 1
    assert [token.position for token in tokens] == sorted({token.position for token in tokens})


async def test_where_there_is_no_replica_a_token_changes_nothing(api: Api, collection: str) -> None:
    written = await api.post(collection, {"text": "A bear growls."}, wait=30)

    async def ask(token: str) -> httpx.Response:
        path = f"/v1/collections/{collection}/search"
        return await api.client.post(path, json={"query": "bear"}, headers={TOKEN: token})

    found, refused = await ask(written.headers[TOKEN]), await ask("mine")

    assert len(found.json()["hits"]) == 1
    assert "X-Read-From" not in found.headers
    assert (refused.status_code, refused.json()["code"]) == (400, "malformed")
