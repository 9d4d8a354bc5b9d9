"""A table of the service's own in the filter: docs/howto/filter-by-your-own-table.md, as it stands there."""

import json
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import asyncpg
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from markdown_it import MarkdownIt
from sqlalchemy import (
    REAL,
    Column,
    Connection,
    DateTime,
    Enum,
    MetaData,
    Table,
    Text,
    Uuid,
)

from service.api.openapi.filters import FILTER, joined_fields
from service.db.filters import skeleton
from service.db.joined import JoinedTable, attribute
from service.db.owner import as_owner
from service.domain.errors import InvalidError
from service.domain.filters import parse_filter
from service.resources import Resources
from service.search import ways
from tests.api_calls import Api, Json
from tests.documented import ROOT
from tests.filter_stock import STOCKED, STORE, VALUES, StockOracle, StockWorld
from tests.search_calls import Library, direct_url, directions, library
from tests.search_plans import explain
from tests.test_filter_ways import Knowing, watching

PAGE = ROOT / "docs/howto/filter-by-your-own-table.md"
FILE_NAME = re.compile(r"# (\S+\.py)")


@pytest.fixture(scope="module")
def documented() -> dict[str, str]:
    """The Python of the page by the name of the file that each block begins with, and its JSON as `request`."""
    found = {}
    for token in MarkdownIt().parse(PAGE.read_text(encoding="utf-8")):
        if token.type == "fence" and token.info == "python":
            name = FILE_NAME.match(token.content)
            assert name is not None, token.content
            found[Path(name[1]).name] = token.content
        elif token.type == "fence" and token.info == "json":
            found["request"] = token.content
    return found


def tables_of_page() -> list[list[Json]]:
    """Each table of the page as rows by its head."""
    tables: list[list[Json]] = []
    head: list[str] = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]] if line.startswith("|") else []
        if not cells:
            head = []
        elif not head:
            head = cells
            tables.append([])
        elif set(cells) != {"---"} and not set(line) <= set("|-"):
            tables[-1].append(dict(zip(head, cells, strict=True)))
    return tables


@pytest.fixture(scope="module")
async def joined(documented: dict[str, str], resources: Resources) -> AsyncIterator[Sequence[JoinedTable]]:
    """What the page makes of `service/db/own_tables.py`, after its migration."""
    migration, projects, own_tables = (
        ModuleType(name) for name in ("projects_migration", "service.db.projects", "own_tables")
    )
    run(documented["20270115_1200_expand_projects.py"], migration)
    async with as_owner(direct_url(resources)) as connection:

        def upgrade(sync: Connection) -> None:
            with Operations.context(MigrationContext.configure(sync)):
                migration.upgrade()

        await connection.run_sync(upgrade)
    run(documented["projects.py"], projects)
    sys.modules["service.db.projects"] = projects
    try:
        run(documented["own_tables.py"], own_tables)
    finally:
        del sys.modules["service.db.projects"]
    yield own_tables.JOINED
    async with as_owner(direct_url(resources)) as connection:

        def downgrade(sync: Connection) -> None:
            with Operations.context(MigrationContext.configure(sync)):
                migration.downgrade()

        await connection.run_sync(downgrade)


def run(source: str, module: ModuleType) -> None:
    exec(compile(source, str(PAGE), "exec"), module.__dict__)  # noqa: S102  the page is what is tested


async def asked(books: Library, raw: object, joined: Sequence[JoinedTable]) -> set[str | None]:
    return set(await replace(books, joined=joined).ids("foundation", mode="lexical", limit=100, filter=raw))


@pytest.fixture(scope="module")
async def works(
    api: Api,
    other_api: Api,  # noqa: ARG001  its tenant has a project
    resources: Resources,
    admin: asyncpg.Connection,
    joined: Sequence[JoinedTable],  # noqa: ARG001  after its migration
) -> Library:
    """The tables of the page, in the tables of the database."""
    projects, documents = tables_of_page()
    tenants = dict(await admin.fetch("select name, id from tenants"))
    for row in projects:
        await admin.execute(
            "insert into projects (tenant_id, key, status, budget, confidential, members)"
            " values ($1, $2, $3, $4, $5, $6)",
            *(tenants[row["tenant"]], row["key"], row["status"], Decimal(row["budget"])),
            *(row["confidential"] == "true", row["members"].split(", ")),
        )
    bodies = [
        {"external_id": row["external_id"], "text": row["text"], "tags": [row["tags"]]}
        | ({"attributes": {"project": row["attributes.project"]}} if row["attributes.project"] else {})
        for row in documents
    ]
    assert (len(projects), len(bodies)) == (4, 5)
    return await library(api, resources, bodies)


async def test_the_request_of_the_page_finds_what_the_page_says(
    works: Library, joined: Sequence[JoinedTable], documented: dict[str, str]
) -> None:
    request = json.loads(documented["request"])

    assert await asked(works, request["filter"], joined) == {"bridge-report"}


EVERY = {"bridge-report", "tower-report", "vault-plan", "pier-report", "letter"}
MEANINGS: list[tuple[dict[str, Any], set[str]]] = [
    ({"project.status": "open"}, {"bridge-report", "vault-plan"}),
    ({"project.status": {"$ne": "open"}}, {"tower-report", "pier-report", "letter"}),
    ({"project.status": {"$in": ["closed", "lost"]}}, {"tower-report"}),
    ({"project.status": {"$nin": ["closed", "lost"]}}, EVERY - {"tower-report"}),
    ({"project.key": {"$exists": False}}, {"pier-report", "letter"}),
    ({"project.due": {"$exists": True}}, set()),
    ({"project.budget": 20000.5}, {"bridge-report"}),
    ({"project.budget": {"$gt": 10000, "$lte": 30000}}, {"bridge-report", "tower-report"}),
    ({"project.members": {"$overlap": ["grace", "joan"]}}, {"bridge-report"}),
    ({"project.members": ["ada"]}, {"tower-report", "vault-plan"}),
    ({"$or": [{"project.status": "closed"}, {"project.confidential": True}]}, {"tower-report", "vault-plan"}),
    (
        {"$not": {"$or": [{"project.status": "closed"}, {"project.confidential": True}]}},
        EVERY - {"tower-report", "vault-plan"},
    ),
    ({"tags": {"$contains": "plan"}, "project.status": "open"}, {"vault-plan"}),
]


@pytest.mark.parametrize(("raw", "expected"), MEANINGS)
async def test_a_joined_column_is_asked_like_any_other(
    works: Library, joined: Sequence[JoinedTable], raw: dict[str, Any], expected: set[str]
) -> None:
    assert await asked(works, raw, joined) == expected


@pytest.mark.parametrize(("raw", "expected"), [case for case in MEANINGS if case[1]])
async def test_a_walk_asks_it_of_what_it_passes(
    works: Library,
    joined: Sequence[JoinedTable],
    monkeypatch: pytest.MonkeyPatch,
    raw: dict[str, Any],
    expected: set[str],
) -> None:
    monkeypatch.setattr(ways, "FURTHER", 1_000)  # The nearest may be the only one that is left out.
    walking, seen = watching(replace(works, joined=joined), Knowing(2_100))
    walking = replace(walking, collection=replace(works.collection, graph_size=5))

    n = len(expected)
    found = await walking.ids(vector=directions(1, seed=3)[0], mode="semantic", window=n, limit=n, filter=raw)

    assert set(found) == expected
    assert seen.ways == ["filter"]


async def test_what_changes_in_the_table_counts_in_the_next_search(
    works: Library, joined: Sequence[JoinedTable], admin: asyncpg.Connection
) -> None:
    await admin.execute("update projects set status = 'open' where key = 'tower'")
    found = await asked(works, {"project.status": "open"}, joined)
    await admin.execute("update projects set status = 'closed' where key = 'tower'")

    assert found == {"bridge-report", "tower-report", "vault-plan"}


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({"project.colour": "red"}, "filter.project.colour"),
        ({"project": "bridge"}, "filter.project"),
        ({"project.tenant_id": "x"}, "filter.project.tenant_id"),
        ({"project.status": 1}, "filter.project.status"),
        ({"project.budget": {"$in": [1, "1"]}}, "filter.project.budget.$in.1"),
        ({"project.due": {"$lt": "tomorrow"}}, "filter.project.due.$lt"),
        ({"project.confidential": {"$lt": True}}, "filter.project.confidential.$lt"),
        ({"project.status": {"$contains": "o"}}, "filter.project.status.$contains"),
    ],
)
def test_what_the_column_cannot_hold_is_refused_by_name(joined: Sequence[JoinedTable], raw: object, field: str) -> None:
    with pytest.raises(InvalidError) as refused:
        parse_filter(raw, declared={}, joined=joined)

    assert refused.value.field == field


def test_the_description_of_the_api_lists_the_columns(joined: Sequence[JoinedTable]) -> None:
    described = joined_fields(joined)

    assert list(described) == [f"project.{column}" for column in joined[0].columns]
    assert described["project.due"] == FILTER["properties"]["published_at"]


async def test_without_the_registration_the_prefix_is_an_unknown_column() -> None:
    with pytest.raises(InvalidError, match="unknown column"):
        parse_filter({"project.status": "open"}, declared={})


async def test_no_row_of_another_tenant_is_joined_and_no_foreign_collection_is_read(
    works: Library, joined: Sequence[JoinedTable], other_api: Api, resources: Resources
) -> None:
    """The pier belongs to the second tenant; it finds its own document by it, and the first one's by nothing."""
    theirs = await library(other_api, resources, [{"text": "foundation", "attributes": {"project": "pier"}}])
    foreign = replace(works, collection=replace(works.collection, tenant_id=theirs.collection.tenant_id))

    assert await asked(theirs, {"project.status": "open"}, joined) == {"0"}
    assert await asked(works, {"project.status": "open", "attributes.project": "pier"}, joined) == set()
    with pytest.raises(Exception, match="no such collection"):
        await asked(foreign, {"project.status": {"$ne": "nothing"}}, joined)


@pytest.mark.usefixtures("works")
async def test_the_searcher_may_read_the_view_and_not_the_table(admin: asyncpg.Connection) -> None:
    allowed = await admin.fetchrow(
        "select has_table_privilege('hybrid_searcher', 'search_projects', 'select') as view,"
        " has_table_privilege('hybrid_searcher', 'projects', 'select') as base"
    )

    assert allowed is not None
    assert tuple(allowed) == (True, False)


async def test_a_joined_table_is_looked_up_by_its_key_and_never_read_whole(
    works: Library, joined: Sequence[JoinedTable], resources: Resources, admin: asyncpg.Connection
) -> None:
    await admin.execute(
        "insert into projects (tenant_id, key, status) select tenant_id, 'p' || n, 'open'"
        " from (select tenant_id from projects limit 1) one, generate_series(1, 5000) n"
    )
    await admin.execute("analyze projects")
    wanted = {"project.status": "open", "project.budget": {"$gt": 0}}
    plan = await explain(replace(works, joined=joined), resources, "foundation", mode="lexical", filter=wanted)
    await admin.execute("delete from projects where key ~ '^p[0-9]'")

    assert "projects_pkey" in plan, plan
    assert "Seq Scan on projects" not in plan, plan


@pytest.fixture(scope="module")
async def stocked(
    works: Library,  # noqa: ARG001  its documents
    resources: Resources,
    admin: asyncpg.Connection,
) -> AsyncIterator[Mapping[str, Sequence[Json]]]:
    """Up to three rows for each document of the page."""
    world = StockWorld(0)
    async with as_owner(direct_url(resources)) as connection:
        for statement in STORE:
            await connection.exec_driver_sql(statement)
    rows: dict[str, list[Json]] = {}
    documents = await admin.fetch(
        "select id, external_id, collection_id from documents where external_id = any($1)", list(EVERY)
    )
    for n, document in enumerate(sorted(documents, key=lambda each: str(each["external_id"]))):
        rows[document["external_id"]] = [world.row() for _ in range(n % 4)]
        for row in rows[document["external_id"]]:
            values = [None if row[c] is None else row[c] if c == "marks" else str(row[c]) for c in VALUES]
            await admin.execute(
                "insert into stock values ($1, $2, $3, $4::text::smallint, $5::text::bigint, $6::text::numeric,"
                " $7::text::double precision, $8::text::timestamptz, $9)",
                *(document["collection_id"], document["id"], *values),
            )
    yield rows
    async with as_owner(direct_url(resources)) as connection:
        await connection.exec_driver_sql("drop view search_stock")
        await connection.exec_driver_sql("drop table stock")


@pytest.mark.parametrize("seed", range(2))
async def test_random_filters_on_several_rows_mean_what_the_page_says(
    works: Library, stocked: Mapping[str, Sequence[Json]], seed: int
) -> None:
    world, oracle = StockWorld(seed + 1), StockOracle()
    hits = 0
    for _ in range(100):
        raw = world.filter()
        expected = {name for name, rows in stocked.items() if oracle.matches(raw, rows)}
        assert await asked(works, raw, [STOCKED]) == expected, json.dumps(raw)
        hits += 0 < len(expected) < len(EVERY)

    assert hits > 20  # or nothing would be told apart


def test_keys_and_values_are_no_part_of_the_shape() -> None:
    one, other = (
        parse_filter(raw, declared={}, joined=[STOCKED])
        for raw in (
            {"stock.place": "a", "stock.few": {"$gte": 1, "$lt": 2}},
            {"$and": [{"stock.few": {"$gte": 7}}, {"stock.few": {"$lt": 9}}], "stock.place": "b"},
        )
    )

    assert one is not None
    assert other is not None
    assert skeleton(one) == skeleton(other)
    assert len({skeleton(one), skeleton(other)}) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "attributes"}, "no name"),
        ({"name": "title"}, "no name"),
        ({"name": "a.b"}, "no name"),
        ({"table": Table("t", MetaData(), Column("place", Text)), "columns": ("place",)}, "neither"),
        ({"columns": ("real",)}, "no filter can compare"),
        ({"columns": ("kind",)}, "no filter can compare"),
        ({"columns": ("local",)}, "no filter can compare"),
    ],
)
def test_a_table_that_cannot_be_joined_is_refused_when_the_process_starts(changes: Json, message: str) -> None:
    odd = Table(
        "odd",
        MetaData(),
        Column("tenant_id", Uuid),
        Column("place", Text),
        Column("real", REAL),
        Column("kind", Enum("a", "b")),
        Column("local", DateTime()),
    )
    fields: Json = {
        "name": "odd",
        "table": odd,
        "columns": ("place",),
        "on": lambda d, o: o.c.place == attribute(d, "a", "b"),
    }
    with pytest.raises(TypeError, match=message):
        JoinedTable(**fields | changes)
