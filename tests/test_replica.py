"""Searches behind a real streaming replica: a client that shows the token of its write is never answered from before it."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from service.db.read_pool import BehindError, PlacedReader
from service.db.read_replica import Following, Replica
from service.db.retrieval import Statement
from service.db.roles import APPLICATION, SEARCHER
from service.domain.commits import CommitToken
from service.local.postgres import EmbeddedPostgres
from service.resources import Resources, address_of, open_search_door
from service.settings import Settings
from tests.api_calls import Api, Json
from tests.conftest import PASSWORDS
from tests.replicas import Standby, running_standby

pytestmark = pytest.mark.usefixtures("worker")

TOKEN, READ_FROM = "X-Commit-Token", "X-Read-From"
LONG_MS = 10_000  # As long as a search would wait here; who must not wait so long says so.
WAITED = 'hybrid_replica_reads_total{outcome="waited"}'
AT_WORK = "select exists (select from pg_stat_activity where query like '%pg_sleep(4)%' and pid <> pg_backend_pid())"
AHEAD = 2**59  # where no log gets


@pytest.fixture(scope="module")
async def standby(stoppable: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Standby]:
    folder = tmp_path_factory.mktemp("standby")
    async with running_standby(stoppable, folder) as running:
        yield running
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
async def settings(settings: Settings, stoppable: EmbeddedPostgres, standby: Standby) -> Settings:
    """Searches go to the replica. What is committed is flushed, and so sent to it, at once."""
    database = address_of(settings.database_url, settings).database
    connection = await asyncpg.connect(stoppable.url())
    await connection.execute(f"alter role {APPLICATION} in database {database} set synchronous_commit = on")
    await connection.close()
    search = SecretStr(standby.server.url(SEARCHER, PASSWORDS.searcher, database))
    return settings.model_copy(update={"search_database_url": search, "search_wait_ms": LONG_MS})


@pytest.fixture
async def paused(standby: Standby) -> AsyncIterator[Standby]:
    """The replica stays where it is, until the test says otherwise or ends."""
    await standby.pause()
    yield standby
    await standby.resume()


async def make(api: Api, collection: str, **fields: Any) -> str:
    """An indexed document; the token of the answer that said so."""
    response = await api.post(collection, {"text": "A bear growls.", **fields}, wait=30)
    assert response.json()["status"] == "indexed", response.text
    return str(response.headers[TOKEN])


async def search(api: Api, collection: str, token: str | None = None, **fields: Any) -> httpx.Response:
    headers = {} if token is None else {TOKEN: token}
    return await api.client.post(
        f"/v1/collections/{collection}/search", json={"query": "bear", **fields}, headers=headers
    )


def seen(response: httpx.Response) -> tuple[int, str]:
    """How many hits, and of which database."""
    assert response.status_code == 200, response.text
    return len(response.json()["hits"]), response.headers[READ_FROM]


async def caught_up(api: Api, collection: str, token: str) -> None:
    assert (await search(api, collection, token)).headers[READ_FROM] == "replica"


@pytest.fixture
def brief(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> float:
    """Nobody waits longer than this, in seconds."""
    monkeypatch.setattr(resources.reader, "wait_seconds", 0.3)
    return 0.3


async def test_a_write_is_seen_by_whoever_shows_its_token(api: Api, collection: str) -> None:
    for number in range(1, 6):
        token = await make(api, collection)

        assert seen(await search(api, collection, token)) == (number, "replica")


@pytest.mark.usefixtures("brief")
async def test_without_its_token_the_replica_answers_as_far_as_it_is(
    api: Api, collection: str, standby: Standby
) -> None:
    await caught_up(api, collection, await make(api, collection))
    await standby.pause()
    token = await make(api, collection)
    without, shown = await search(api, collection), await search(api, collection, token)
    await standby.resume()

    assert seen(without) == (1, "replica")
    assert seen(shown) == (2, "primary")


async def test_a_replica_that_comes_in_time_is_waited_for(api: Api, collection: str, paused: Standby) -> None:
    token = await make(api, collection)
    searches = [asyncio.create_task(search(api, collection, token)) for _ in range(20)]
    await asyncio.sleep(0.2)
    waiting = not any(each.done() for each in searches)
    await paused.resume()

    assert waiting
    assert {seen(each) for each in await asyncio.gather(*searches)} == {(1, "replica")}
    assert WAITED in (await api.client.get("/metrics")).text


@pytest.mark.usefixtures("brief")
async def test_everything_that_a_search_shows_is_of_one_database(api: Api, collection: str, standby: Standby) -> None:
    await caught_up(api, collection, await make(api, collection, tags=["old"]))
    await standby.pause()
    token = await make(api, collection, tags=["new"])
    more = {"highlight": True, "facets": ["tags"], "include": ["count"], "mode": "lexical"}
    response = await search(api, collection, token, **more)
    await standby.resume()

    answer = response.json()
    assert answer["count"]["value"] == 2
    assert {each["value"] for each in answer["facets"]["tags"]["values"]} == {"old", "new"}
    assert all("<em>bear</em>" in hit["chunks"][0]["highlights"][0] for hit in answer["hits"])


@pytest.mark.usefixtures("paused", "brief")
async def test_every_route_that_a_replica_may_answer_takes_the_token(api: Api, collection: str) -> None:
    await make(api, collection, external_id="one")
    token = await make(api, collection, external_id="two")
    under = f"/v1/collections/{collection}"
    document = (await api.client.get(f"{under}/documents/one")).json()
    filtered = {"filter": '{"external_id": {"$in": ["one", "two"]}}'}

    async def ask(method: str, path: str, **how: Any) -> Json:
        response = await api.client.request(method, path, headers={TOKEN: token}, **how)
        assert (response.status_code, response.headers[READ_FROM]) == (200, "primary"), response.text
        answer: Json = response.json()
        return answer

    both = await ask("POST", f"{under}/search:batch", json={"searches": [{"query": "bear"}, {"query": "growls"}]})
    recommended = await ask("POST", f"{under}/recommend", json={"positive": ["one"]})
    similar = await ask("GET", f"/v1/documents/{document['id']}/similar")
    listed = await ask("GET", f"{under}/documents", params=filtered)

    assert [len(each["hits"]) for each in both["results"]] == [2, 2]
    assert [hit["external_id"] for hit in recommended["hits"]] == ["two"]
    assert [hit["external_id"] for hit in similar["hits"]] == ["two"]
    assert len(listed["documents"]) == 2


@pytest.mark.usefixtures("paused")
async def test_what_the_primary_knows_is_not_missing_because_the_replica_lags(api: Api) -> None:
    collection = await api.make_collection()
    await make(api, collection, external_id="one", attributes={"year": 1999})
    new = await search(api, collection)
    await api.client.patch(f"/v1/collections/{collection}", json={"attributes": {"year": "integer"}})
    declared = await search(api, collection, filter={"attributes.year": 1999})
    recommended = await api.client.post(f"/v1/collections/{collection}/recommend", json={"positive": ["one"]})

    assert seen(new) == seen(declared) == (1, "primary")
    assert seen(recommended) == (0, "primary")


@pytest.mark.parametrize("token", ["", "x", "0", "1.", "1.g", f"1.{'f' * 16}", "-1.1", "0/18F2EA8", "1.1 ", "ä"])
async def test_what_is_no_token_is_refused_by_name(api: Api, collection: str, token: str) -> None:
    response = await api.client.post(
        f"/v1/collections/{collection}/search", json={"query": "bear"}, headers={TOKEN.encode(): token.encode()}
    )

    assert (response.status_code, response.json()["code"]) == (400, "malformed")
    assert TOKEN in response.json()["detail"]


async def test_a_token_of_another_system_costs_no_wait(api: Api, collection: str) -> None:
    token = CommitToken.parse(await make(api, collection))
    foreign = CommitToken(token.system ^ 1, AHEAD)
    async with asyncio.timeout(LONG_MS / 1_000 / 2):
        answer = await search(api, collection, str(foreign))

    assert seen(answer) == (1, "primary")


async def test_a_token_from_beyond_the_end_of_the_log_is_waited_for_once_and_answered(
    api: Api, collection: str, brief: float
) -> None:
    token = CommitToken.parse(await make(api, collection))
    lost = CommitToken(token.system, AHEAD)
    begun = asyncio.get_running_loop().time()
    answer = await search(api, collection, str(lost), highlight=True)
    took = asyncio.get_running_loop().time() - begun

    assert seen(answer) == (1, "primary")
    assert brief <= took < LONG_MS / 1_000 / 2


async def test_who_gives_a_search_less_time_does_not_wait_longer(resources: Resources) -> None:
    assert isinstance(resources.reader, Replica)
    now = asyncio.get_running_loop().time()
    short, long = (
        Following(resources.reader, None).deadline({"statement_timeout": limit}) for limit in ("50", "600000")
    )

    assert short - now < 5
    assert long - now >= LONG_MS / 1_000


@pytest.mark.parametrize("driver", ["psqlpy", "asyncpg"])
async def test_both_drivers_notice_a_replica_that_is_behind(settings: Settings, driver: str) -> None:
    chosen = settings.model_copy(update={"search_driver": driver})
    door: PlacedReader = open_search_door(address_of(settings.search_database_url, settings), chosen)
    asked: tuple[Statement, dict[str, object]] = Statement("select 1", (), prepared=True), {}
    try:
        for _ in range(3):
            with pytest.raises(BehindError):
                await door.fetch(*asked, settings={"app.tenant_id": ""}, after=AHEAD)
            assert await door.fetch(*asked, settings={"app.tenant_id": ""}, after=1) == [(1,)]
    finally:
        await door.close()


@pytest.mark.parametrize("driver", ["psqlpy", "asyncpg"])
async def test_a_statement_that_replication_cancels_is_run_by_the_primary(
    resources: Resources, settings: Settings, standby: Standby, admin: asyncpg.Connection, driver: str
) -> None:
    chosen = settings.model_copy(update={"search_driver": driver})
    door = open_search_door(address_of(settings.search_database_url, settings), chosen)
    assert isinstance(resources.reader, Replica)
    turns: list[str] = []
    replica = Replica(door, resources.reader.primary, system=0, wait_seconds=0, note=turns.append)
    long = Statement(
        "select case when pg_is_in_recovery() then pg_sleep(4)::text else 'primary' end", (), prepared=True
    )
    await standby.tell("alter system set max_standby_streaming_delay = 0")
    await standby.tell("select pg_reload_conf()")
    try:
        answer = asyncio.create_task(Following(replica, None).fetch(long, {}, settings={"app.tenant_id": ""}))
        await admin.execute("create table in_the_way (n int)")
        async with asyncio.timeout(60):
            while not await standby.tell(AT_WORK):  # noqa: ASYNC110  of another process
                await asyncio.sleep(0.01)
        while not answer.done():  # Another's snapshot may keep the rows for a moment.
            for change in ("insert into in_the_way values (1)", "delete from in_the_way", "vacuum in_the_way"):
                await admin.execute(change)
            await asyncio.sleep(0.02)
        rows = [tuple(row) for row in await answer]
    finally:
        await door.close()
        await admin.execute("drop table if exists in_the_way")
        await standby.tell("alter system reset max_standby_streaming_delay")
        await standby.tell("select pg_reload_conf()")

    assert (rows, turns) == ([("primary",)], ["conflict"])


async def test_without_its_replica_the_service_searches_the_primary_and_goes_back(
    api: Api, app: FastAPI, collection: str, standby: Standby
) -> None:
    token = await make(api, collection)
    await caught_up(api, collection, token)
    await standby.pause()
    newer = await make(api, collection)
    waiting = asyncio.create_task(search(api, collection, newer))
    await asyncio.sleep(0.1)
    await standby.server.stop()
    meanwhile = [seen(await waiting), *[seen(await search(api, collection, shown)) for shown in (token, None)]]
    app.state.readiness._good_until = 0.0
    ready = await api.client.get("/readyz")
    await standby.server.start()
    async with asyncio.timeout(60):
        while seen(await search(api, collection, newer)) != (2, "replica"):
            pass

    assert meanwhile == [(2, "primary")] * 3
    assert ready.status_code == 200
