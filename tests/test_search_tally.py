"""Facets and the count, against a recount without SQL: by either driver, of any shape, sealed against other tenants."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import asyncpg
import pytest

from service.db.addresses import Address
from service.db.read_asyncpg import AsyncpgReader
from service.db.read_pool import Reader, Row
from service.db.read_psqlpy import PsqlpyReader
from service.db.retrieval import Statement
from service.db.tally import SHAPES, tally_of
from service.domain.errors import NotFoundError
from service.domain.ids import new_id
from service.resources import Resources
from tests.api_calls import Api, Json
from tests.filter_oracle import Oracle
from tests.filter_world import World
from tests.search_calls import Library, collection_of, fill, library, searching
from tests.search_plans import Sent, searcher
from tests.tally_oracle import Asked, about
from tests.tally_world import DECLARED, FACETS, Shelf, check, random_document, random_question, see, tallied


@pytest.fixture(scope="module")
async def shelf(api: Api, resources: Resources, admin: asyncpg.Connection) -> Shelf:
    documents = [random_document(World(seed)) for seed in range(300)]
    name = await api.make_collection("shelf")
    await fill(api, resources, name, [{"external_id": str(n), **d} for n, d in enumerate(documents)])
    await api.client.patch(f"/v1/collections/{name}", json={"attributes": DECLARED})
    collection = await collection_of(api, resources, name)
    return Shelf(Library(collection, searching(resources)), await see(admin, collection.id, documents))


@pytest.fixture(scope="module")
async def on_both(shelf: Shelf, resources: Resources) -> AsyncIterator[list[Library]]:
    """The same collection by either driver."""
    address = Address.parse(resources.settings.search_database_url.get_secret_value(), tls="off", ca_file=None)
    tracked = resources.settings.pg_statement_mode == "tracked"
    plain = AsyncpgReader(address, pool_size=2, queue=100, tracked=tracked)
    rare = AsyncpgReader(address, pool_size=2, queue=100, tracked=tracked)
    psqlpy = PsqlpyReader(address, pool_size=2, queue=100, tracked=tracked, rare=rare)
    yield [shelf.library.having(reader=psqlpy), shelf.library.having(reader=plain)]
    await psqlpy.close()
    await plain.close()


async def test_all_that_matches_is_counted_as_a_recount_does(shelf: Shelf, on_both: Sequence[Library]) -> None:
    world, oracle = World(5), Oracle(DECLARED)
    sizes = set()
    for n in range(80):
        question, asked = random_question(world.random)
        raw = world.random.choice((None, world.filter(), {"attributes.rank": {"$gte": n % 6}}))
        mode = world.random.choice(("lexical", "semantic"))
        saying = about(shelf.seen, asked if mode == "lexical" else replace(asked, words=()))
        expected = [seen for seen in saying if oracle.matches(raw or {}, seen.fields)]
        sizes.add(len(expected))
        for reading in on_both:
            found = await tallied(reading, question, mode=mode, filter=raw)
            check(found, expected, "eq", "matches")
    assert len(sizes) > 20


@pytest.mark.parametrize("fields", [{"mode": "hybrid"}, {"mode": "lexical", "score_threshold": 0.1}])
async def test_a_window_is_counted_by_the_documents_of_its_chunks(
    shelf: Shelf, on_both: Sequence[Library], fields: dict[str, Any]
) -> None:
    random, chunks = Random(3), shelf.chunks()  # noqa: S311  repeatable, not secret
    for size in (0, 1, 7, 200):
        window = random.sample(chunks, size)
        for reading in on_both:
            found = await tallied(reading, "bear", window, filter={"attributes.rank": 1}, **fields)
            check(found, shelf.holding(window), "eq", "window")


async def test_no_budget_and_no_limit_bounds_the_count(shelf: Shelf, on_both: Sequence[Library]) -> None:
    expected = about(shelf.seen, Asked(["moss", "lynx"]))
    for fields in ({}, {"budget": 1}, {"limit": 1}, {"window": 1}, {"grouped": False}):
        check(await tallied(on_both[0], "moss lynx", mode="lexical", **fields), expected, "eq", "matches")


async def test_only_what_is_asked_for_is_answered(on_both: Sequence[Library]) -> None:
    for reading in on_both:
        facets, count = await tallied(reading, "bear", mode="lexical", facets=(), count=True)
        assert facets is None
        assert count is not None
        facets, count = await tallied(reading, "bear", mode="lexical", facets=("tags",), count=False)
        assert list(facets or {}) == ["tags"]
        assert count is None


async def test_a_question_without_a_word_that_counts_matches_nothing(on_both: Sequence[Library]) -> None:
    for reading in on_both:
        check(await tallied(reading, "the", mode="lexical"), [], "eq", "matches")
        check(await tallied(reading, "nowhere", mode="lexical"), [], "eq", "matches")


SHAPED: tuple[tuple[str, Json], ...] = tuple(
    (question, {"mode": mode, "filter": filter_})
    for question in ("bear", 'bear "bear"', "bear -hawk", 'bear "bear" -hawk')
    for mode in ("hybrid", "lexical", "semantic")
    for filter_ in (None, {"attributes.rank": {"$gte": 1}})
)


async def test_no_shape_counts_anything_for_a_foreign_tenant(shelf: Shelf, on_both: Sequence[Library]) -> None:
    window = shelf.chunks()
    foreign = replace(shelf.library.collection, tenant_id=new_id())
    for question, fields in SHAPED:
        for reading in on_both:
            _, count = await tallied(reading, question, window, **fields)
            assert count is not None
            assert count.value, (question, fields)
            with pytest.raises(NotFoundError):
                await tallied(replace(reading, collection=foreign), question, window, **fields)


async def test_no_shape_gives_a_row_without_a_tenant(shelf: Shelf, resources: Resources) -> None:
    sent, window = Sent(shelf.library.tools.reader), shelf.chunks()
    async with searcher(resources) as connection:
        for question, fields in SHAPED:
            await tallied(shelf.library.having(reader=sent), question, window, **fields)
            for tenant in ("", str(new_id())):
                bound = sent.bound(tenant=tenant)
                assert await connection.fetch(sent.sql, *bound) == [], fields
                plan = await connection.fetch(f"explain (analyze, costs off, timing off) {sent.sql}", *bound)
                scans = [line for (line,) in plan if "Scan" in line and ("documents" in line or "chunk_terms" in line)]
                assert scans
                assert all("never executed" in line for line in scans), scans


async def test_a_window_with_chunks_of_another_collection_counts_its_own_alone(
    shelf: Shelf, other_api: Api, resources: Resources
) -> None:
    other = await library(other_api, resources, [{"text": "bear", "tags": ["theirs"]}])
    found = await tallied(other, "bear", shelf.chunks())

    check(found, [], "eq", "window")


class Keeping:
    """A reader that keeps every statement it was given."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.statements: set[Statement] = set()

    async def fetch(self, statement: Statement, *values: Any, **settings: Any) -> Sequence[Row]:
        self.statements.add(statement)
        return await self.reader.fetch(statement, *values, **settings)


async def test_only_nine_shapes_without_a_filter_are_prepared(shelf: Shelf) -> None:
    keeping = Keeping(shelf.library.tools.reader)
    for question, fields in SHAPED:
        for facets in (("tags",), FACETS):
            await tallied(shelf.library.having(reader=keeping), question, facets=facets, **fields)

    prepared = [statement for statement in keeping.statements if statement.prepared]
    assert len(prepared) == 9  # The window, and two modes with and without phrases and exclusions.
    assert len(keeping.statements) == 9 + 8
    assert tally_of.cache_info().maxsize == SHAPES
