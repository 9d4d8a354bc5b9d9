"""What the metrics say of how busy the parts are: pools that fill up, a long queue, an embedder that is held."""

import asyncio

import asyncpg
import pytest

from service.db.queue_load import queue_load
from service.domain.errors import OverloadedError
from service.domain.ids import new_id
from service.resources import Resources
from service.settings import Settings
from service.telemetry.load_metrics import Loads
from service.telemetry.loads import StatementLoad
from service.telemetry.metrics import Metrics
from tests.api_calls import Api, code
from tests.operations_calls import scrape, serving, value, values
from tests.search_calls import patient
from tests.test_embedder_queue import HeldEncoder, make_embedder, until_running
from tests.worker_calls import until


@pytest.mark.parametrize("driver", ["psqlpy", "asyncpg"])
async def test_the_read_pool_says_who_is_at_work_who_waits_and_who_was_refused(
    settings: Settings, api: Api, collection: str, admin: asyncpg.Connection, driver: str
) -> None:
    changes = {"search_pool_size": 2, "search_queue": 3, "search_driver": driver}
    url = f"/v1/collections/{collection}/search"
    async with serving(settings, api, **changes) as (app, busy), admin.transaction():
        assert (await busy.client.post(url, json={"query": "bear"})).status_code == 200
        await admin.execute("lock table lexeme_frequencies in access exclusive mode")
        app.state.search_desk = patient(app.state.search_desk)
        searches = [asyncio.create_task(busy.client.post(url, json={"query": "bear"})) for _ in range(7)]

        async def refused() -> bool:
            return sum(search.done() for search in searches) == 2

        await until(refused)
        text = await scrape(busy.client)
        loads = {name: value(text, f"hybrid_pool_{name}", pool="search") for name in ("size", "in_use", "waiting")}
        for search in searches:
            search.cancel()

    assert loads == {"size": 2, "in_use": 2, "waiting": 3}
    assert value(text, "hybrid_pool_refused_total", pool="search") == 2
    await asyncio.gather(*searches, return_exceptions=True)


async def test_the_primary_pool_says_who_is_at_work_and_who_waits(settings: Settings, api: Api) -> None:
    async with serving(settings, api, database_pool_size=2) as (app, _):
        resources: Resources = app.state.resources
        release = asyncio.Event()

        async def hold() -> None:
            async with resources.primary.begin():
                await release.wait()

        holding = [asyncio.create_task(hold()) for _ in range(5)]
        await until(lambda: full(resources))
        load = resources.primary.load()
        text = resources.telemetry.metrics.exposed("")[0].decode()
        release.set()
        await asyncio.gather(*holding)

        assert (load.size, load.in_use, load.waiting) == (2, 2, 3)
        assert value(text, "hybrid_pool_in_use", pool="primary") == 2
        assert (resources.primary.load().in_use, resources.primary.load().waiting) == (0, 0)


async def test_who_waits_for_the_primary_in_vain_is_refused_counted_and_told_to_come_back(
    settings: Settings, api: Api
) -> None:
    async with serving(settings, api, database_pool_size=2) as (app, asked):
        primary = app.state.resources.primary
        await asked.client.get("/v1/collections")  # Its key is known from here on.
        primary.engine.pool._timeout = 0.2  # instead of thirty seconds
        async with primary.begin(), primary.begin():
            answer = await asked.client.get("/v1/collections")

        assert code(answer) == (503, "overloaded")
        assert (primary.load().refused, primary.load().waiting) == (1, 0)


async def full(resources: Resources) -> bool:
    load = resources.primary.load()
    return load.in_use + load.waiting == 5


async def test_the_queue_is_counted_by_kind_and_state_with_the_age_of_its_oldest(
    settings: Settings, api: Api, collection: str, admin: asyncpg.Connection
) -> None:
    await admin.execute("delete from jobs")
    for _ in range(3):
        await api.make_document(collection)
    for state, run_at in (("dead", "now()"), ("queued", "now() + interval '1 hour'")):
        await admin.execute(
            f"insert into jobs (id, kind, state, run_at) values ($1, 'delete_blobs', '{state}', {run_at})",  # noqa: S608
            new_id(),
        )
    await admin.execute("update jobs set run_at = now() - interval '90 seconds' where kind = 'index_text'")
    async with serving(settings, api) as (_, asked):
        text = await scrape(asked.client)
    await admin.execute("delete from jobs")

    counted = {labels: n for (name, labels), n in values(text).items() if name == "hybrid_jobs"}
    assert counted == {
        frozenset({("kind", "index_text"), ("state", "queued")}): 3,
        frozenset({("kind", "delete_blobs"), ("state", "dead")}): 1,
        frozenset({("kind", "delete_blobs"), ("state", "scheduled")}): 1,
    }
    assert 90 <= (value(text, "hybrid_jobs_oldest_seconds", kind="index_text") or 0) < 120
    assert value(text, "hybrid_jobs_oldest_seconds", kind="delete_blobs") is None
    assert value(text, "hybrid_jobs_readable") == 1


async def test_the_queue_is_read_once_however_many_scrape(
    settings: Settings, api: Api, admin: asyncpg.Connection
) -> None:
    async with serving(settings, api) as (app, asked):
        before = await scrape(asked.client)
        app.state.queue_watch._fresh_until += 60  # Not one of these scrapes is so late that it has to look again.
        await admin.execute("insert into jobs (id, kind) values ($1, 'index_attribute')", new_id())
        texts = await asyncio.gather(*(scrape(asked.client) for _ in range(20)))
        await admin.execute("delete from jobs")

    for text in texts:
        assert value(text, "hybrid_jobs", kind="index_attribute", state="queued") is None
        assert value(text, "hybrid_jobs_readable") == value(before, "hybrid_jobs_readable") == 1


async def test_a_long_queue_is_counted_in_time(resources: Resources, admin: asyncpg.Connection) -> None:
    await admin.execute(
        "insert into jobs (id, kind, run_at) select uuidv7(), 'index_text', now() from generate_series(1, 100000)"
    )
    async with resources.primary.look() as connection:
        await queue_load(connection)
        took = []
        for _ in range(3):  # The best of three is what it costs; the rest is what else the machine does.
            begun = asyncio.get_running_loop().time()
            [load] = await queue_load(connection)
            took.append(asyncio.get_running_loop().time() - begun)
    await admin.execute("delete from jobs")

    assert load.count == 100_000
    assert min(took) < 0.5


async def test_the_embedder_says_how_queries_were_answered_and_what_waits() -> None:
    encoder = HeldEncoder()
    embedder = make_embedder(encoder)
    await embedder.embed_query("twice")
    await embedder.embed_query("twice")
    encoder.gate.clear()
    asked = [asyncio.create_task(embedder.embed_query(f"query {n}")) for n in range(20)]
    await until_running(encoder, 2)
    asked.append(asyncio.create_task(embedder.embed_query("query 0")))
    with pytest.raises(OverloadedError):
        await asyncio.gather(asyncio.create_task(embedder.embed_query("one too many")))
    metrics = Metrics()
    metrics.registry.register(Loads(dict, embedder.load, lambda: StatementLoad(0, 0)))
    text = metrics.exposed("")[0].decode()
    encoder.gate.set()
    await asyncio.gather(*asked)
    await embedder.close()

    answers = {
        a: value(text, "hybrid_embedder_queries_total", answer=a) for a in ("cached", "joined", "computed", "refused")
    }
    assert answers == {"cached": 1, "joined": 1, "computed": 21, "refused": 1}
    assert value(text, "hybrid_embedder_cached_queries") == 1
    assert (value(text, "hybrid_embedder_waiting", purpose="query") or 0) > 0
    assert embedder.load().waiting_queries == 0
