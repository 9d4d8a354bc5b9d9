import base64
from typing import Any

import pytest

from tests.api_calls import Api, code, fields


async def pages(api: Api, url: str, name: str, **params: str) -> list[list[dict[str, Any]]]:
    found: list[list[dict[str, Any]]] = []
    cursor = None
    while True:
        answer = await api.client.get(url, params=params | ({"cursor": cursor} if cursor else {}))
        assert answer.status_code == 200, answer.text
        assert set(answer.json()) == {name, "next_cursor"}
        found.append(answer.json()[name])
        if (cursor := answer.json()["next_cursor"]) is None:
            return found


async def test_documents_are_listed_newest_first_page_by_page(api: Api, collection: str) -> None:
    made = [(await api.make_document(collection))["id"] for _ in range(7)]
    url = f"/v1/collections/{collection}/documents"

    found = await pages(api, url, "documents", limit="3")

    assert [len(page) for page in found] == [3, 3, 1]
    assert [each["id"] for page in found for each in page] == made[::-1]
    assert found[0][0] == (await api.client.get(f"/v1/documents/{made[-1]}")).json()


async def test_a_page_that_ends_exactly_has_no_next(api: Api, collection: str) -> None:
    for _ in range(2):
        await api.make_document(collection)

    assert len(await pages(api, f"/v1/collections/{collection}/documents", "documents", limit="2")) == 1


async def test_twenty_are_a_page(api: Api, collection: str) -> None:
    await api.batch(collection, [{"text": str(n)} for n in range(25)])

    found = await pages(api, f"/v1/collections/{collection}/documents", "documents")

    assert [len(page) for page in found] == [20, 5]


async def test_a_document_added_between_two_pages_moves_nothing(api: Api, collection: str) -> None:
    made = [(await api.make_document(collection))["id"] for _ in range(4)]
    url = f"/v1/collections/{collection}/documents"
    first = (await api.client.get(url, params={"limit": 2})).json()

    await api.make_document(collection)

    second = (await api.client.get(url, params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [each["id"] for each in second["documents"]] == made[1::-1]


@pytest.mark.usefixtures("worker")
async def test_a_status_narrows_the_list_to_the_newest_versions_that_have_it(api: Api, collection: str) -> None:
    indexed = await api.make_document(collection, wait=60)
    failed = await api.make_file(collection, b"", wait=60)
    url = f"/v1/collections/{collection}/documents"

    for status, expected in (("indexed", [indexed]), ("failed", [failed]), ("pending", []), ("processing", [])):
        found = (await api.client.get(url, params={"status": status})).json()["documents"]
        assert [each["id"] for each in found] == [each["id"] for each in expected]


async def test_pending_documents_are_listed_as_such(api: Api, collection: str) -> None:
    await api.put(collection, "x", {"text": "one"})
    document = (await api.put(collection, "x", {"text": "two"})).json()
    url = f"/v1/collections/{collection}/documents"

    assert (await api.client.get(url, params={"status": "pending"})).json()["documents"] == [document]
    assert (await api.client.get(url, params={"status": "indexed"})).json()["documents"] == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "101"),
        ("limit", "x"),
        ("limit", "1.5"),
        ("status", "done"),
        ("status", ""),
        ("page", "2"),
    ],
)
async def test_list_parameters_are_checked_by_name(api: Api, collection: str, name: str, value: str) -> None:
    assert fields(await api.client.get(f"/v1/collections/{collection}/documents", params={name: value})) == [name]


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "",
        "!!",
        "e30",
        "é",
        base64.urlsafe_b64encode(b'["a"]').decode(),
        base64.urlsafe_b64encode(b"[1, 2]").decode(),
    ],
)
async def test_what_is_no_cursor_is_malformed(api: Api, collection: str, cursor: str) -> None:
    answer = await api.client.get(f"/v1/collections/{collection}/documents", params={"cursor": cursor})

    assert code(answer) == (400, "malformed")


async def test_a_cursor_continues_its_own_list_only(api: Api, collection: str) -> None:
    other = await api.make_collection()
    for name in (collection, other):
        await api.batch(name, [{"text": str(n)} for n in range(3)])
    url = f"/v1/collections/{collection}/documents"
    cursor = (await api.client.get(url, params={"limit": 1})).json()["next_cursor"]

    foreign = [
        (f"/v1/collections/{other}/documents", {}),
        (url, {"status": "pending"}),
        ("/v1/collections", {}),
    ]
    for address, params in foreign:
        answer = await api.client.get(address, params=params | {"cursor": cursor})
        assert code(answer) == (400, "cursor_mismatch")
    assert (await api.client.get(url, params={"limit": 2, "cursor": cursor})).status_code == 200


@pytest.mark.usefixtures("worker")
async def test_chunks_are_listed_in_order_with_their_ranges(api: Api, collection: str) -> None:
    text = " ".join(f"Sentence number {n} of this 🙂 document is here." for n in range(400))
    document = await api.make_document(collection, text=text, wait=20)
    url = f"/v1/documents/{document['id']}/chunks"

    found = [each for page in await pages(api, url, "chunks", limit="3") for each in page]

    assert len(found) == document["chunk_count"] > 6
    assert [each["ordinal"] for each in found] == sorted(each["ordinal"] for each in found)
    for each in found:
        assert set(each) == {"chunk_id", "ordinal", "text", "char_start", "char_end", "page"}
        assert text[each["char_start"] : each["char_end"]] == each["text"]
        assert each["page"] is None


async def test_a_document_that_is_not_indexed_has_no_chunks(api: Api, collection: str) -> None:
    document = await api.make_document(collection)

    answer = await api.client.get(f"/v1/documents/{document['id']}/chunks")

    assert answer.json() == {"chunks": [], "next_cursor": None}


@pytest.mark.usefixtures("worker")
async def test_a_cursor_over_chunks_ends_with_their_version(api: Api, collection: str) -> None:
    text = "A sentence of some words. " * 400
    document = (await api.put(collection, "x", {"text": text}, wait=20)).json()
    url = f"/v1/documents/{document['id']}/chunks"
    cursor = (await api.client.get(url, params={"limit": 1})).json()["next_cursor"]

    await api.put(collection, "x", {"text": text + "More."}, wait=20)

    assert code(await api.client.get(url, params={"cursor": cursor})) == (400, "cursor_mismatch")
