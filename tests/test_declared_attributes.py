"""What a collection declares: checked when it is written and when it is asked, and served by an index that a search uses."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from service.db.attribute_indexes import attribute_index_name, changing_indexes, drop_index
from service.resources import Resources
from service.search.catalog import Catalog
from service.search.warnings import SCANNED_CHUNKS
from service.search.ways import Left
from tests.api_calls import Api, fields
from tests.search_calls import Library, analyze, direct_url, library
from tests.search_plans import explain
from tests.test_search_plans import MODES, executed
from tests.worker_calls import until_idle, working_with

DOCUMENTS = SCANNED_CHUNKS + 1_000
TYPES = {
    "s": "string",
    "i": "integer",
    "n": "number",
    "b": "boolean",
    "t": "timestamp",
    "l": "string[]",
    "deep.er": "integer",
}

# Documents with one chunk and its words: what a lexical search reads, without vectors.
FILL = """
with c as (select id from collections where name = $1),
     d as (insert into documents (id, collection_id, external_id, version, indexed_version, chunk_count, attributes)
           select uuidv7(), c.id, 'x' || n, 1, 1, 1, jsonb_build_object(
             's', 's' || to_char(n, 'FM00000'), 'i', n, 'n', n + 0.5, 'b', n % 1000 = 0, 'l', jsonb_build_array('l' || n % 900),
             't', to_char(timestamp '2000-01-01' + n * interval '9 hours', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
             'u', n, 'deep', jsonb_build_object('er', n))
           from c, generate_series(1, $2::int) n returning id, collection_id),
     k as (insert into chunks (id, collection_id, document_id, ordinal, text, char_start, char_end)
           select uuidv7(), collection_id, id, 0, 'seed', 0, 4 from d returning id, collection_id, document_id)
insert into chunk_terms (chunk_id, collection_id, document_id, terms, bm25, length, epoch)
select id, collection_id, document_id, array[term_id(collection_id, 'seed')],
       ('{' || term_id(collection_id, 'seed') || ':1}/1000000000')::sparsevec, 1, 1 from k
"""


async def looked_up(resources: Resources, library: Library) -> Library:
    """The collection as the next search would find it."""
    tenant_id, name = library.collection.tenant_id, library.collection.name
    return replace(library, collection=await Catalog(resources.primary).find(tenant_id, name))


@pytest.fixture(scope="module")
async def undeclared(api: Api, resources: Resources, admin: asyncpg.Connection) -> Library:
    filled = await library(api, resources, [{"text": "seed"}])
    await admin.execute(FILL, filled.collection.name, DOCUMENTS)
    await admin.execute(
        "update collections set chunk_count = $2 where name = $1", filled.collection.name, DOCUMENTS + 1
    )
    await analyze(resources)
    return await looked_up(resources, filled)


async def test_a_range_of_an_undeclared_attribute_is_right_and_warned_of(undeclared: Library) -> None:
    found = await undeclared.ask("seed", mode="lexical", filter={"attributes.u": {"$lte": 2}})

    assert {hit.external_id for hit in found.hits} == {"x1", "x2"}
    assert [(each.code, "attributes.u" in each.message) for each in found.warnings] == [("unindexed_filter", True)]


async def test_the_response_carries_the_warning(api: Api, undeclared: Library) -> None:
    answer = await api.client.post(
        f"/v1/collections/{undeclared.collection.name}/search",
        json={"query": "seed", "mode": "lexical", "filter": {"attributes.u": {"$gte": 2}}},
    )

    assert [warning["code"] for warning in answer.json()["warnings"]] == ["unindexed_filter"]


@pytest.fixture(scope="module")
async def declared(api: Api, resources: Resources, admin: asyncpg.Connection, undeclared: Library) -> Library:
    answer = await api.client.patch(f"/v1/collections/{undeclared.collection.name}", json={"attributes": TYPES})
    assert answer.status_code == 200, answer.text
    async with working_with(resources)(direct_url=direct_url(resources)):
        await until_idle(admin)
    await analyze(resources)
    return await looked_up(resources, undeclared)


ASKED: list[tuple[str, dict[str, Any], set[str]]] = [
    ("s", {"$eq": "s00007"}, {"x7"}),
    ("s", {"$in": ["s00007", "s00008"]}, {"x7", "x8"}),
    ("s", {"$lt": "s00003"}, {"x1", "x2"}),
    ("i", {"$eq": 7}, {"x7"}),
    ("i", {"$in": [7, 8.0]}, {"x7", "x8"}),
    ("i", {"$lte": 2}, {"x1", "x2"}),
    ("i", {"$gt": DOCUMENTS - 1}, {f"x{DOCUMENTS}"}),
    ("n", {"$eq": 7.5}, {"x7"}),
    ("n", {"$in": [7.5, 8.5]}, {"x7", "x8"}),
    ("n", {"$gte": 2, "$lt": 4}, {"x2", "x3"}),
    ("b", {"$eq": True}, {f"x{n}" for n in range(1_000, DOCUMENTS + 1, 1_000)}),
    ("b", {"$in": [True]}, {f"x{n}" for n in range(1_000, DOCUMENTS + 1, 1_000)}),
    ("t", {"$eq": "2000-01-01T10:00:00+01:00"}, {"x1"}),
    ("t", {"$in": ["2000-01-01T09:00:00Z", "2000-01-01T18:00:00Z"]}, {"x1", "x2"}),
    ("t", {"$lt": "2000-01-02T00:00:00Z"}, {"x1", "x2"}),
    ("deep.er", {"$lt": 3}, {"x1", "x2"}),
]


@pytest.mark.parametrize(("key", "operand", "found"), ASKED)
async def test_the_index_of_a_declared_attribute_serves_a_search(
    declared: Library, resources: Resources, key: str, operand: dict[str, Any], found: set[str]
) -> None:
    filter_ = {f"attributes.{key}": operand}
    plan = await explain(declared, resources, "seed", mode="lexical", filter=filter_)

    assert executed(plan, attribute_index_name(key)), plan
    assert not executed(plan, "Seq Scan on documents"), plan
    assert set(await declared.ids("seed", mode="lexical", limit=100, filter=filter_)) == found


@pytest.mark.parametrize("operand", [{"$contains": "l7"}, {"$overlap": ["l7", "l8"]}, {"$eq": ["l7"]}])
@pytest.mark.parametrize("mode", MODES)
async def test_a_list_is_served_by_the_index_over_all_attributes(
    declared: Library, resources: Resources, operand: dict[str, Any], mode: str
) -> None:
    plan = await explain(
        declared,
        resources,
        "seed",
        mode="lexical",
        filter={"attributes.l": operand},
        settings={"plan_cache_mode": mode},
    )

    assert executed(plan, "ix_documents_attributes"), plan
    assert attribute_index_name("l") not in plan


async def test_a_generic_plan_forgets_the_index_and_not_the_branch(declared: Library, resources: Resources) -> None:
    """The key is bound, so only a custom plan knows the expression: that is why such a statement is planned anew each time."""
    plan = await explain(
        declared.having(left=Left()),
        resources,
        "seed",
        mode="lexical",
        filter={"attributes.i": {"$lte": 2}},
        settings={"plan_cache_mode": "force_generic_plan"},
    )

    assert not executed(plan, attribute_index_name("i"))
    assert executed(plan, "ix_chunk_terms_document_id"), plan
    assert not executed(plan, "ix_chunk_terms_terms"), plan


async def test_a_dropped_index_is_noticed_and_warned_of(
    declared: Library, resources: Resources, api: Api, admin: asyncpg.Connection
) -> None:
    async with changing_indexes(direct_url(resources)) as connection:
        await drop_index(connection, "i")
    without = await looked_up(resources, declared)
    filter_ = {"attributes.i": {"$lte": 2}}
    plan = await explain(without, resources, "seed", mode="lexical", filter=filter_)
    warned = await without.ask("seed", mode="lexical", filter=filter_)
    for type_ in (None, "integer"):
        await api.client.patch(f"/v1/collections/{without.collection.name}", json={"attributes": {"i": type_}})
    async with working_with(resources)(direct_url=direct_url(resources)):
        await until_idle(admin)
    built = await looked_up(resources, declared)
    quiet = await built.ask("seed", mode="lexical", filter=filter_)

    assert not executed(plan, attribute_index_name("i"))
    assert [(each.code, "until its index is built" in each.message) for each in warned.warnings] == [
        ("unindexed_filter", True)
    ]
    assert quiet.warnings == ()
    assert {hit.external_id for hit in warned.hits} == {hit.external_id for hit in quiet.hits} == {"x1", "x2"}


WRONG: list[tuple[str, Any]] = [
    ("string", 1),
    ("string", ["a"]),
    ("integer", "1"),
    ("integer", 1.5),
    ("integer", True),
    ("number", "1.5"),
    ("number", False),
    ("boolean", 0),
    ("boolean", "true"),
    ("timestamp", "2024-05-01"),
    ("timestamp", 1714521600),
    ("string[]", "a"),
    ("string[]", ["a", 1]),
]


@pytest.fixture
async def typed(api: Api) -> AsyncIterator[str]:
    """A collection that declares one attribute of each type, named as the type."""
    name = await api.make_collection()
    types = {type_: type_ for type_ in TYPES.values()} | {"deep.er": "integer"}
    answer = await api.client.patch(f"/v1/collections/{name}", json={"attributes": types})
    assert answer.status_code == 200, answer.text
    yield name
    await api.client.delete(f"/v1/collections/{name}")


@pytest.mark.parametrize(("type_", "value"), WRONG)
async def test_a_value_of_another_type_is_refused_by_name_when_it_is_written_and_when_it_is_asked(
    api: Api, typed: str, type_: str, value: Any
) -> None:
    at = f"attributes.{type_}"
    written = await api.post(typed, {"text": "x", "attributes": {type_: value}})
    put = await api.put(typed, "one", {"text": "x", "attributes": {type_: value}})
    asked = await api.client.post(
        f"/v1/collections/{typed}/search", json={"query": "x", "filter": {at: {"$eq": value}}}
    )

    assert [answer.status_code for answer in (written, put, asked)] == [422, 422, 422]
    assert all(field.startswith(at) for answer in (written, put) for field in fields(answer)), written.text
    assert all(field.startswith(f"filter.{at}") for field in fields(asked)), asked.text


async def test_a_patch_and_a_batch_are_checked_too(api: Api, typed: str) -> None:
    document = await api.make_document(typed, attributes={"integer": 1, "deep": {"er": 2}})
    patched = await api.patch(document, {"attributes": {"deep": {"er": "two"}}})
    lines = await api.batch(typed, [{"text": "x", "attributes": {"integer": "1"}}, {"text": "y"}])

    assert (patched.status_code, fields(patched)) == (422, ["attributes.deep.er"])
    assert [line["status"] for line in lines] == [422, 202]
    assert lines[0]["problem"]["errors"][0]["field"] == "attributes.integer"
