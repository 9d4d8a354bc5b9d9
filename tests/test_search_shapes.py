"""Every shape of the statement: sealed against other tenants, and the same answer from either driver."""

from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import product
from random import Random
from typing import Any

import asyncpg
import pytest

from service.db.addresses import Address
from service.db.read_asyncpg import AsyncpgReader
from service.db.read_psqlpy import PsqlpyReader
from service.db.retrieval import SHAPES, Statements
from service.domain.errors import NotFoundError
from service.domain.ids import new_id
from service.domain.queries import WINDOW
from service.resources import Resources
from service.search.ways import Left
from tests.api_calls import Api
from tests.search_calls import Library, directions, library
from tests.search_plans import Sent, searcher

WORDS = ["bear", "wolf", "otter", "raven", "salmon", "thistle"]
FIELDS: list[dict[str, Any]] = [
    {"mode": mode, "method": method, "grouped": grouped, "filter": filter_, "phrased": phrased, "excluding": excluding}
    for mode, method, grouped, filter_, phrased, excluding in product(
        ("hybrid", "lexical", "semantic"),
        ("linear", "rrf"),
        (True, False),
        (None, {"attributes.n": {"$gte": 3}}),
        (False, True),
        (False, True),
    )
]


@pytest.fixture(scope="module")
async def woods(api: Api, resources: Resources) -> Library:
    vectors = directions(60, seed=9)
    return await library(
        api,
        resources,
        [
            {"text": " ".join(WORDS[(n * k) % 6] for k in range(2, 9)), "vector": v.tolist(), "attributes": {"n": n}}
            for n, v in enumerate(vectors)
        ],
    )


def address(resources: Resources) -> Address:
    return Address.parse(resources.settings.search_database_url.get_secret_value(), tls="off", ca_file=None)


def tracked(resources: Resources) -> bool:
    return resources.settings.pg_statement_mode == "tracked"


@pytest.fixture(scope="module")
async def on_asyncpg(on_psqlpy: Library, resources: Resources) -> AsyncIterator[Library]:
    """With the same statements: to compile one costs more than to run it."""
    reader = AsyncpgReader(address(resources), pool_size=4, queue=100, tracked=tracked(resources))
    yield on_psqlpy.having(reader=reader)
    await reader.close()


@pytest.fixture(scope="module")
async def on_psqlpy(woods: Library, resources: Resources) -> AsyncIterator[Library]:
    rare = AsyncpgReader(address(resources), pool_size=2, queue=100, tracked=tracked(resources))
    reader = PsqlpyReader(address(resources), pool_size=4, queue=100, tracked=tracked(resources), rare=rare)
    yield woods.having(reader=reader, statements=Statements())
    await reader.close()


def asked(fields: dict[str, Any], question: str = "bear otter") -> tuple[str, dict[str, Any]]:
    rest = {name: value for name, value in fields.items() if name not in {"phrased", "excluding"}}
    return question + ' "bear"' * fields["phrased"] + " -thistle" * fields["excluding"], rest


@pytest.mark.parametrize("exact_chunks", [13_000, 0])
async def test_no_shape_shows_a_foreign_tenant_anything(
    on_psqlpy: Library, on_asyncpg: Library, exact_chunks: int
) -> None:
    foreign = replace(on_psqlpy.collection, tenant_id=new_id())

    for fields in FIELDS:
        question, rest = asked(fields)
        assert (await on_psqlpy.having(exact_chunks=exact_chunks).ask(question, **rest)).hits, fields
        for reading in (on_psqlpy, on_asyncpg):
            with pytest.raises(NotFoundError):
                await replace(reading.having(exact_chunks=exact_chunks), collection=foreign).ask(question, **rest)


async def test_no_shape_gives_a_row_without_a_tenant(on_psqlpy: Library, resources: Resources) -> None:
    sent = Sent(on_psqlpy.tools.reader)
    async with searcher(resources) as connection:
        for fields in FIELDS:
            question, rest = asked(fields)
            await on_psqlpy.having(reader=sent).ask(question, **rest)
            for tenant in ("", str(new_id())):
                # Whatever the connection was left with: the statement's own tenant counts.
                await connection.execute(
                    "select set_config('app.tenant_id', $1, false)", sent.settings["app.tenant_id"]
                )
                assert await connection.fetch(sent.sql, *sent.bound(tenant=tenant)) == [], fields


NO_INDEX = ("enable_indexscan", "enable_bitmapscan", "enable_indexonlyscan")


@pytest.mark.parametrize("off", [(), NO_INDEX, ("enable_nestloop",), (*NO_INDEX, "enable_nestloop")])
@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_the_tenant_that_a_statement_names_is_seen_by_row_security_in_every_plan(
    on_psqlpy: Library, resources: Resources, off: tuple[str, ...], mode: str
) -> None:
    sent = Sent(on_psqlpy.tools.reader)
    await on_psqlpy.having(reader=sent).ask("bear")
    async with searcher(resources) as connection:
        for setting in off:
            await connection.execute(f"set {setting} = off")
        await connection.execute(f"set plan_cache_mode = {mode}")

        assert len(await connection.fetch(sent.sql, *sent.bound())) > 0

        assert not await connection.fetchval("select current_setting('app.tenant_id', true)")


@pytest.mark.parametrize(
    "table",
    ["documents", "document_versions", "chunks", "chunk_terms", "embeddings", "tenants", "api_keys", "jobs"],
)
async def test_the_searcher_reads_no_table_of_rows(resources: Resources, woods: Library, table: str) -> None:
    async with searcher(resources) as connection:
        await connection.execute("select set_config('app.tenant_id', $1, false)", str(woods.collection.tenant_id))
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch(f"select 1 from {table}")  # noqa: S608  spelled above


@pytest.mark.parametrize(
    "statement",
    [
        "delete from collections",
        "update search_documents set title = 'x'",
        "insert into lexeme_frequencies values (uuidv7(), 1, 2)",
        "create table t (id int)",
        "set role hybrid_owner",
        "select tenant_of_key('\\x00')",
        "copy collections to program 'true'",
        "select pg_read_file('postgresql.conf')",
    ],
)
async def test_the_searcher_writes_nothing(resources: Resources, statement: str) -> None:
    async with searcher(resources) as connection:
        # The role's own setting is no wall: anyone may turn it off.
        await connection.execute("set default_transaction_read_only = off")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)


async def test_the_searcher_owns_nothing_and_obeys_row_security(resources: Resources) -> None:
    async with searcher(resources) as connection:
        role = await connection.fetchrow(
            "select rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication from pg_roles where rolname = current_user"
        )
        assert not any(role)
        assert await connection.fetchval("select count(*) from pg_class where relowner = current_user::regrole") == 0
        member = "select count(*) from pg_auth_members where member = current_user::regrole"
        assert await connection.fetchval(member) == 0
        assert await connection.fetchval("select count(*) from collections") == 0


async def test_both_drivers_find_the_same_in_the_same_order(on_psqlpy: Library, on_asyncpg: Library) -> None:
    random = Random(11)  # noqa: S311  repeatable, not secret
    for _ in range(200):
        fields = dict(random.choice(FIELDS))
        fields |= {
            "limit": random.choice((1, 3, 10, 100)),
            "chunks_per_document": random.choice((1, 3)),
            "window": random.choice((7, 200, 200, 200)),
            "alpha": random.choice((0.0, 0.6, 1.0)),
            "k": random.choice((1.0, 60.0)),
        }
        if fields["filter"]:
            fields["filter"] = random.choice(
                (
                    {"attributes.n": {"$gte": random.randrange(50)}},
                    {"attributes.n": {"$in": random.sample(range(60), 5)}, "tags": {"$exists": True}},
                    {"$or": [{"external_id": str(random.randrange(60))}, {"attributes.n": {"$lt": 9}}]},
                )
            )
        question, rest = asked(fields, " ".join(random.sample(WORDS, 2)))
        one, other = await on_psqlpy.ask(question, **rest), await on_asyncpg.ask(question, **rest)
        assert one == other, (question, rest)


async def test_the_shapes_beyond_those_that_are_prepared_work_too(on_psqlpy: Library, on_asyncpg: Library) -> None:
    reader = on_psqlpy.tools.reader
    assert isinstance(reader, PsqlpyReader)
    reader.rare = beside = Sent(reader.rare)
    names = [f"{'a.' * (n % 8)}n" for n in range(SHAPES + 8)]
    for n, name in enumerate(names):
        fields: dict[str, Any] = {"filter": {"$or": [{f"attributes.{name}": 1}] * (1 + n // 8) + [{"attributes.n": 5}]}}
        fields["mode"] = "lexical"
        assert await on_psqlpy.ask("bear", **fields) == await on_asyncpg.having(left=Left()).ask("bear", **fields)

    statements = on_psqlpy.tools.statements
    assert len(statements.prepared) == SHAPES
    assert all(not statement.prepared for statement in statements.rare.values())
    assert 0 < len(statements.rare) <= SHAPES
    assert beside.sql == next(reversed(statements.rare.values())).sql  # psqlpy's cache of statements never shrinks.
    assert await on_psqlpy.ids("bear", filter={"attributes.n": 5}) == ["5"]


async def test_no_client_can_use_the_prepared_shapes_up_with_windows_of_its_own(on_psqlpy: Library) -> None:
    fresh = on_psqlpy.having(statements=Statements())
    for window in range(1, 20):
        await fresh.ask("bear", window=window)

    assert [shape.window for shape in fresh.tools.statements.prepared] == [10]  # the only one of them that many ask for
    await fresh.ask("bear")
    assert [shape.window for shape in fresh.tools.statements.prepared] == [10, WINDOW]
