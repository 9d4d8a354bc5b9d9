"""Filters on real rows, through both drivers, against an oracle written from the contract."""

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import psqlpy
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import create_async_engine

from service.db.filters import matches, parameters, skeleton
from service.db.migrate import upgrade
from service.db.roles import MIGRATOR, Passwords, create_roles
from service.db.tables import search_documents
from service.domain.filters import parse_filter
from service.domain.ids import new_id
from service.local.postgres import EmbeddedPostgres
from tests.filter_meanings import MEANINGS, SHELF
from tests.filter_oracle import Oracle
from tests.filter_readers import DIALECT, Readers, compile_filter, parse, store
from tests.filter_world import DECLARED, World

DOCUMENTS = 150
FILTERS = 1_000


@pytest.fixture(scope="session")
async def filter_database(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    postgres = EmbeddedPostgres(tmp_path_factory.mktemp("filters"), settings={"fsync": "off"})
    await postgres.start()
    await create_roles(postgres.url(), Passwords(migrator="m", application="a", searcher="s"))
    await upgrade(postgres.url(MIGRATOR, "m"))
    yield postgres.url()
    await postgres.stop()


@pytest.fixture(scope="session")
async def readers(filter_database: str) -> AsyncIterator[Readers]:
    """Documents without collections (no foreign key is checked), planned as the role of the read pool plans."""
    connection = await asyncpg.connect(filter_database)
    await connection.execute("set session_replication_role = replica; set plan_cache_mode = force_custom_plan")
    pool = psqlpy.ConnectionPool(dsn=filter_database, max_db_pool_size=2)
    async with pool.acquire() as other:
        yield Readers(connection, other)
    pool.close()
    await connection.close()


@pytest.fixture(scope="session")
async def shelf(readers: Readers) -> str:
    return await store(readers.asyncpg, SHELF)


@pytest.mark.parametrize(("raw", "expected"), [m[1:] for m in MEANINGS], ids=[m[0] for m in MEANINGS])
async def test_a_filter_means_what_the_contract_says(
    readers: Readers, shelf: str, raw: dict[str, Any], expected: set[int]
) -> None:
    assert await readers.numbers(parse(raw), shelf) == expected


@pytest.mark.parametrize("seed", range(5))
async def test_random_filters_on_hostile_documents_agree_with_the_oracle(readers: Readers, seed: int) -> None:
    world = World(seed)
    rows = [world.document() for _ in range(DOCUMENTS)]
    collection = await store(readers.asyncpg, rows)
    seen = [row | {"attributes": json.loads(row["attributes"], parse_float=Decimal)} for row in rows]
    oracle = Oracle(DECLARED)

    for _ in range(FILTERS):
        raw = world.filter()
        expected = {number for number, row in enumerate(seen) if oracle.matches(raw, row)}
        assert await readers.numbers(parse(raw), collection) == expected, json.dumps(raw)


async def test_no_filter_asks_for_nothing() -> None:
    assert parse_filter(None, declared={}) is None
    assert parse_filter({}, declared={}) is None


async def test_the_text_depends_on_operators_and_nesting_only() -> None:
    one = parse({"attributes.a": {"$gte": 1}, "$or": [{"attributes.b": ["x"]}, {"title": {"$in": ["t"]}}]})
    other = parse({"$or": [{"title": {"$in": ["u", "v"]}}, {"attributes.c": "y"}], "attributes.d": {"$gte": "z"}})

    assert skeleton(one) == skeleton(other)
    assert hash(skeleton(one)) == hash(skeleton(other))
    assert compile_filter(one) == compile_filter(other)
    assert list(parameters(one)) == list(parameters(other))


@pytest.mark.parametrize(
    "raw",
    [
        {"attributes.a": {"$gt": 1}},
        {"attributes.a.b": {"$gte": 1}},
        {"attributes.year": 1},
        {"title": {"$in": ["a"]}},
        {"source": "a"},
        {"$not": {"attributes.a": 1}},
    ],
    ids=json.dumps,
)
async def test_another_operator_column_or_nesting_is_another_text(raw: dict[str, Any]) -> None:
    assert skeleton(parse(raw)) != skeleton(parse({"attributes.a": 1}))
    assert compile_filter(parse(raw)) != compile_filter(parse({"attributes.a": 1}))


async def test_no_key_and_no_value_stands_in_the_text() -> None:
    raw: dict[str, Any] = {
        f"attributes.SECRET{n}": {operator: "SECRET"} for n, operator in enumerate(("$eq", "$lt", "$contains"))
    }
    raw |= {"attributes.SECRET.SECRET": {"$in": ["SECRET"]}, "title": {"$gte": "SECRET"}, "tags": ["SECRET"]}

    sql, _ = compile_filter(parse(raw))

    assert "SECRET" not in sql


async def test_columns_are_ordered_by_code_point_whatever_the_database_prefers() -> None:
    sql, _ = compile_filter(parse({"title": {"$lt": "a"}}))

    assert '(d.title COLLATE "C") < ' in sql


async def test_a_statement_may_ask_the_same_of_two_sources_and_carries_its_values(
    filter_database: str, readers: Readers, shelf: str
) -> None:
    one, other = search_documents.alias("one"), search_documents.alias("other")
    wanted = parse({"title": {"$in": ["Alpha", "beta"]}, "attributes.year": {"$lte": 2020}})
    statement = select(one.c.chunk_count).join(other, one.c.id == other.c.id)
    statement = statement.where(one.c.collection_id == UUID(shelf), matches(wanted, one), matches(wanted, other))

    engine = create_async_engine(filter_database.replace("postgresql", "postgresql+asyncpg", 1))
    async with engine.connect() as connection:
        found = set(await connection.scalars(statement))
    await engine.dispose()

    assert found == await readers.numbers(wanted, shelf) == {0, 1}
    assert str(statement.compile(dialect=DIALECT)).count("$6") == 0  # Five parameters, not nine.


# Indexes, on a collection large enough to need them.

FILL = """
insert into documents (id, collection_id, chunk_count, external_id, tags, published_at, attributes)
select uuidv7(), $1, n, 'x' || n, array['t' || n % 400, 'u' || n % 7], '2000-01-01Z'::timestamptz + n * interval '9 hours',
       jsonb_build_object('color', 'c' || n % 500, 'list', jsonb_build_array('l' || n % 300), 'year', 1800 + n % 220,
                          'when', to_char(timestamp '2000-01-01' + n * interval '9 hours', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                          'nest', jsonb_build_object('x', 'x' || n % 450, 'n', n % 330))
from generate_series(1, 20000) n
"""


@pytest.fixture(scope="session")
async def library(readers: Readers) -> str:
    collection = new_id()
    await readers.asyncpg.execute(FILL, collection)
    for path in ("'year'", "'when'", "'nest' -> 'n'"):
        await readers.asyncpg.execute(
            f'create index "declared {path}" on documents (collection_id, indexed_value(attributes -> {path}))'
        )
    # The vacuum empties GIN's list of pending entries, whose length its cost estimate counts.
    await readers.asyncpg.execute("vacuum analyze documents")
    return str(collection)


@pytest.mark.parametrize(
    ("raw", "index"),
    [
        ({"attributes.color": "c7"}, "ix_documents_attributes"),
        ({"attributes.color": {"$in": ["c7", "c8"]}}, "ix_documents_attributes"),
        ({"attributes.nest.x": "x7"}, "ix_documents_attributes"),
        ({"attributes.list": {"$contains": "l7"}}, "ix_documents_attributes"),
        ({"attributes.list": {"$overlap": ["l7", "l8"]}}, "ix_documents_attributes"),
        ({"attributes.year": 1900}, "declared 'year'"),
        ({"attributes.year": {"$in": [1900, 1950]}}, "declared 'year'"),
        ({"attributes.year": {"$gte": 2018}}, "declared 'year'"),
        ({"attributes.year": {"$lt": 1802}}, "declared 'year'"),
        ({"attributes.when": {"$lt": "2000-01-20T00:00:00Z"}}, "declared 'when'"),
        ({"attributes.when": "2000-01-20T00:00:00Z"}, "declared 'when'"),
        ({"attributes.nest.n": {"$lte": 2}}, "declared 'nest' -> 'n'"),
        ({"tags": {"$contains": "t7"}}, "ix_documents_tags"),
        ({"tags": {"$overlap": ["t7", "t8"]}}, "ix_documents_tags"),
        ({"published_at": {"$lt": "2000-01-20T00:00:00Z"}}, "ix_documents_collection_id_published_at"),
        ({"external_id": {"$in": ["x7", "x8"]}}, "uq_documents_collection_id_external_id"),
    ],
    ids=str,
)
async def test_an_index_serves(readers: Readers, library: str, raw: dict[str, Any], index: str) -> None:
    plan = await readers.plan(parse(raw), library)

    assert index in plan
    assert "Seq Scan" not in plan
    if index.startswith("declared"):
        assert "Index Cond: ((collection_id = " in plan
        assert "(attributes -> " in plan.split("Index Cond: ")[1].splitlines()[0]


@pytest.mark.parametrize(
    ("operand", "ends"),
    [
        ({"$gt": 2018}, ("> '2018'", "< 'false'")),
        ({"$lte": 1801}, ("<= '1801'", "> '-100000")),
        ({"$gte": 1801, "$lt": 1900}, (">= '1801'", "< '1900'")),
    ],
)
async def test_a_range_ends_in_the_index_on_both_sides(
    readers: Readers, library: str, operand: dict[str, Any], ends: tuple[str, str]
) -> None:
    plan = await readers.plan(parse({"attributes.year": operand}), library)

    condition = plan.split("Index Cond: ")[1].splitlines()[0]
    assert all(end in condition for end in ends)
    assert "jsonb_typeof" not in plan.split("Filter: ")[-1].splitlines()[0]  # Nothing is left to ask of a row.
