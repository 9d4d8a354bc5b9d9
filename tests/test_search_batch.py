"""POST /v1/collections/{name}/search:batch."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import httpx
import pytest
from fastapi import FastAPI

from service.db.read_pool import Reader, Row
from service.db.retrieval import Statement
from service.domain.errors import OverloadedError, UnavailableError
from service.resources import Resources
from service.search.lane import WAITING, Lane
from service.telemetry.loads import PoolLoad
from tests.api_calls import Api, Json, code, fields
from tests.search_calls import fill, searching
from tests.worker_calls import until

WORDS = ("bear", "heron", "otter", "falcon", "badger")


@pytest.fixture(scope="module")
async def zoo(api: Api, resources: Resources) -> str:
    name = await api.make_collection("zoo")
    texts = [f"The {one} watches the {other}." for one in WORDS for other in WORDS]
    await fill(api, resources, name, [{"external_id": str(n), "text": text} for n, text in enumerate(texts)])
    return name


async def post(api: Api, collection: str, searches: object, **also: Any) -> httpx.Response:
    return await api.client.post(f"/v1/collections/{collection}/search:batch", json={"searches": searches, **also})


async def results(api: Api, collection: str, searches: Sequence[object]) -> list[Json]:
    response = await post(api, collection, searches)
    assert response.status_code == 200, response.text
    assert set(response.json()) == {"results"}
    found: list[Json] = response.json()["results"]
    assert len(found) == len(searches)
    return found


def without_time(answer: Json) -> Json:
    return {name: value for name, value in answer.items() if name != "took_ms"}


SEARCHES: list[Json] = [
    *({"query": word, "limit": 3} for word in WORDS),
    {"query": "bear heron", "mode": "lexical", "chunks_per_document": 1},
    {"query": "otter", "mode": "semantic", "filter": {"external_id": {"$in": ["1", "2", "3"]}}},
    {"query": '"the bear watches" -otter', "limit": 2},
    {"query": "falcon", "group_by": None, "fusion": {"method": "rrf"}},
]


async def test_each_search_gets_what_it_would_get_alone_in_order(api: Api, zoo: str) -> None:
    alone = [await api.client.post(f"/v1/collections/{zoo}/search", json=each) for each in SEARCHES]

    found = await results(api, zoo, SEARCHES)

    assert [each["status"] for each in found] == [200] * len(SEARCHES)
    for one, other in zip(found, alone, strict=True):
        assert without_time(one) == without_time({"status": 200, **other.json()})
        assert one["took_ms"] > 0


async def test_a_cursor_of_a_batch_continues_alone_and_the_other_way_round(api: Api, zoo: str) -> None:
    wanted = {"query": "bear", "limit": 2}
    (first,) = await results(api, zoo, [wanted])
    assert first["next_cursor"]

    second = (
        await api.client.post(f"/v1/collections/{zoo}/search", json={**wanted, "cursor": first["next_cursor"]})
    ).json()
    (again,) = await results(api, zoo, [{**wanted, "cursor": first["next_cursor"]}])

    assert without_time(again) == without_time({"status": 200, **second})
    ids = [hit["document_id"] for page in (first, second) for hit in page["hits"]]
    assert len(set(ids)) == 4


async def test_a_bad_search_has_its_own_problem_and_the_others_run(api: Api, zoo: str) -> None:
    good = {"query": "bear"}
    bad: list[Any] = [{"query": ""}, {"query": "x", "limit": 0}, {"query": "x", "color": 1}, 5, None, [], {}]
    bad += [{"query": "x", "filter": {"color": 1}}, {"query": "x", "vector": [1.0]}, {"query": "x", "cursor": "x"}]
    alone = [
        await api.client.post(f"/v1/collections/{zoo}/search", json=each) for each in bad if isinstance(each, dict)
    ]

    found = await results(api, zoo, [good, *bad, good])

    assert [found[0]["status"], found[-1]["status"]] == [200, 200]
    refused = found[1:-1]
    assert all(set(each) == {"status", "problem"} for each in refused)
    assert [each["status"] for each in refused] == [422] * (len(bad) - 1) + [400]
    assert all(each["problem"]["status"] == each["status"] for each in refused)
    problems = [each["problem"] for each, body in zip(refused, bad, strict=True) if isinstance(body, dict)]
    for problem, answer in zip(problems, alone, strict=True):
        expected = answer.json()
        assert (problem["code"], problem.get("errors")) == (expected["code"], expected.get("errors"))


async def test_a_problem_carries_the_id_of_the_request(api: Api, zoo: str) -> None:
    response = await post(api, zoo, [{}])

    assert response.json()["results"][0]["problem"]["request_id"] == response.headers["x-request-id"]


async def test_a_hundred_are_taken_and_no_more(api: Api, zoo: str) -> None:
    search = {"query": "bear", "limit": 1}

    found = await results(api, zoo, [search] * 100)

    assert {each["status"] for each in found} == {200}
    assert len({each["hits"][0]["document_id"] for each in found}) == 1
    assert fields(await post(api, zoo, [search] * 101)) == ["searches"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "searches"),
        ({"searches": []}, "searches"),
        ({"searches": {}}, "searches"),
        ({"searches": None}, "searches"),
    ],
    ids=str,
)
async def test_a_batch_is_a_list(api: Api, zoo: str, body: Json, field: str) -> None:
    assert fields(await api.client.post(f"/v1/collections/{zoo}/search:batch", json=body)) == [field]
    assert fields(await post(api, zoo, [{"query": "x"}], limit=5)) == ["limit"]


async def test_an_unknown_collection_is_not_found(api: Api, other_api: Api, zoo: str) -> None:
    for caller, name in ((api, "unknown"), (other_api, zoo), (api, "UPPER")):
        assert code(await post(caller, name, [{"query": "bear"}])) == (404, "not_found")


async def test_a_collection_made_anew_is_found_at_once(api: Api, resources: Resources) -> None:
    name = await api.make_collection("phoenix")
    await fill(api, resources, name, [{"text": "old bear"}])
    assert len((await results(api, name, [{"query": "bear"}]))[0]["hits"]) == 1

    await api.client.delete(f"/v1/collections/{name}")
    assert code(await post(api, name, [{"query": "bear"}] * 3)) == (404, "not_found")
    await api.make_collection(name)
    assert [each["hits"] for each in await results(api, name, [{"query": "bear"}] * 3)] == [[], [], []]


async def test_many_batches_at_once_are_answered(api: Api, zoo: str) -> None:
    answers = await asyncio.gather(*(results(api, zoo, SEARCHES * 10) for _ in range(8)))

    assert {each["status"] for found in answers for each in found} == {200}
    first = [each["hits"] for each in answers[0]]
    assert all([each["hits"] for each in found] == first for found in answers)


@dataclass
class Slow:
    """A reader that takes its time and counts who is inside."""

    reader: Reader
    seconds: float
    inside: int = 0
    most: int = 0
    asked: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)
    driver: Literal["psqlpy", "asyncpg"] = "psqlpy"

    async def fetch(
        self, statement: Statement, values: Mapping[str, object], *, settings: Mapping[str, str]
    ) -> Sequence[Row]:
        self.asked += 1
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await asyncio.sleep(self.seconds)
            await self.open.wait()
            return await self.reader.fetch(statement, values, settings=settings)
        finally:
            self.inside -= 1

    def loads(self) -> Mapping[str, PoolLoad]:
        return self.reader.loads()

    async def close(self) -> None:
        await self.reader.close()


@pytest.fixture
async def slow(app: FastAPI, resources: Resources) -> AsyncIterator[Slow]:
    """Every search of the service takes a while."""
    desk, lane = app.state.search_desk, app.state.search_lane
    reader = Slow(resources.reader, 0.03)
    reader.open.set()
    tools = replace(desk.tools, reader=reader)
    app.state.search_desk = replace(desk, tools=tools)
    app.state.search_lane = Lane(tools, pool_size=resources.settings.search_pool_size)
    yield reader
    app.state.search_desk, app.state.search_lane = desk, lane


async def test_batches_leave_half_of_the_connections_to_others(
    api: Api, resources: Resources, zoo: str, slow: Slow
) -> None:
    half = resources.settings.search_pool_size // 2
    batches = asyncio.gather(*(results(api, zoo, [{"query": word} for word in WORDS] * 8) for _ in range(4)))

    async def at_work() -> bool:
        return slow.inside == half

    await until(at_work)
    before = slow.asked
    single = await api.client.post(f"/v1/collections/{zoo}/search", json={"query": "bear"})
    meanwhile, most = slow.asked - before - 1, slow.most
    assert not batches.done()
    await batches

    assert single.status_code == 200
    assert most in (half, half + 1)  # with the single one
    assert meanwhile < 4 * half, meanwhile  # Of a hundred and sixty, behind all of which it would have come otherwise.


async def test_more_than_may_wait_is_told_to_come_back(api: Api, app: FastAPI, zoo: str, slow: Slow) -> None:
    slow.seconds = 0
    slow.open.clear()
    waiting = [asyncio.create_task(post(api, zoo, [{"query": "bear"}] * 100)) for _ in range(WAITING // 100 + 1)]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)  # Nothing is answered meanwhile.
    slow.open.set()
    answers = await asyncio.gather(*waiting)

    refused = [answer for answer in answers if answer.status_code != 200]
    assert [code(answer) for answer in refused] == [(503, "overloaded")]
    assert int(refused[0].headers["retry-after"]) >= 1
    assert app.state.search_lane._inside == 0
    assert slow.inside == 0


async def test_questions_are_embedded_together(resources: Resources, zoo: str, app: FastAPI, api: Api) -> None:
    class Together:
        """An embedder that sees how many ask at once."""

        def __init__(self) -> None:
            self.inside = self.most = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(resources.embedder, name)

        async def embed_query(self, text: str) -> Any:
            self.inside += 1
            self.most = max(self.most, self.inside)
            await asyncio.sleep(0.01)
            self.inside -= 1
            return await resources.embedder.embed_query(text)

    embedder, lane = Together(), app.state.search_lane
    app.state.search_lane = Lane(searching(resources, embedder=embedder), pool_size=8)
    await results(api, zoo, [{"query": f"bear {n}"} for n in range(100)])
    app.state.search_lane = lane

    assert 16 <= embedder.most <= 64


async def test_one_that_fails_in_an_unforeseen_way_fails_alone(
    resources: Resources, zoo: str, app: FastAPI, api: Api
) -> None:
    class Moody:
        def __getattr__(self, name: str) -> Any:
            return getattr(resources.embedder, name)

        async def embed_query(self, text: str) -> Any:
            if text == "crash":
                raise RuntimeError(text)
            if text == "away":
                raise UnavailableError(text)
            if text == "full":
                raise OverloadedError(text)
            return await resources.embedder.embed_query(text)

    lane = app.state.search_lane
    app.state.search_lane = Lane(searching(resources, embedder=Moody()), pool_size=8)
    asked = [{"query": each, "mode": "semantic"} for each in ("bear", "crash", "away", "full")]
    found = await results(api, zoo, asked)
    every = await post(api, zoo, asked[2:])
    app.state.search_lane = lane

    assert [each["status"] for each in found] == [200, 500, 503, 503]
    assert [each["problem"]["code"] for each in found[1:]] == ["internal", "unavailable", "overloaded"]
    assert "crash" not in found[1]["problem"]["detail"]
    assert code(every) == (503, "unavailable")
