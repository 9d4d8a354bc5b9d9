"""Many tenants and small collections in one index, beside a large one: nobody loses a neighbour to the others."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import asyncpg
import numpy as np
import pytest
from pgvector import HalfVector
from pgvector.asyncpg import register_vector

from service.db.owner import as_owner
from service.db.read_pool import Reader, Row
from service.db.retrieval import Statement
from service.domain.ids import new_id
from service.resources import Resources
from service.search.catalog import Catalog
from service.telemetry.loads import PoolLoad
from tests.api_calls import Api
from tests.left_out import thorough
from tests.search_calls import DIMENSION, Library, analyze, collection_of, direct_url, halves, searching
from tests.search_plans import explain
from tests.test_search_plans import BY_COLLECTION, GRAPH, MODES, executed

SMALL, LARGE, SCANNED = 40, 15_000, 13_000  # collections, chunks, and what is searched exactly
TOPICS, LATENT = 60, 24  # Everybody writes about the same things: what is near is mostly somebody else's.
DEPTH = 10
EXACT, NEAREST = " embeddings", " embeddings_1"  # what the plan calls the two branches

FILLED = """
with d as (insert into documents (id, collection_id, external_id, version, indexed_version, chunk_count)
           select id, collection_id, name, 1, 1, 1 from loaded),
     k as (insert into chunks (id, collection_id, document_id, ordinal, text, char_start, char_end)
           select id, collection_id, id, 0, name, 0, 1 from loaded),
     t as (insert into chunk_terms (chunk_id, collection_id, document_id, terms, bm25, length, epoch)
           select id, collection_id, id, '{}', '{}/1000000000', 1, 1 from loaded),
     c as (update collections set chunk_count = n
           from (select collection_id, count(*)::int as n from loaded group by 1) counted where id = collection_id)
insert into embeddings (chunk_id, profile_id, collection_id, document_id, embedding)
select id, $1, collection_id, id, embedding from loaded
"""


@dataclass
class Planned:
    """A reader whose statements are planned in one way."""

    reader: Reader
    mode: str

    async def fetch(
        self, statement: Statement, values: Mapping[str, object], *, settings: Mapping[str, str]
    ) -> Sequence[Row]:
        return await self.reader.fetch(statement, values, settings={**settings, "plan_cache_mode": self.mode})

    def loads(self) -> Mapping[str, PoolLoad]:
        return self.reader.loads()

    async def close(self) -> None:
        await self.reader.close()


@dataclass(frozen=True)
class Shelf:
    """A collection and its vectors: row n belongs to the document called n."""

    library: Library
    vectors: np.ndarray

    async def recall(self, questions: np.ndarray, mode: str) -> float:
        library = self.library.having(reader=Planned(self.library.tools.reader, mode))
        exact, found = halves(self.vectors), 0.0
        for question in questions:
            wanted = np.argsort(-(exact @ halves(question)), kind="stable")[:DEPTH]
            ids = await library.ids(mode="semantic", vector=question, limit=DEPTH)
            assert len(ids) == min(DEPTH, len(self.vectors))
            found += len({str(n) for n in wanted} & set(ids)) / len(ids)
        return found / len(questions)


class Space:
    """Points in the few dimensions that embeddings of texts really have, around topics."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.topics = self.random.normal(size=(TOPICS, LATENT))
        self.out = self.random.normal(size=(LATENT, DIMENSION))

    def points(self, number: int) -> np.ndarray:
        near = self.topics[self.random.integers(TOPICS, size=number)] + self.random.normal(size=(number, LATENT)) * 0.5
        noise = self.random.normal(size=(number, DIMENSION)) * 0.3
        return (near @ self.out + noise).astype(np.float16).astype(np.float32)


@pytest.fixture(scope="module")
async def shelves(
    connect: Callable[[str], Awaitable[Api]], resources: Resources, admin: asyncpg.Connection
) -> list[Shelf]:
    """The large one first."""
    space = Space(3)
    tenants = [await connect(name) for name in ("first", "second", "third")]
    sizes = [LARGE, *(5 + 10 * n for n in range(SMALL))]
    shelves = []
    for n, size in enumerate(sizes):
        api = tenants[n % len(tenants)]
        name = await api.make_collection()
        shelves.append(
            Shelf(
                Library(await collection_of(api, resources, name), searching(resources)).having(exact_chunks=SCANNED),
                space.points(size),
            )
        )
    graph = f"embeddings_p_{resources.profile.id.hex}"
    async with as_owner(direct_url(resources)) as connection:
        await connection.exec_driver_sql(f"drop index {graph}_hnsw")
    await register_vector(admin)
    await admin.execute("create temporary table loaded (id uuid, collection_id uuid, name text, embedding halfvec)")
    rows = (
        (new_id(), shelf.library.collection.id, str(n), HalfVector(vector))
        for shelf in shelves
        for n, vector in enumerate(halves(shelf.vectors))
    )
    await admin.copy_records_to_table("loaded", records=rows)
    await admin.execute(FILLED, resources.profile.id)
    await admin.execute("drop table loaded")
    async with as_owner(direct_url(resources)) as connection:
        await connection.exec_driver_sql(
            f"create index {graph}_hnsw on {graph} using hnsw ((embedding::halfvec({DIMENSION})) halfvec_ip_ops)"
        )
    await analyze(resources)
    catalog = Catalog(resources.primary)
    known = [await catalog.find(of.tenant_id, of.name) for of in (shelf.library.collection for shelf in shelves)]
    return [
        replace(shelf, library=replace(shelf.library, collection=of)) for shelf, of in zip(shelves, known, strict=True)
    ]


@thorough
@pytest.mark.parametrize("mode", MODES)
async def test_nobody_loses_a_neighbour_to_the_others(shelves: list[Shelf], mode: str) -> None:
    space = Space(3)
    large, small = shelves[0], shelves[1:]

    assert [await shelf.recall(space.points(3), mode) for shelf in small] == [1.0] * SMALL
    assert await large.recall(space.points(60), mode) >= 0.99


@thorough
@pytest.mark.parametrize("mode", MODES)
async def test_each_takes_the_way_of_its_own_size(shelves: list[Shelf], resources: Resources, mode: str) -> None:
    settings, question = {"plan_cache_mode": mode}, Space(5).points(1)[0]
    large, small = [
        await explain(shelf.library, resources, mode="semantic", vector=question, settings=settings)
        for shelf in (shelves[0], shelves[-1])
    ]

    # A generic plan takes every collection for one of the average size; the graph is walked whatever it believes.
    assert executed(large, GRAPH), large
    assert not executed(large, BY_COLLECTION)
    assert executed(small, BY_COLLECTION), small
    assert not executed(small, GRAPH)
    for plan in (large, small):
        assert not executed(plan, r"Seq Scan on (documents|chunks|chunk_terms|embeddings)"), plan
    assert (re.search(r"uuid_eq\(.*collection_id, \$", large) is not None) is (mode == "force_generic_plan")


@thorough
async def test_a_collection_of_another_tenant_stays_closed(shelves: list[Shelf]) -> None:
    mine, theirs = shelves[1].library, shelves[2].library
    foreign = replace(theirs, collection=replace(theirs.collection, tenant_id=mine.collection.tenant_id))

    with pytest.raises(Exception, match="no such collection"):
        await foreign.ask(mode="semantic", vector=shelves[2].vectors[0])
