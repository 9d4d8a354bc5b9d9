"""Whichever way a search takes, exact or by the graph, with or without a filter, it finds what is there, or says so."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import pytest

from service.db.addresses import Address
from service.db.owner import as_owner
from service.db.read_held import open_held_reader
from service.db.read_out import SearchRow
from service.db.read_pool import Reader, Row
from service.db.retrieval import Statement
from service.db.roles import EF_SEARCH
from service.domain.documents import Collection
from service.domain.filters import parse_filter
from service.domain.ids import new_id
from service.domain.queries import WINDOW, Fusion, Limits, Query, Words
from service.resources import Resources
from service.search.catalog import Catalog
from service.search.ways import way_of
from tests.api_calls import Api
from tests.search_calls import Library, analyze, direct_url, directions, halves, library, working

COUNT = 2_000
VECTORS = directions(COUNT, seed=4)
QUESTIONS = directions(8, seed=5)
KEPT = halves(VECTORS)
ROUTES = {"exact": 13_000, "graph": 0}
TOMES = 105
WORDS = Words.parse("bear")
COLLECTION = Collection(
    id=new_id(),
    tenant_id=new_id(),
    name="dens",
    language="english",
    attributes={},
    profile_id=new_id(),
    chunk_count=0,
    created_at=datetime.now(UTC),
    updated_at=datetime.now(UTC),
)


@pytest.fixture(scope="module")
async def crowd(api: Api, other_api: Api, resources: Resources) -> Library:
    """2,000 documents of one vector each, in the graph beside those of two other collections."""
    for neighbour in (api, other_api):
        await library(neighbour, resources, [{"vector": v.tolist()} for v in directions(100, seed=6)])
    documents = [
        {
            "text": f"common w{n % 40}" + (" rare" if n < 3 else ""),
            "vector": vector.tolist(),
            "attributes": {"n": n, "half": n % 2},
        }
        for n, vector in enumerate(VECTORS)
    ]
    crowd = await library(api, resources, documents)
    await analyze(resources)
    return crowd


@pytest.fixture(scope="module")
async def tomes(api: Api, resources: Resources) -> Library:
    """More documents than a page holds, of a dozen chunks each: a window holds a sixth of them."""
    words = " ".join(f"leaf twig{n} branch." for n in range(750))
    return await library(api, resources, [{"title": f"tome{n}", "text": words} for n in range(TOMES)])


def nearest(question: np.ndarray, among: Sequence[int], limit: int) -> list[str]:
    cosines = KEPT[among] @ halves(question)
    return [str(among[i]) for i in np.argsort(-cosines)[:limit]]


def cosines_of(question: np.ndarray, ids: Iterable[str | None]) -> np.ndarray:
    return np.asarray(KEPT[[int(each or "") for each in ids]] @ halves(question))


@pytest.mark.parametrize("filtered", [False, True])
async def test_the_exact_route_finds_the_nearest_in_order(crowd: Library, *, filtered: bool) -> None:
    among = range(1, COUNT, 2) if filtered else range(COUNT)
    fields: dict[str, Any] = {"filter": {"attributes.half": 1}} if filtered else {}

    for question in QUESTIONS:
        found = await crowd.ask(vector=question, mode="semantic", limit=100, **fields)
        best = cosines_of(question, nearest(question, among, 100))
        # Neighbours within float32's rounding may stand in either order.
        assert cosines_of(question, {hit.external_id: 0 for hit in found.hits}) == pytest.approx(best, abs=5e-5)
        assert np.asarray([hit.score for hit in found.hits]) == pytest.approx(best, abs=5e-5)
        assert found.warnings == ()


@pytest.mark.parametrize("limit", [10, 100])
@pytest.mark.parametrize("share", [1, 2, 8])
async def test_the_graph_finds_nearly_all_of_the_nearest(crowd: Library, share: int, limit: int) -> None:
    among = range(0, COUNT, share)
    wanted = None if share == 1 else {"attributes.n": {"$in": list(among)}}

    recall = []
    for question in QUESTIONS:
        found = await crowd.having(exact_chunks=0).ask(vector=question, mode="semantic", limit=limit, filter=wanted)
        recall.append(len({hit.external_id for hit in found.hits} & set(nearest(question, among, limit))) / limit)
        assert found.warnings == ()
    assert np.mean(recall) >= 0.95, recall


async def test_exact_is_exact_whatever_the_route_was(crowd: Library) -> None:
    narrow = crowd.having(exact_chunks=0)

    for question in QUESTIONS:
        found = await narrow.ids(vector=question, mode="semantic", limit=100, exact=True, ef_search=10)
        best = cosines_of(question, nearest(question, range(COUNT), 100))
        assert cosines_of(question, found) == pytest.approx(best, abs=5e-5)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("mode", ["hybrid", "lexical", "semantic"])
@pytest.mark.parametrize("left", [0, 1, 5, 50])
async def test_a_narrow_filter_leaves_all_that_pass(crowd: Library, route: str, mode: str, left: int) -> None:
    numbers = list(range(7, COUNT, 31))[:left]
    wanted = {"attributes.n": {"$in": numbers}}

    found = await crowd.having(exact_chunks=ROUTES[route]).ask(
        "common", vector=QUESTIONS[0], mode=mode, limit=100, filter=wanted
    )

    assert {hit.external_id for hit in found.hits} == set(map(str, numbers))
    assert found.warnings == ()


@pytest.mark.parametrize("route", ROUTES)
async def test_documents_that_wait_to_be_indexed_take_no_place(api: Api, resources: Resources, route: str) -> None:
    busy = await library(api, resources, [])
    await api.batch(busy.collection.name, [{"text": "waits"}] * 300)
    async with as_owner(direct_url(resources)) as connection:
        await connection.exec_driver_sql("delete from jobs where kind like 'index%%'")
    for n in range(3):
        await api.make_document(busy.collection.name, text=f"bear {n}")
    async with working(resources):
        while (await api.status(busy.collection.name))["documents"]["indexed"] < 3:  # noqa: ASYNC110  over HTTP
            await asyncio.sleep(0.02)

    busy = busy.having(exact_chunks=2 if route == "graph" else 20)
    for mode in ("hybrid", "lexical", "semantic"):
        found = await busy.ask("bear", mode=mode, filter={"title": {"$ne": "x"}})
        assert (len(found.hits), found.warnings) == (3, ())


@pytest.mark.parametrize("mode", ["lexical", "semantic"])
@pytest.mark.parametrize("filtered", [False, True])
async def test_a_leg_alone_goes_on_until_the_limit(tomes: Library, mode: str, *, filtered: bool) -> None:
    fields: dict[str, Any] = {"filter": {"title": {"$ne": "-"}}} if filtered else {}

    hundred = await tomes.ask("leaf twig7", mode=mode, limit=100, **fields)
    ten = await tomes.ask("leaf twig7", mode=mode, limit=10, **fields)

    assert len(hundred.hits) == 100
    assert [hit.document_id for hit in ten.hits] == [hit.document_id for hit in hundred.hits[:10]]
    assert len((await tomes.ask("leaf", mode=mode, limit=100, window=1, **fields)).hits) == 100


async def test_pages_of_a_hybrid_search_end_with_its_window(tomes: Library) -> None:
    found = await tomes.ask("leaf twig7", limit=100, window=5)

    assert 0 < sum(len(hit.chunks) for hit in found.hits) <= 10


@pytest.mark.parametrize("most", range(1, 11))
async def test_a_hit_shows_at_most_so_many_chunks(tomes: Library, most: int) -> None:
    for mode in ("hybrid", "lexical", "semantic"):
        # One tome: of all, a window that cuts through equal scores may hold fewer of a tome's chunks than are asked for.
        one = {"title": "tome1"}
        hits = (await tomes.ask("leaf twig7", mode=mode, limit=3, chunks_per_document=most, filter=one)).hits
        assert [len(hit.chunks) for hit in hits] == [most]
        assert all(len({chunk.chunk_id for chunk in hit.chunks}) == len(hit.chunks) for hit in hits)


async def test_ungrouped_hits_are_one_chunk_each(tomes: Library) -> None:
    for mode in ("hybrid", "lexical", "semantic"):
        hits = (await tomes.ask("tome3 twig7", mode=mode, limit=100, grouped=False)).hits
        assert [len(hit.chunks) for hit in hits] == [1] * 100
        assert len({hit.chunks[0].chunk_id for hit in hits}) == 100
        assert len({hit.document_id for hit in hits}) < 100


class Impatient:
    """A reader whose graph scans end early."""

    driver: Literal["psqlpy", "asyncpg"] = "psqlpy"

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.found: list[int] = []  # semantic candidates of each search

    async def fetch(
        self, statement: Statement, values: Mapping[str, object], *, settings: Mapping[str, str]
    ) -> Sequence[Row]:
        hurry = {"hnsw.max_scan_tuples": "1", "hnsw.ef_search": "1"}
        rows = await self.reader.fetch(statement, values, settings={**settings, **hurry})
        self.found.append(SearchRow._make(rows[0]).semantic)
        return rows

    async def close(self) -> None:
        await self.reader.close()


async def test_a_scan_that_ended_early_says_so(crowd: Library) -> None:
    reader = Impatient(crowd.tools.reader)
    hurried = crowd.having(exact_chunks=0, reader=reader)

    # How many it passes before it ends is the graph's luck, which is another one in every run: 30 to 150, seldom a window's 200.
    for mode in ("semantic", "hybrid"):
        for question in QUESTIONS:
            found = await hurried.ask("common", vector=question, mode=mode)
            expected = ["scan_limit"] if reader.found[-1] < WINDOW else []
            assert [warning.code for warning in found.warnings] == expected, (mode, reader.found)
    assert min(reader.found) < WINDOW
    assert (await hurried.ask("common", mode="lexical")).warnings == ()
    exact = await hurried.ask(vector=QUESTIONS[0], mode="semantic", limit=100, exact=True)
    assert (len(exact.hits), exact.warnings) == (100, ())


async def test_words_that_were_too_frequent_to_select_say_so(crowd: Library) -> None:
    async def codes(question: str, **fields: Any) -> list[str]:
        return [warning.code for warning in (await crowd.ask(question, **fields)).warnings]

    assert await codes("rare common", mode="lexical", budget=10) == ["budget"]
    assert await codes("rare common", budget=10) == ["budget"]
    assert await codes("rare common", budget=10, filter={"attributes.half": 0}) == ["budget"]
    assert await codes("rare common", mode="semantic", budget=10) == []
    assert await codes("rare common", mode="lexical") == []
    assert await codes("common", mode="lexical", budget=1) == []  # The only word is always looked up.
    assert await codes('"rare" common', mode="lexical", budget=1) == []  # A phrase selects by itself.
    assert await codes("rare common", mode="lexical", budget=COUNT + 3) == []


async def test_few_chunks_are_scored_whole_whatever_the_words_cost(crowd: Library) -> None:
    thrifty = crowd.having(lexical_budget=1)

    for fields in ({}, {"filter": {"attributes.half": 0}}):
        found = await thrifty.ask("rare common", mode="lexical", limit=100, **fields)
        assert (len(found.hits), found.warnings) == (100, ())


KEPT_BY = {
    "alone": 1,
    "in a tenth of it": 10,
    "in a fiftieth of it": 50,
}  # Vectors of the graph for each of the collection.


@pytest.mark.parametrize(
    ("chunks", "shared", "way"),
    [
        (1_000, "alone", "scan"),
        (5_000, "alone", "scan"),
        (10_000, "alone", "walk"),
        (10_000, "in a tenth of it", "scan"),
        (19_000, "in a tenth of it", "scan"),
        (19_000, "in a fiftieth of it", "scan"),
        (21_000, "in a fiftieth of it", "walk"),
    ],
)
def test_a_collection_is_scanned_as_long_as_that_is_faster_than_the_graph(chunks: int, shared: str, way: str) -> None:
    collection = replace(COLLECTION, chunk_count=chunks, graph_size=chunks * KEPT_BY[shared])

    assert way_of(Query("bear"), WORDS, collection, exact_chunks=20_000) == way


def test_a_narrow_window_walks_sooner() -> None:
    collection = replace(COLLECTION, chunk_count=5_000, graph_size=5_000)
    narrow = Query("bear", fusion=Fusion(window=10))

    assert way_of(narrow, WORDS, collection, exact_chunks=20_000) == "walk"


def test_what_has_no_graph_is_scanned_up_to_the_setting() -> None:
    """While a bulk load puts it off."""
    collection = replace(COLLECTION, chunk_count=20_000, graph_size=0)

    assert way_of(Query("bear"), WORDS, collection, exact_chunks=20_000) == "scan"


def test_whoever_sets_the_graphs_knob_gets_the_graph_unless_a_filter_needs_the_scan() -> None:
    collection = replace(COLLECTION, chunk_count=5_000, graph_size=500_000)
    wide, exact = Query("bear", limits=Limits(ef_search=80)), Query("bear", limits=Limits(ef_search=80, exact=True))
    filtered = replace(wide, filter=parse_filter({"source": "den"}, declared={}))
    small = replace(collection, chunk_count=2_000)

    assert way_of(wide, WORDS, collection, exact_chunks=20_000) == "walk"
    assert way_of(wide, WORDS, small, exact_chunks=20_000) == "scan"
    assert way_of(filtered, WORDS, collection, exact_chunks=20_000) == "count"
    assert way_of(exact, WORDS, collection, exact_chunks=0) == "scan"


async def test_the_width_of_the_list_is_that_of_one_search(crowd: Library, resources: Resources) -> None:
    """Set by the statement itself, so that a search which asks for it needs no transaction."""
    address = Address.parse(resources.settings.search_database_url.get_secret_value(), tls="off", ca_file=None)
    async with open_held_reader(address) as reader:
        held, found = crowd.having(reader=reader, exact_chunks=0), dict[int | None, float]()
        for wide in (10, 400, None):
            recall = []
            for question in QUESTIONS:
                ids = await held.ids(vector=question, mode="semantic", limit=10, window=10, ef_search=wide)
                recall.append(len(set(ids) & set(nearest(question, range(COUNT), 10))) / 10)
                assert await reader.connection.fetchval("show hnsw.ef_search") == str(EF_SEARCH)
            found[wide] = float(np.mean(recall))

    assert found[10] < found[None] < found[400], found


async def test_the_catalog_knows_the_size_of_the_graph(crowd: Library, resources: Resources) -> None:
    again = await Catalog(resources.primary).find(crowd.collection.tenant_id, crowd.collection.name)

    assert again.chunk_count == COUNT
    assert again.graph_size >= COUNT + 200  # the neighbours' too
