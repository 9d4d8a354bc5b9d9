"""Recall as a live figure: what was served against what an exact search finds, without a client noticing."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Literal

import asyncpg
import numpy as np
import pytest

from service.db.collection_size import count_chunks
from service.db.read_out import SearchRow
from service.db.read_pool import Reader, Row
from service.db.retrieval import Statement
from service.domain.ids import new_id
from service.domain.queries import Words
from service.resources import Resources
from service.search.recall import WAITING, RecallProbe, first_ids
from service.search.running import run
from service.settings import Settings
from service.telemetry.loads import PoolLoad
from tests.api_calls import Api
from tests.operations_calls import scrape, serving, value, values
from tests.search_calls import Library, Patient, analyze, directions, halves, library, patient
from tests.worker_calls import until

COUNT = 2_100  # beyond what is scored whole by its words
VECTORS = directions(COUNT, seed=14)
QUESTIONS = directions(6, seed=15)
KEPT = halves(VECTORS)
SAMPLES = "hybrid_search_recall_samples_total"


@pytest.fixture(scope="module")
async def crowd(api: Api, resources: Resources) -> Library:
    """Documents of one vector each; `common` is in all of them, `w7` in fifty."""
    documents = [
        {"text": f"common w{n % 40} in the river", "vector": vector.tolist(), "attributes": {"n": n}}
        for n, vector in enumerate(VECTORS)
    ]
    crowd = await library(api, resources, documents)
    await analyze(resources)
    return crowd


class Watched:
    """A reader that remembers what it was asked, and how much of it at once; `hurry` goes to every statement."""

    driver: Literal["psqlpy", "asyncpg"] = "psqlpy"

    def __init__(self, reader: Reader, **hurry: str) -> None:
        self.reader, self.hurry = reader, {name.replace("__", "."): value for name, value in hurry.items()}
        self.running = self.most = 0
        self.settings: list[Mapping[str, str]] = []

    async def fetch(
        self, statement: Statement, values: Mapping[str, object], *, settings: Mapping[str, str]
    ) -> Sequence[Row]:
        self.settings.append(settings)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self.reader.fetch(statement, values, settings={**settings, **self.hurry})
        finally:
            self.running -= 1

    def loads(self) -> Mapping[str, PoolLoad]:
        return self.reader.loads()

    async def close(self) -> None:
        await self.reader.close()


@asynccontextmanager
async def probing(library: Library, *, share: float = 1, **served_with: Any) -> AsyncIterator[tuple[Library, "Seen"]]:
    """The same library with a probe; `served_with` are the tools of the searches alone."""
    probe = RecallProbe(library.tools, share=share)
    try:
        yield library.having(recall=probe, **served_with), Seen(probe)
    finally:
        await probe.close()


class Seen:
    """What the metrics of a probe say, beginning with now: other tests have counted before."""

    def __init__(self, probe: RecallProbe) -> None:
        self.probe = probe
        self.before = self.now()

    def now(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        return values(self.probe.tools.telemetry.metrics.exposed("")[0].decode())

    def since(self, name: str) -> dict[frozenset[str], float]:
        """By the values of its labels."""
        return {
            frozenset(text for _, text in labels): number - self.before.get((each, labels), 0)
            for (each, labels), number in self.now().items()
            if each == name and number != self.before.get((each, labels), 0)
        }

    async def outcomes(self, count: int) -> dict[str, float]:
        """Once so many samples, at least, and all others have come to an end."""

        async def ended() -> bool:
            working = self.probe.working
            return working is not None and working.done() and sum(self.since(SAMPLES).values()) >= count

        await until(ended)
        return {outcome: number for (outcome,), number in self.since(SAMPLES).items()}


def nearest(question: np.ndarray, among: Sequence[int]) -> set[str]:
    cosines = KEPT[among] @ halves(question)
    return {str(among[i]) for i in np.argsort(-cosines)[:10]}


@pytest.mark.parametrize("filtered", [False, True])
async def test_it_is_the_share_of_the_nearest_ten_that_was_served(crowd: Library, *, filtered: bool) -> None:
    among = range(0, COUNT, 3) if filtered else range(COUNT)
    fields: dict[str, Any] = {"filter": {"attributes.n": {"$in": list(among)}}} if filtered else {}
    hasty = Watched(crowd.tools.reader, hnsw__max_scan_tuples="1", hnsw__ef_search="12")

    shares = []
    async with probing(crowd.having(exact_chunks=0), reader=hasty) as (served, seen):
        for number, question in enumerate(QUESTIONS, start=1):
            ids = await served.ids(vector=question, mode="semantic", limit=20, **fields)
            shares.append(len(set(ids[:10]) & nearest(question, among)) / 10)
            assert await seen.outcomes(number) == {"measured": number}  # One probe at a time; others are busy.

    labels = frozenset({"hnsw", "<=50%" if filtered else "all"})
    assert seen.since("search_recall_at_10_count") == {labels: len(QUESTIONS)}
    assert seen.since("search_recall_at_10_sum")[labels] == pytest.approx(sum(shares))
    assert 0 < sum(shares) < len(QUESTIONS) - 0.5  # or nothing was measured


@pytest.mark.parametrize(
    ("left", "selectivity"), [(1, "<=0.1%"), (20, "<=1%"), (150, "<=10%"), (600, "<=50%"), (1_500, ">50%")]
)
async def test_the_part_that_a_filter_leaves_is_counted_to_its_end(crowd: Library, left: int, selectivity: str) -> None:
    wanted = {"attributes.n": {"$lt": left}}

    async with probing(crowd.having(exact_chunks=100)) as (served, seen):
        await served.ask("common", filter=wanted)
        await seen.outcomes(1)

    route = "exact" if left <= 100 else "hnsw"
    [(labels, recall)] = seen.since("search_recall_at_10_sum").items()
    assert labels == frozenset({route, selectivity})
    assert recall == 1 if route == "exact" else recall > 0.5


@pytest.mark.parametrize(
    ("question", "fields", "labels"),
    [
        ("common", {}, {"exact", "all"}),
        ("common", {"grouped": False}, {"exact", "all"}),
        ("common", {"mode": "lexical"}, {"lexical", "all"}),
        ('"w7 in the river"', {}, {"phrase", "<=10%"}),
        ("common -w7", {"explain": True}, {"exact", "all"}),
    ],
)
async def test_what_was_served_exactly_has_a_recall_of_one(
    crowd: Library, question: str, fields: dict[str, Any], labels: set[str]
) -> None:
    async with probing(crowd) as (served, seen):
        await served.ask(question, **fields)
        assert await seen.outcomes(1) == {"measured": 1}

    assert seen.since("search_recall_at_10_sum") == {frozenset(labels): 1}


@pytest.mark.parametrize("mode", ["lexical", "hybrid"])
async def test_words_that_the_budget_left_out_are_missed(crowd: Library, mode: str) -> None:
    question = "w7 w8 common"
    fields: dict[str, Any] = {"mode": mode, "filter": {"attributes.n": {"$gt": 40}}, "window": 10}
    fields |= {} if mode == "lexical" else {"vector": QUESTIONS[0], "alpha": 0.1}
    narrow = crowd.having(lexical_budget=60)  # The fifty of w7 fill it.
    few, all_of_them = await narrow.ids(question, **fields), await narrow.ids(question, budget=10**8, **fields)
    share = len(set(few[:10]) & set(all_of_them[:10])) / 10

    async with probing(narrow) as (served, seen):
        await served.ask(question, **fields)
        await seen.outcomes(1)

    assert list(seen.since("search_recall_at_10_sum").values()) == [pytest.approx(share)]
    assert 0 < share < 1


async def test_what_finds_nothing_is_counted_apart(crowd: Library) -> None:
    async with probing(crowd) as (served, seen):
        await served.ask("nowhere", mode="lexical")
        assert await seen.outcomes(1) == {"empty": 1}

    assert seen.since("search_recall_at_10_count") == {}


async def test_only_first_pages_of_ten_or_more_are_judged(crowd: Library) -> None:
    async with probing(crowd) as (served, seen):
        first = await served.ask("common", limit=10)
        assert await seen.outcomes(1) == {"measured": 1}
        await served.ask("common", limit=9)
        await served.ask("common", limit=10, cursor=first.next_cursor)
        await served.ask("common", limit=10)
        assert await seen.outcomes(2) == {"measured": 2}


async def found(library: Library, question: str = "common") -> tuple[Any, ...]:
    """What `consider` is given after a search."""
    query = library.query(question)
    words, vector = Words.parse(question), QUESTIONS[0]
    rows: list[SearchRow] = await run(query, words, vector, library.collection, tools=library.tools)
    return query, words, vector, library.collection, rows


async def test_the_first_ten_count_as_documents_or_as_chunks(api: Api, resources: Resources) -> None:
    tomes = await library(api, resources, [{"text": " ".join(f"leaf twig{n}." for n in range(900))} for _ in range(12)])
    for grouped in (True, False):
        query = tomes.query("leaf twig7", mode="lexical", limit=20, grouped=grouped)
        rows = await run(query, Words.parse("leaf twig7"), None, tomes.collection, tools=tomes.tools)
        hits = (await tomes.ask("leaf twig7", mode="lexical", limit=20, grouped=grouped)).hits
        ids = [hit.document_id if grouped else hit.chunks[0].chunk_id for hit in hits]

        assert len(set(ids)) > 10
        assert list(first_ids(rows, query)) == ids[:10]


async def test_one_runs_at_a_time_few_wait_and_the_rest_is_dropped_and_counted(crowd: Library) -> None:
    watched = Watched(crowd.tools.reader)
    async with probing(crowd.having(reader=watched)) as (_, seen):
        given = await found(crowd)
        for _ in range(100):
            seen.probe.consider(*given)

        assert await seen.outcomes(100) == {"busy": 100 - WAITING, "measured": WAITING}
    assert watched.most == 1
    assert {settings["statement_timeout"] for settings in watched.settings} == {"5000"}


async def test_the_share_of_searches_is_what_was_asked_for(crowd: Library) -> None:
    async with probing(crowd, share=0.2) as (_, seen):
        given = await found(crowd)
        for _ in range(5_000):
            seen.probe.consider(*given)
        chosen = sum((await seen.outcomes(1)).values())

    assert 850 < chosen < 1_150  # five standard deviations


async def test_none_is_run_again_unless_a_connection_stays_free(
    settings: Settings, api: Api, crowd: Library, admin: asyncpg.Connection
) -> None:
    url = f"/v1/collections/{crowd.collection.name}/search"
    nearest = {"mode": "semantic", "vector": QUESTIONS[0].tolist()}
    async with serving(settings, api, search_pool_size=2, recall_sample_share=1) as (app, asked):
        async with admin.transaction():
            await admin.execute("lock table lexeme_frequencies in access exclusive mode")
            app.state.search_desk = patient(app.state.search_desk)
            waiting = asyncio.create_task(asked.client.post(url, json={"query": "common"}))

            async def at_work() -> bool:
                return value(await scrape(asked.client), "hybrid_pool_in_use", pool="search") == 1

            await until(at_work)
            assert (await asked.client.post(url, json=nearest)).status_code == 200

            async def counted() -> bool:
                return value(await scrape(asked.client), SAMPLES, outcome="busy") == 1

            await until(counted)
            assert not waiting.done()
        await waiting


async def test_a_failure_is_counted_and_the_next_is_measured(
    crowd: Library, admin: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with probing(crowd) as (served, seen):
        given = await found(crowd, "common quokka")
        async with admin.transaction():
            await admin.execute("lock table lexeme_frequencies in access exclusive mode")
            seen.probe.consider(*given)
            assert await seen.outcomes(1) == {"failed": 1}
        await served.ask("common")

        assert await seen.outcomes(2) == {"failed": 1, "measured": 1}
    said = [record.getMessage() for record in caplog.records if "recall not measured" in record.getMessage()]
    assert len(said) == 1
    assert "quokka" not in said[0]


async def test_it_ends_at_once_and_for_ever(crowd: Library, admin: asyncpg.Connection) -> None:
    given = await found(crowd)
    took = []
    for _ in range(3):  # The best of three is what it takes; the rest is what else the machine does.
        async with probing(crowd) as (_, seen):
            async with admin.transaction():
                await admin.execute("lock table lexeme_frequencies in access exclusive mode")
                for _ in range(3):
                    seen.probe.consider(*given)
                await asyncio.sleep(0.05)
                begun = time.monotonic()
                await seen.probe.close()
                took.append(time.monotonic() - begun)
            assert seen.probe.working is not None
            assert seen.probe.working.done()
            seen.probe.consider(*given)
            assert seen.probe.working.done()

    assert min(took) < 0.5


async def test_a_service_that_stops_meanwhile_stops_in_good_time(
    settings: Settings, api: Api, crowd: Library, admin: asyncpg.Connection
) -> None:
    given = await found(crowd)
    async with admin.transaction():
        await admin.execute("lock table lexeme_frequencies in access exclusive mode")
        async with asyncio.timeout(30), serving(settings, api, recall_sample_share=1) as (app, asked):
            probe: RecallProbe = app.state.search_desk.tools.recall
            probe.tools = replace(probe.tools, reader=Patient(probe.tools.reader, seconds=4))
            probe.consider(*given)

            async def at_work() -> bool:
                return value(await scrape(asked.client), "hybrid_pool_in_use", pool="search") == 1

            await until(at_work)

    assert probe.closed
    assert probe.working is not None
    assert probe.working.cancelled()


async def test_it_is_to_be_had_where_the_other_metrics_are(settings: Settings, api: Api, crowd: Library) -> None:
    url = f"/v1/collections/{crowd.collection.name}/search"
    for share, count in ((1, 1), (0, None)):
        async with serving(settings, api, recall_sample_share=share) as (_, asked):
            assert (await asked.client.post(url, json={"query": "common"})).status_code == 200
            labels = {"route": "exact", "selectivity": "all"}

            async def measured() -> bool:
                return value(await scrape(asked.client), SAMPLES, outcome="measured") == count  # noqa: B023

            await until(measured)
            text = await scrape(asked.client)

        assert value(text, "search_recall_at_10_count", **labels) == count
        assert value(text, "search_recall_at_10_sum", **labels) == count


async def test_a_foreign_collection_has_no_size(crowd: Library, other_api: Api, resources: Resources) -> None:
    collection, reader = crowd.collection, crowd.tools.reader
    other = await library(other_api, resources, [])

    assert await count_chunks(collection.id, tenant_id=collection.tenant_id, reader=reader) == COUNT
    for tenant_id in (other.collection.tenant_id, new_id()):
        assert await count_chunks(collection.id, tenant_id=tenant_id, reader=reader) == 0
