"""`service stats rebuild`: whatever the statistics were, afterwards scores are BM25 of what the texts say."""

import asyncio
from collections import Counter
from typing import Any

import asyncpg
import pytest

from service.db import terms
from service.domain.ids import new_id
from service.ingest.rebuild import Rebuilt, rebuild_statistics
from service.resources import Resources
from service.settings import Settings
from tests.api_calls import Api, Json
from tests.cli_calls import SERVICE, Finished
from tests.cli_calls import run as run_command
from tests.search_calls import Library, library
from tests.search_oracle import bm25
from tests.test_search_bm25 import ENGLISH, documents, lexemes
from tests.test_statistics import add, check_statistics, make_texts, settled
from tests.worker_calls import Working, environment_of, until, until_idle

QUESTION = "bears were running over rivers; salmon"
SPOILS = {
    "frequencies": "update lexeme_frequencies set df = df * 7 where collection_id = $1",
    "rare terms kept": "insert into lexeme_frequencies select collection_id, 999999999, 5 from chunk_terms"
    " where collection_id = $1 limit 1",
    "frequencies lost": "delete from lexeme_frequencies where collection_id = $1",
    "average": "update collections set average_length = 3, epoch = epoch + 1 where id = $1",
    "no average": "update collections set average_length = null, epoch = epoch + 1 where id = $1",
    "average that is no number": "update collections set average_length = 'nan' where id = $1",
    "chunk count": "update collections set chunk_count = 100000 where id = $1",
    "weights": "update chunk_terms set bm25 = '{1:1}/1000000000' where collection_id = $1",
    "lengths": "update chunk_terms set length = 1000 + length where collection_id = $1",
    "terms": "update chunk_terms set terms = '{}' where collection_id = $1",
}
UNFELT = {"rare terms kept", "average that is no number", "lengths"}  # until the weights are next written


@pytest.fixture(scope="module")
async def bears(api: Api, resources: Resources) -> Library:
    return await library(api, resources, rows())


def rows() -> list[Json]:
    return documents(ENGLISH, override="german", seed=7)


async def expected(admin: asyncpg.Connection) -> dict[str, float]:
    """BM25 of the lexemes that Postgres finds in the texts; nothing of the service's statistics is in it."""
    chunks: dict[str, Counter[str]] = {}
    for row in rows():
        text = f"{row['title'] or ''}\n{row['text']}"
        chunks[row["external_id"]] = await lexemes(admin, row.get("language", "english"), text)
    average = sum(found.total() for found in chunks.values()) / len(chunks)
    return bm25(list(await lexemes(admin, "english", QUESTION)), chunks, average=average)


async def scores(found: Library) -> dict[str | None, float]:
    return {hit.external_id: hit.score for hit in (await found.ask(QUESTION, mode="lexical", limit=100)).hits}


async def rebuild(settings: Settings, *names: str) -> Finished:
    return await run_command(*SERVICE, "stats", "rebuild", *names, **environment_of(settings))


async def rebuilt(found: Library, resources: Resources) -> Rebuilt:
    c = found.collection
    return await rebuild_statistics(c.tenant_id, c.id, primary=resources.primary, watch=lambda *_: None)


@pytest.mark.parametrize("spoil", SPOILS)
async def test_scores_are_bm25_whatever_was_wrong(
    bears: Library, resources: Resources, admin: asyncpg.Connection, spoil: str
) -> None:
    wanted, c = await expected(admin), bears.collection
    await admin.execute(SPOILS[spoil], c.id)
    async with resources.primary.begin(c.tenant_id) as connection:
        await terms.rewrite_weights(connection, c.id)  # as the worker does after a change of the average
    assert (await scores(bears) == pytest.approx(wanted, rel=1e-4)) is (spoil in UNFELT)

    await rebuilt(bears, resources)

    assert await scores(bears) == pytest.approx(wanted, rel=1e-4)
    assert len(wanted) > 20
    await check_statistics(admin, c.name, drift=1e-12)


async def test_the_command_says_what_changed_and_again_that_nothing_did(
    bears: Library, api: Api, settings: Settings, admin: asyncpg.Connection
) -> None:
    await api.make_collection()  # It is not named.
    for spoil in SPOILS.values():
        await admin.execute(spoil, bears.collection.id)
    name = bears.collection.name

    first = await rebuild(settings, name)
    again = await rebuild(settings, name)

    assert (first.code, again.code) == (0, 0), first.said + again.said
    assert first.out.startswith(f"first/{name}: 60 chunks (counted before: 100,000), average length 2")
    assert "(before: nan)" in first.out
    assert "120 weights written, 60 of them with other words than before." in first.out
    assert again.out.endswith("0 frequencies were others; 60 weights written.\nCollections rebuilt: 1.\n")
    assert await scores(bears) == pytest.approx(await expected(admin), rel=1e-4)


async def test_without_a_name_all_collections_of_all_tenants_are_rebuilt(
    api: Api, other_api: Api, settings: Settings, resources: Resources, admin: asyncpg.Connection
) -> None:
    texts = [{"text": "bear"}, {"text": "wolf bear"}]
    filled = [await library(each, resources, texts) for each in (api, other_api)]
    await library(api, resources, [])
    gone = await api.make_collection()
    await api.client.delete(f"/v1/collections/{gone}")
    await admin.execute("update lexeme_frequencies set df = df + 1")

    said = await rebuild(settings)

    assert said.code == 0, said.said
    assert f"second/{filled[1].collection.name}: 2 chunks" in said.out
    count = await admin.fetchval("select count(*) from collections where deleted_at is null")
    assert said.out.splitlines()[count:] == [f"Collections rebuilt: {count}."]
    assert gone not in said.out
    for found in filled:
        await check_statistics(admin, found.collection.name, drift=1e-12)


async def test_a_name_that_nobody_has_changes_nothing(
    bears: Library, settings: Settings, admin: asyncpg.Connection
) -> None:
    epoch = "select epoch from collections where id = $1"
    before = await admin.fetchval(epoch, bears.collection.id)

    said = await rebuild(settings, bears.collection.name, "nobodys")

    assert (said.code, said.out) == (1, "")
    assert said.err.strip() == "Error: There is no collection nobodys."
    assert await admin.fetchval(epoch, bears.collection.id) == before


async def test_without_the_owners_address_it_is_one_sentence(settings: Settings) -> None:
    said = await rebuild(settings.model_copy(update={"database_direct_url": None}))

    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("Error: DATABASE_DIRECT_URL: ")


async def test_it_may_run_while_workers_write_and_beside_itself(
    api: Api, resources: Resources, admin: asyncpg.Connection, working: Working
) -> None:
    """Each wave is longer than the last, so that the job opens epochs of its own."""
    grown = await library(api, resources, [])
    name, seen = grown.collection.name, 0
    async with working(batch=8), working(batch=8):
        for wave in range(6):
            await add(api, name, make_texts(60, length=8 * 2**wave, seed=wave), first=60 * wave)
            # What a worker holds is passed over: two who lock several jobs in two orders end in a deadlock.
            await admin.execute(
                "update jobs set run_at = now() where id in (select id from jobs"
                " where kind in ('refresh_statistics', 'rewrite_weights') for update skip locked)"
            )
            done = await asyncio.gather(*(rebuilt(grown, resources) for _ in range(2)))
            seen += done[0].rewritten
        await settled(api, name)
        await rebuilt(grown, resources)
        await admin.execute("update jobs set run_at = now() where id in (select id from jobs for update skip locked)")
        await until_idle(admin)

    assert seen > 0
    await check_statistics(admin, name, drift=1e-12)


async def test_of_two_recounts_one_waits_before_it_writes(
    bears: Library, resources: Resources, admin: asyncpg.Connection
) -> None:
    """Or both would hold rows of some terms and wait for those of others."""
    c, waits = bears.collection, "select locktype from pg_locks where not granted"
    async with resources.primary.begin(c.tenant_id) as connection:
        await terms.refresh_statistics(connection, c.id)
        second = asyncio.create_task(rebuilt(bears, resources))
        waiting_for = await until(lambda: admin.fetchval(waits))

    assert waiting_for == "advisory"
    assert (await second).rewritten == 60


async def test_rows_that_somebody_holds_are_waited_for(
    bears: Library, resources: Resources, admin: asyncpg.Connection
) -> None:
    written: list[int] = []
    c = bears.collection
    async with admin.transaction():
        await admin.execute("select from chunk_terms where collection_id = $1 limit 10 for update", c.id)
        running = asyncio.create_task(
            rebuild_statistics(c.tenant_id, c.id, primary=resources.primary, watch=lambda n, _: written.append(n))
        )

        async def is_waiting() -> bool:
            return len(written) >= 3

        await until(is_waiting)
        assert set(written) == {50}
        assert not running.done()

    assert (await running).rewritten == 60


async def test_what_was_broken_off_a_worker_finishes(
    api: Api, resources: Resources, admin: asyncpg.Connection, working: Working
) -> None:
    texts = [{"text": text} for text in make_texts(900, length=20)]
    long = await library(api, resources, texts)
    c = long.collection
    await admin.execute(SPOILS["weights"], c.id)

    def break_off(written: int, _: int) -> None:
        assert written == terms.REWRITTEN
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await rebuild_statistics(c.tenant_id, c.id, primary=resources.primary, watch=break_off)
    spoiled = "select count(*) from chunk_terms where collection_id = $1 and bm25 = '{1:1}/1000000000'"
    assert await admin.fetchval(spoiled, c.id) == 400
    await admin.execute("update jobs set run_at = now()")
    async with working():
        await until_idle(admin)

    await check_statistics(admin, c.name, drift=1e-12)


async def test_no_transaction_writes_more_than_a_batch(
    api: Api, resources: Resources, admin: asyncpg.Connection
) -> None:
    long = await library(api, resources, [{"text": text} for text in make_texts(1_200, length=10)])
    told: list[Any] = []
    c = long.collection

    await rebuild_statistics(c.tenant_id, c.id, primary=resources.primary, watch=lambda *each: told.append(each))

    assert told == [(500, 1_200), (1_000, 1_200), (1_200, 1_200), (1_200, 1_200)]
    transactions = "select count(distinct xmin::text) from chunk_terms where collection_id = $1"
    assert await admin.fetchval(transactions, c.id) == 3


async def test_an_empty_collection_and_one_that_is_gone_are_nothing_to_do(api: Api, resources: Resources) -> None:
    empty = await library(api, resources, [])

    for collection_id in (empty.collection.id, new_id()):
        done = await rebuild_statistics(
            empty.collection.tenant_id, collection_id, primary=resources.primary, watch=lambda *_: None
        )
        assert (done.now.chunks, done.rewritten, done.terms) == (0, 0, 0)
