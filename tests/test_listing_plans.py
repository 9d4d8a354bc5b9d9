"""Lists and examples stay cheap in a large collection: what Postgres does, as the role of the reading door runs it."""

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from service.db.examples import PLACES
from service.db.listing import read_ids
from service.db.owner import as_owner
from service.db.read_pool import SET_CONFIG
from service.db.retrieval import Statement
from service.domain.documents import Collection
from service.domain.filters import parse_filter
from service.domain.ids import new_id
from service.domain.sorting import Position, parse_sort
from service.resources import Resources
from service.search.listing import Listing, list_page
from tests.api_calls import Api, Json
from tests.search_calls import analyze, collection_of, direct_url
from tests.search_plans import Sent, searcher

COUNT = 20_000
FILL = """
    insert into documents (id, collection_id, external_id, version, indexed_version, title, tags, attributes, chunk_count)
    select uuidv7(), id, number::text, 1, 1, 'title ' || number, array['t' || number % 1000],
           jsonb_build_object('n', number, 'rare', number % 2000), 1
    from collections, generate_series(1, :count) number where name = 'plans'
"""


@pytest.fixture(scope="module")
async def plans(api: Api, resources: Resources) -> Collection:
    await api.make_collection("plans")
    async with as_owner(direct_url(resources)) as owner:
        await owner.execute(text(FILL), {"count": COUNT})
        await owner.execute(text("create index test_n on documents (collection_id, indexed_value(attributes -> 'n'))"))
    await analyze(resources)
    return await collection_of(api, resources, "plans")


async def explained(resources: Resources, sql: str, values: list[Any], tenant_id: UUID) -> str:
    async with searcher(resources) as connection, connection.transaction():
        await connection.execute(SET_CONFIG, ["app.tenant_id"], [str(tenant_id)])
        rows = await connection.fetch(f"explain (analyze, costs off, timing off, summary off) {sql}", *values)
    return "\n".join(line for (line,) in rows)


async def plan_of(
    resources: Resources, collection: Collection, filter_: Json, sort: str | None, after: Position | None = None
) -> str:
    sent = Sent(resources.reader)
    declared = {"n": "integer"}
    wanted = parse_filter(filter_, declared=declared)
    await read_ids(collection, wanted, parse_sort(sort, declared=declared), after=after, limit=21, reader=sent)
    return await explained(resources, sent.sql, sent.values, collection.tenant_id)


@pytest.mark.parametrize("sort", [None, "title", "-attributes.n", "external_id"])
@pytest.mark.parametrize(
    ("filter_", "index"),
    [
        ({"attributes.rare": 7}, "ix_documents_attributes"),
        ({"tags": {"$contains": "t5"}}, "ix_documents_tags"),
        ({"attributes.n": {"$gte": 5, "$lt": 25}}, "test_n"),
        ({"external_id": "77"}, "uq_documents_collection_id_external_id"),
    ],
    ids=str,
)
async def test_a_narrow_filter_of_a_list_has_its_index(
    resources: Resources, plans: Collection, filter_: Json, index: str, sort: str | None
) -> None:
    for after in (None, Position(None if sort is None else "5", new_id())):
        plan = await plan_of(resources, plans, filter_, sort, after)

        assert index in plan, plan
        assert "Seq Scan on documents" not in plan


async def test_the_newest_of_a_wide_filter_are_read_in_the_order_of_their_ids(
    resources: Resources, plans: Collection
) -> None:
    plan = await plan_of(resources, plans, {"attributes.n": {"$ne": 5}}, None)

    assert "Sort" not in plan, plan
    assert "Index Scan Backward" in plan


async def test_a_filter_goes_through_the_door_where_it_has_its_index(resources: Resources, plans: Collection) -> None:
    wanted = parse_filter({"attributes.rare": 7}, declared={})
    listings = {
        "reader": [
            Listing(wanted, None, None),
            Listing(wanted, parse_sort("-title", declared={}), None),
            Listing(wanted, parse_sort("created_at", declared={}), None),
        ],
        "primary": [
            Listing(None, parse_sort("title", declared={}), None),
            Listing(wanted, None, "indexed"),
        ],
    }

    for door, some in listings.items():
        for listing in some:
            sent = Sent(resources.reader)
            await list_page(listing, plans, after=None, limit=5, primary=resources.primary, reader=sent)
            assert bool(sent.sql) is (door == "reader"), listing


async def test_an_example_is_found_by_its_names(resources: Resources, plans: Collection) -> None:
    statement: Statement = PLACES
    values = {
        "collection": plans.id,
        "profile": resources.profile.id,
        "ids": [new_id()],
        "external_ids": ["5", "17"],
    }

    plan = await explained(
        resources, statement.sql, statement.bind(values, {"app.tenant_id": str(plans.tenant_id)}), plans.tenant_id
    )

    assert "Seq Scan on documents" not in plan, plan
    assert "uq_documents_collection_id_external_id" in plan
    assert "Rows Removed by Filter: 1" not in plan, plan
