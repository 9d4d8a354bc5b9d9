import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.api_calls import Api, code, path
from tests.worker_calls import until


async def test_of_sixteen_patches_of_one_version_one_wins(api: Api, collection: str) -> None:
    document = await api.make_document(collection)

    answers = await asyncio.gather(*(api.patch(document, {"title": str(n)}) for n in range(16)))

    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 15
    winner = next(answer.json() for answer in answers if answer.status_code == 200)
    assert await api.get(document) == winner
    assert winner["version"] == 2


@pytest.mark.usefixtures("worker")
async def test_of_sixteen_patches_of_an_indexed_version_one_wins(api: Api, collection: str) -> None:
    document = await api.make_document(collection, wait=60)

    answers = await asyncio.gather(*(api.patch(document, {"tags": [str(n)]}) for n in range(16)))

    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 15
    assert (await api.get(document))["version"] == 2


async def test_unconditional_patches_all_count(api: Api, collection: str) -> None:
    document = await api.make_document(collection)

    changes = [{"attributes": {f"key {n}": n}} for n in range(16)]
    answers = await asyncio.gather(*(api.patch(document, change, if_match="*") for change in changes))

    assert sorted(answer.json()["version"] for answer in answers) == list(range(2, 18))
    found = await api.get(document)
    assert found["attributes"] == {f"key {n}": n for n in range(16)}


async def test_concurrent_puts_to_a_new_name_make_one_document_with_every_version(api: Api, collection: str) -> None:
    answers = await asyncio.gather(*(api.put(collection, "x", {"text": str(n)}) for n in range(16)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert (await api.client.get(path(collection, "x"))).json()["version"] == 16
    assert (await api.status(collection))["documents"]["pending"] == 1


async def test_concurrent_puts_that_must_create_make_it_once(api: Api, collection: str) -> None:
    create = {"If-None-Match": "*"}
    answers = await asyncio.gather(*(api.put(collection, "x", {"text": "t"}, headers=create) for _ in range(16)))

    assert sorted(answer.status_code for answer in answers) == [202] + [412] * 15


async def test_concurrent_posts_of_a_name_make_it_once(api: Api, collection: str) -> None:
    answers = await asyncio.gather(*(api.post(collection, {"external_id": "x", "text": str(n)}) for n in range(16)))

    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 15
    assert {code(answer) for answer in answers if answer.status_code == 409} == {(409, "document_exists")}


async def test_files_that_lose_a_race_leave_no_blob(
    api: Api, collection: str, count_blobs: Callable[[], Awaitable[int]]
) -> None:
    before, url = await count_blobs(), f"/v1/collections/{collection}/documents"

    def post(n: int) -> Awaitable[httpx.Response]:
        return api.client.post(url, params={"external_id": "x", "filename": "a.txt"}, content=b"%d" % n)

    answers = await asyncio.gather(*(post(n) for n in range(8)))

    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 7
    assert await count_blobs() == before + 1


async def test_the_same_file_put_at_once_is_kept_once(
    api: Api, collection: str, count_blobs: Callable[[], Awaitable[int]]
) -> None:
    before = await count_blobs()

    answers = await asyncio.gather(*(api.client.put(path(collection, "x"), content=b"same") for _ in range(8)))

    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [202]
    assert await count_blobs() == before + 1


async def test_concurrent_deletes_delete_once(api: Api, collection: str) -> None:
    document = await api.make_document(collection)

    answers = await asyncio.gather(*(api.delete(document) for _ in range(16)))

    assert sorted(answer.status_code for answer in answers) == [204] + [404] * 15


async def test_batches_over_the_same_names_in_any_order_all_succeed(api: Api, collection: str) -> None:
    for turn in range(25):  # A fifth of them ends in a deadlock where names are inserted in the order of the lines.
        names = [f"{turn} {n} {'x' * 400}" for n in range(100)]
        batches = [[{"external_id": name, "text": "t"} for name in order] for order in (names, names[::-1]) * 2]
        answers = await asyncio.gather(*(api.batch(collection, batch) for batch in batches))
        assert {answer["status"] for batch in answers for answer in batch} <= {200, 202}

    assert (await api.status(collection))["documents"]["pending"] == 2_500


@pytest.mark.usefixtures("worker")
async def test_writers_and_the_worker_wait_for_each_other(api: Api, collection: str) -> None:
    names = [str(n) for n in range(60)]
    for turn in range(4):
        batch = [{"external_id": name, "text": f"Text {turn} of {name}."} for name in names[:: 1 if turn % 2 else -1]]
        answers = await api.batch(collection, batch)
        assert {answer["status"] for answer in answers} == {202}

    async def settled() -> bool:
        return bool((await api.status(collection))["settled"])

    await until(settled)
    status = await api.status(collection)
    assert status["documents"] == {"pending": 0, "processing": 0, "indexed": 60, "failed": 0}
    assert status["jobs"] == {"queued": 0, "running": 0, "dead": 0}


@pytest.mark.usefixtures("worker")
async def test_a_name_that_comes_and_goes_never_breaks_a_put(api: Api, collection: str) -> None:
    async def put(n: int) -> int:
        return (await api.put(collection, "x", {"text": f"{n}"})).status_code

    async def delete() -> int:
        return (await api.client.delete(path(collection, "x"), headers={"If-Match": "*"})).status_code

    answers = await asyncio.gather(*(put(n) if n % 2 else delete() for n in range(40)))

    assert set(answers) <= {202, 204, 404, 503}
    assert answers.count(503) == 0
