import json
from typing import Any

import pytest

from tests.api_calls import Api, code, path
from tests.worker_calls import until

NDJSON = {"Content-Type": "application/x-ndjson"}


async def test_each_line_has_the_status_that_it_alone_would_have_had(api: Api, collection: str) -> None:
    await api.put(collection, "same", {"text": "s", "tags": ["a"]})
    await api.put(collection, "other", {"text": "o"})

    answers = await api.batch(
        collection,
        [
            {"text": "new"},
            {"external_id": "new", "text": "n"},
            {"external_id": "same", "text": "s", "tags": ["a"]},
            {"external_id": "other", "text": "changed"},
            {"text": ""},
            b"{not json",
            b"\xff\xfe",
            [],
            {"text": "x", "unknown": 1},
            {"text": "x", "language": "klingon"},
            {"text": "x", "language": "german"},
            {"text": "x" * (10 * 1024 * 1024 + 1)},
            {"text": "last"},
        ],
    )

    statuses = [202, 202, 200, 202, 422, 400, 400, 422, 422, 422, 202, 413, 202]
    assert [answer["status"] for answer in answers] == statuses
    assert [answer["line"] for answer in answers] == list(range(1, 14))
    for answer in answers:
        assert set(answer) == {"line", "status", "id" if answer["status"] < 300 else "problem"}
        if "problem" in answer:
            assert answer["problem"]["status"] == answer["status"]
    assert (await api.status(collection))["documents"]["pending"] == 6
    assert (await api.client.get(path(collection, "other"))).json()["version"] == 2
    assert (await api.client.get(f"/v1/documents/{answers[-1]['id']}/content")).text == "last"


async def test_a_repeated_external_id_is_applied_in_order(api: Api, collection: str) -> None:
    lines = [{"external_id": "x", "text": text} for text in ("one", "two", "two", "three")]

    answers = await api.batch(collection, lines)

    assert [answer["status"] for answer in answers] == [202, 202, 200, 202]
    assert len({answer["id"] for answer in answers}) == 1
    document = (await api.client.get(path(collection, "x"))).json()
    assert document["version"] == 3
    assert (await api.client.get(f"/v1/documents/{document['id']}/content")).text == "three"


async def test_blank_lines_count_and_have_no_answer(api: Api, collection: str) -> None:
    body = b'\n{"text": "a"}\r\n\n   \n{"text": "b"}\n'
    url = f"/v1/collections/{collection}/documents:batch"

    answer = await api.client.post(url, content=body, headers=NDJSON)

    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["line"] for line in answer.content.splitlines()] == [2, 5]
    assert (await api.client.post(url, content=b"", headers=NDJSON)).content == b""


async def test_a_thousand_lines_are_taken_and_one_more_is_not(api: Api, collection: str) -> None:
    lines = [json.dumps({"external_id": str(n), "text": f"text {n}"}).encode() for n in range(1_001)]
    url = f"/v1/collections/{collection}/documents:batch"

    refused = await api.client.post(url, content=b"\n".join(lines), headers=NDJSON)
    assert code(refused) == (413, "too_large")
    assert (await api.status(collection))["documents"]["pending"] == 0

    for status in (202, 200):
        answers = await api.batch(collection, lines[:1_000])
        assert [answer["status"] for answer in answers] == [status] * 1_000
    assert (await api.status(collection))["documents"]["pending"] == 1_000


async def test_a_batch_has_at_most_32_megabytes(api: Api, collection: str) -> None:
    url = f"/v1/collections/{collection}/documents:batch"

    answer = await api.client.post(url, content=b" " * (32 * 1024 * 1024 + 1), headers=NDJSON)

    assert code(answer) == (413, "too_large")


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "multipart/form-data", None])
async def test_a_batch_is_ndjson(api: Api, collection: str, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    url = f"/v1/collections/{collection}/documents:batch"

    assert code(await api.client.post(url, content=b"{}", headers=headers)) == (415, "unsupported_media_type")


async def test_a_batch_needs_its_collection(api: Api) -> None:
    answer = await api.client.post("/v1/collections/nowhere/documents:batch", content=b"{}", headers=NDJSON)

    assert code(answer) == (404, "not_found")


@pytest.mark.usefixtures("worker")
async def test_a_batch_is_indexed_like_any_other_document(api: Api, collection: str) -> None:

    await api.batch(
        collection, [{"external_id": str(n), "text": f"Foxes number {n}.", "title": "t"} for n in range(150)]
    )

    async def settled() -> bool:
        return bool((await api.status(collection))["settled"])

    await until(settled)
    status = await api.status(collection)
    assert status["documents"] == {"pending": 0, "processing": 0, "indexed": 150, "failed": 0}


async def test_every_field_of_a_line_is_kept(api: Api, collection: str) -> None:
    line: dict[str, Any] = {
        "external_id": "x",
        "text": "t",
        "title": "Titel",
        "source": "s",
        "tags": ["b", "a"],
        "published_at": "2024-05-01T10:00:00Z",
        "attributes": {"a": [1, {"b": None}]},
        "language": "german",
        "vector": [0.5] * 384,
    }
    await api.batch(collection, [line])

    document = (await api.client.get(path(collection, "x"))).json()

    assert {name: document[name] for name in line if name not in {"text", "vector"}} == {
        name: value for name, value in line.items() if name not in {"text", "vector"}
    }
    assert (await api.batch(collection, [line]))[0]["status"] == 200
