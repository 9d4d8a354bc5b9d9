"""Walking through the hits page by page, while others write."""

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest

from service.domain.errors import CursorMismatchError, MalformedError
from service.domain.hits import Hit, Tally
from service.domain.queries import Rearrangement
from service.rerankers.overlap import OverlapReranker
from service.resources import Resources
from tests.api_calls import Api, code
from tests.search_calls import Library, directions, library, settle, working

QUESTION = "bear otter"
NEAR, *VECTORS = directions(121, seed=8)
WALKS = 100 if os.environ.get("THOROUGH") else 15


def text(n: int) -> str:
    return f"The {'bear' if n % 2 else 'wolf'} met an {'otter ' * (1 + n % 4)} on day {n}."


@pytest.fixture(scope="module")
async def zoo(api: Api, resources: Resources) -> Library:
    pairs = enumerate(VECTORS)
    return await library(
        api, resources, [{"text": text(n), "vector": v.tolist(), "attributes": {"n": n}} for n, v in pairs]
    )


async def walk(zoo: Library, question: str = QUESTION, **fields: Any) -> AsyncIterator[tuple[Hit, ...]]:
    cursor = None
    while True:
        found = await zoo.ask(question, cursor=cursor, **fields)
        yield found.hits
        cursor = found.next_cursor
        if cursor is None:
            return


async def walked(zoo: Library, **fields: Any) -> list[Hit]:
    return [hit async for page in walk(zoo, **fields) for hit in page]


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"method": "rrf", "explain": True},
        {"mode": "lexical"},
        {"mode": "semantic", "explain": True},
        {"window": 30},
        {"filter": {"attributes.n": {"$gte": 60}}},
        {"score_threshold": 0.3, "explain": True},
    ],
    ids=str,
)
async def test_pages_are_the_parts_of_one_list(zoo: Library, fields: dict[str, Any], *, grouped: bool) -> None:
    whole = await zoo.ask(QUESTION, vector=NEAR, limit=100, grouped=grouped, **fields)
    pages = [page async for page in walk(zoo, vector=NEAR, limit=7, grouped=grouped, **fields)]

    together = [hit for page in pages for hit in page]
    assert tuple(together[:100]) == whole.hits
    assert {len(page) for page in pages[:-1]} == {7}
    assert len(pages) > 3
    assert len({hit.chunks[0].chunk_id for hit in together}) == len(together)


async def test_the_size_of_a_page_may_change_on_the_way(zoo: Library) -> None:
    first = await zoo.ask(QUESTION, vector=NEAR, limit=3)
    second = await zoo.ask(QUESTION, vector=NEAR, limit=20, cursor=first.next_cursor)

    assert first.hits + second.hits == (await zoo.ask(QUESTION, vector=NEAR, limit=23)).hits


@pytest.mark.parametrize("rerank", [True, False])
async def test_rearranged_pages_are_the_parts_of_one_list_too(zoo: Library, *, rerank: bool) -> None:
    asked = Rearrangement(top_n=12, rerank=rerank, diversity=0.5)
    fields: dict[str, Any] = {"vector": NEAR, "rearranged": asked, "explain": True}
    zoo = zoo.having(reranker=OverlapReranker())
    whole = await zoo.ask(QUESTION, limit=100, **fields)
    together = await walked(zoo, limit=7, **fields)

    assert (await zoo.ask(QUESTION, limit=7, **fields)).hits == whole.hits[:7]
    assert tuple(together[:100]) == whole.hits
    assert len({hit.document_id for hit in together}) == len(together) > 100


async def test_the_end_of_the_list_has_no_cursor(zoo: Library) -> None:
    assert (await zoo.ask(QUESTION, vector=NEAR, limit=100, window=10)).next_cursor is None
    assert (await zoo.ask("unheard", mode="lexical")).next_cursor is None


async def test_several_chunks_of_a_document_stay_one_hit(api: Api, resources: Resources) -> None:
    long = [" ".join(f"Day {n * day} of the bear and the otter." for day in range(150)) for n in range(1, 9)]
    den = await library(api, resources, [{"text": each} for each in long])

    whole = await den.ask(QUESTION, limit=8, chunks_per_document=2)
    pages = await walked(den, limit=3, chunks_per_document=2)

    assert tuple(pages) == whole.hits
    assert {len(hit.chunks) for hit in pages} == {2}


async def test_a_cursor_of_another_search_is_refused(zoo: Library, other_api: Api, resources: Resources) -> None:
    cursor = (await zoo.ask(QUESTION, vector=NEAR)).next_cursor
    others: list[dict[str, Any]] = [
        {"question": "wolf"},
        {"mode": "lexical"},
        {"filter": {"attributes.n": 1}},
        {"alpha": 0.5},
        {"window": 100},
        {"grouped": False},
        {"chunks_per_document": 1},
        {"score_threshold": 0.1},
        {"explain": True},
        {"vector": VECTORS[0]},
    ]

    for other in others:
        with pytest.raises(CursorMismatchError):
            await zoo.ask(**{"question": QUESTION, "vector": NEAR, "cursor": cursor, **other})
    foreign = await library(other_api, resources, [{"text": "bear"}])
    with pytest.raises(CursorMismatchError):
        await foreign.ask(QUESTION, vector=NEAR, cursor=cursor)


async def test_a_cursor_that_was_tampered_with_is_refused(zoo: Library) -> None:
    cursor = (await zoo.ask(QUESTION, vector=NEAR)).next_cursor
    assert cursor is not None
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    far = raw[:17] + b"\xff" * 4 + raw[21:]
    for wrong in ("", "x", "%%%", cursor[:40], cursor[:-5], cursor + "AAAA", base64.urlsafe_b64encode(far).decode()):
        with pytest.raises(MalformedError):
            await zoo.ask(QUESTION, vector=NEAR, cursor=wrong)


async def test_a_cursor_shows_nothing_of_another_collection(zoo: Library, other_api: Api, resources: Resources) -> None:
    """Its ids are the client's to change: they find only what the search may see."""
    foreign = await library(other_api, resources, [{"text": "bear", "vector": NEAR.tolist()}] * 12)
    page = await foreign.ask(QUESTION, vector=NEAR, limit=2)
    mine = await zoo.ask(QUESTION, vector=NEAR, limit=2)
    assert page.next_cursor is not None
    assert mine.next_cursor is not None
    theirs, ours = (base64.urlsafe_b64decode(c + "=" * (-len(c) % 4)) for c in (page.next_cursor, mine.next_cursor))
    forged = base64.urlsafe_b64encode(ours[:16] + theirs[16:]).rstrip(b"=").decode()

    assert (await zoo.ask(QUESTION, vector=NEAR, limit=10, cursor=forged)).hits == ()


async def test_what_is_deleted_or_changed_out_of_the_filter_is_left_out(api: Api, resources: Resources) -> None:
    documents = [{"text": text(n), "vector": v.tolist(), "attributes": {"n": n}} for n, v in enumerate(VECTORS[:20])]
    den = await library(api, resources, documents)
    condition = {"attributes.n": {"$gte": 0}}
    first = await den.ask(QUESTION, vector=NEAR, limit=5, filter=condition)
    rest = (await den.ask(QUESTION, vector=NEAR, limit=20, filter=condition)).hits[5:]
    gone, changed = rest[0].document_id, rest[1].document_id
    stay = [hit.document_id for hit in rest[2:]]

    deleted = await api.client.delete(f"/v1/documents/{gone}", headers={"If-Match": "*"})
    patched = await api.client.patch(
        f"/v1/documents/{changed}", json={"attributes": {"n": -1}}, headers={"If-Match": "*"}
    )
    await settle(api, resources, den.collection.name)
    second = await den.ask(QUESTION, vector=NEAR, limit=20, filter=condition, cursor=first.next_cursor)

    assert (deleted.status_code, patched.status_code) == (204, 200)
    assert [hit.document_id for hit in second.hits] == stay


async def test_who_walks_while_others_write_meets_every_untouched_document_once(api: Api, resources: Resources) -> None:
    random = Random(4)  # noqa: S311  repeatable, not secret
    documents = [
        {"text": text(n), "vector": v.tolist(), "external_id": f"kept-{n}"} for n, v in enumerate(VECTORS[:100])
    ]
    den = await library(api, resources, documents)
    kept = {f"kept-{n}" for n in range(100)}
    ways: list[dict[str, Any]] = [{}, {"method": "rrf"}, {"mode": "semantic"}, {"alpha": 0.2}]
    stop = asyncio.Event()

    async def write() -> None:
        for n in range(10_000):
            if stop.is_set():
                return
            body = {"text": text(n) * random.randint(1, 3), "vector": VECTORS[n % 120].tolist()}
            await api.client.put(f"/v1/collections/{den.collection.name}/documents/new-{n % 40}", json=body)
            if n % 3 == 0:
                path = f"/v1/collections/{den.collection.name}/documents/new-{random.randrange(40)}"
                await api.client.delete(path, headers={"If-Match": "*"})

    async with working(resources), asyncio.TaskGroup() as group:
        group.create_task(write())
        try:
            for number in range(WALKS):
                fields = ways[number % len(ways)]
                hits = [hit.external_id async for page in walk(den, vector=NEAR, limit=12, **fields) for hit in page]
                met = [name for name in hits if name in kept]
                assert len(met) == len(set(met))
                assert set(met) == kept
                assert len(hits) == len(set(hits))
        finally:
            stop.set()


async def test_on_the_wire(api: Api, zoo: Library) -> None:
    path = f"/v1/collections/{zoo.collection.name}/search"
    body: dict[str, Any] = {"query": QUESTION, "limit": 100, "include": ["count", "explain"], "score_threshold": 0}
    first = await api.client.post(path, json={**body, "limit": 50})
    second = await api.client.post(path, json={**body, "cursor": first.json()["next_cursor"]})
    other = await api.client.post(path, json={"query": QUESTION, "cursor": first.json()["next_cursor"]})
    broken = await api.client.post(path, json={**body, "cursor": "x"})

    chunk = second.json()["hits"][0]["chunks"][0]
    assert set(chunk["explain"]) == {"lexical", "semantic"}
    assert set(chunk["explain"]["lexical"]) == {"rank", "score", "contribution"}
    assert first.headers["server-timing"].startswith("embedding;dur=")
    assert {part.split(";")[0].strip() for part in second.headers["server-timing"].split(",")} >= {"statement", "total"}
    assert code(other) == (400, "cursor_mismatch")
    assert code(broken) == (400, "malformed")


async def test_facets_and_counts_are_of_the_whole_list_on_every_page(zoo: Library) -> None:
    fields: dict[str, Any] = {"vector": NEAR, "limit": 10, "count": True, "facets": ("attributes.n",), "window": 20}
    first = await zoo.ask(QUESTION, **fields)
    second = await zoo.ask(QUESTION, cursor=first.next_cursor, **fields)

    assert first.count == second.count == Tally(len(await walked(zoo, **fields)), "eq", "window")
    assert first.facets == second.facets
    assert first.facets is not None
    assert sum(value.count for value in first.facets["attributes.n"].values) == first.count.value
