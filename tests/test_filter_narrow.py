"""A narrow filter that was counted before: what it leaves is scanned and nothing else is planned, and that finds the same."""

import re
from dataclasses import replace
from typing import Any

import pytest

from service.db.attribute_indexes import attribute_index_name, settle_index
from service.db.filter_shapes import lower
from service.db.filters import index_key, skeleton
from service.db.retrieval import Shape, Statements
from service.domain.errors import NotFoundError
from service.domain.filters import parse_filter
from service.domain.ids import new_id
from service.domain.queries import Fusion, Limits, Query, Words
from service.resources import Resources
from service.search.ways import Left, way_of
from tests.api_calls import Api
from tests.search_calls import Library, analyze, collection_of, direct_url, directions, library
from tests.search_plans import Sent, explain, plans_of_a_dozen
from tests.test_filter_ways import LARGE, Knowing, watching
from tests.test_search_plans import executed

COUNT = 2_600
VECTOR = directions(1, seed=51)[0]
STRANGE = ("o'clock", "back\\slash", "\\' or true --", "$1", "per%cent", "co:lon", "naïve", "two words")
DECLARED = {"n": "integer", "kind": "string", "at": "timestamp", "half": "integer", "in.side": "boolean"}
NARROW: tuple[dict[str, Any], ...] = (
    {"attributes.n": 7},
    {"attributes.n": {"$in": [7, 8, 9_999]}},
    {"attributes.n": {"$lt": 40}},
    {"attributes.n": {"$gte": 100, "$lt": 140}},
    {"attributes.kind": "k7"},
    {"attributes.at": {"$lt": "2000-01-09T00:00:00Z"}},
    {"attributes.in.side": True},
    {"attributes.loose": 7},
    {"attributes.n": {"$lt": 900}, "attributes.half": 1},
    {"external_id": {"$in": ["7", "8"]}},
    {"tags": {"$overlap": ["t7"]}},
    {"attributes.n": {"$lt": 0}},
)


@pytest.fixture(scope="module")
async def stock(api: Api, resources: Resources) -> Library:
    documents = [
        {
            "text": f"common w{n % 40}",
            "vector": vector.tolist(),
            "tags": [f"t{n % 200}"],
            "attributes": {
                "n": n,
                "kind": f"k{n % 100}",
                "half": n % 2,
                "loose": n % 200,
                "in": {"side": n % 90 == 0},
                "at": f"2000-01-{1 + n % 28:02}T00:00:00Z",
                **dict.fromkeys(STRANGE, n % 300),
            },
        }
        for n, vector in enumerate(directions(COUNT, seed=52))
    ]
    declared = DECLARED | dict.fromkeys(STRANGE, "integer")
    made = await library(api, resources, documents)
    answer = await api.client.patch(f"/v1/collections/{made.collection.name}", json={"attributes": declared})
    assert answer.status_code == 200, answer.text
    for name in declared:
        await settle_index(direct_url(resources), name)
    await analyze(resources)
    return replace(made, collection=await collection_of(api, resources, made.collection.name))


@pytest.mark.parametrize("filter_", NARROW, ids=str)
@pytest.mark.parametrize("fields", [{"mode": "semantic"}, {"mode": "lexical"}, {}, {"method": "rrf"}], ids=str)
@pytest.mark.parametrize("question", ["common w7", "common -w3"])
async def test_the_second_search_with_a_narrow_filter_finds_what_the_first_did(
    stock: Library, question: str, fields: dict[str, Any], filter_: dict[str, Any]
) -> None:
    searching, seen = watching(stock)
    asked: dict[str, Any] = {**fields, "vector": VECTOR, "filter": filter_, "limit": 100}

    first, *others = [await searching.ask(question, **asked) for _ in range(3)]

    assert others == [first, first]
    nothing = filter_ == NARROW[-1]
    assert seen.ways == (["count"] * 3 if nothing else ["count", "narrow", "narrow"])
    assert bool(first.hits) is not nothing
    assert first.warnings == ()


@pytest.mark.parametrize("name", STRANGE)
async def test_only_plain_names_of_attributes_are_spelled(stock: Library, name: str) -> None:
    searching, seen = watching(stock)
    sent = Sent(searching.tools.reader)
    searching = searching.having(reader=sent)

    found = [await searching.ids("common", vector=VECTOR, filter={f"attributes.{name}": 7}) for _ in range(2)]

    assert {*found[0]} == {str(n) for n in range(7, COUNT, 300)}
    assert found[1] == found[0]
    assert seen.ways == ["count", "narrow"]
    assert name not in sent.sql or name == "$1"
    assert "'" + name not in sent.sql


@pytest.mark.parametrize("mode", ["semantic", "lexical", "hybrid"])
async def test_a_filter_that_leaves_much_by_now_loses_nothing(stock: Library, mode: str) -> None:
    """Remembered are 20; there are 2,500."""
    fields: dict[str, Any] = {"mode": mode, "vector": VECTOR, "limit": 100, "filter": {"attributes.n": {"$lt": 2_500}}}
    few = stock.having(exact_chunks=2_200)
    searching, seen = watching(few, Knowing(20))

    found = await searching.ask("common w7", **fields)

    assert seen.ways == ["narrow", "count"]
    assert found == await few.having(left=Left()).ask("common w7", **fields)


async def test_what_has_become_much_is_remembered(stock: Library) -> None:
    fields: dict[str, Any] = {"vector": VECTOR, "filter": {"attributes.n": {"$lt": 2_500}}}
    left = Left()
    await stock.having(left=left).ask("common", **fields)
    for filter_ in left.entries:
        left.remember(filter_, 20)
    searching, seen = watching(stock, left)

    for _ in range(2):
        await searching.ask("common", **fields)

    assert seen.ways == ["narrow", "count", "filter"]
    assert {left.by(filter_) for filter_ in left.entries} == {2_500}


@pytest.mark.parametrize("mode", ["semantic", "lexical", "hybrid"])
async def test_another_value_of_a_declared_attribute_is_taken_for_a_narrow_one_too(stock: Library, mode: str) -> None:
    searching, seen = watching(stock)
    fields: dict[str, Any] = {"mode": mode, "vector": VECTOR, "limit": 100}

    for n in (7, 8, 9):
        found = await searching.ask("common", **fields, filter={"attributes.n": n})
        assert found == await stock.having(left=Left()).ask("common", **fields, filter={"attributes.n": n})

    assert seen.ways == ["count", "narrow", "narrow"]
    assert max(seen.counted[1:]) == 2_000  # A guess is given up as early as that.
    for other in ({"attributes.half": 1}, {"attributes.n": {"$lt": 9}}, {"attributes.loose": 7}, {"tags": ["t7"]}):
        await searching.ask("common", **fields, filter=other)
    elsewhere = replace(searching, collection=replace(stock.collection, id=new_id()))
    with pytest.raises(NotFoundError):
        await elsewhere.ask("common", **fields, filter={"attributes.n": 10})
    assert seen.ways[3:] == ["count"] * 5


@pytest.mark.parametrize("mode", ["semantic", "lexical", "hybrid"])
async def test_a_value_that_leaves_much_after_one_that_left_little_loses_nothing(stock: Library, mode: str) -> None:
    searching, seen = watching(stock)
    fields: dict[str, Any] = {"mode": mode, "vector": VECTOR, "limit": 100}

    for below in (40, 2_500, 2_400):
        filter_ = {"attributes.n": {"$lt": below}}
        found = await searching.ask("common", **fields, filter=filter_)
        assert found == await stock.having(left=Left()).ask("common", **fields, filter=filter_)

    assert seen.ways == ["count", "narrow", "count", "count"]  # The guess fails once, and is not made again.


async def test_nobody_guesses_where_all_is_looked_at(stock: Library) -> None:
    searching, seen = watching(stock)
    for n in (7, 8):
        await searching.ask("common", vector=VECTOR, filter={"attributes.n": n}, exact=True)

    assert seen.ways == ["count", "count"]


@pytest.mark.parametrize("mode", ["semantic", "lexical", "hybrid"])
async def test_no_foreign_tenant_is_shown_anything_of_what_is_left(stock: Library, mode: str) -> None:
    searching, seen = watching(stock, Knowing(20))
    foreign = replace(searching, collection=replace(stock.collection, tenant_id=new_id()))

    with pytest.raises(NotFoundError):
        await foreign.ask("common", vector=VECTOR, mode=mode, filter=NARROW[0])
    assert seen.ways == ["narrow"]


@pytest.mark.parametrize(
    ("filter_", "key"),
    [
        ({"attributes.n": 7}, ("n",)),
        ({"attributes.n": {"$gte": 7, "$lt": 9}}, ("n",)),
        ({"attributes.n": {"$in": [7]}}, ("n",)),
        ({"attributes.in.side": True}, ("in", "side")),
        ({"attributes.at": {"$lt": "2000-01-09T00:00:00Z"}}, ("at",)),
        ({"attributes.n": 7, "attributes.kind": "k7"}, ()),
        ({"$or": [{"attributes.n": 7}, {"attributes.n": 8}]}, ()),
        ({"attributes.n": {"$ne": 7}}, ()),
        ({"attributes.n": {"$exists": True}}, ()),
        ({"attributes.loose": 7}, ()),
        ({"tags": {"$contains": "t7"}}, ()),
        ({"published_at": {"$lt": "2000-01-09T00:00:00Z"}}, ()),
        ({f"attributes.{STRANGE[0]}": 7}, ()),
    ],
    ids=str,
)
def test_a_key_is_spelled_where_its_index_alone_finds_what_is_left(
    filter_: dict[str, Any], key: tuple[str, ...]
) -> None:
    parsed = parse_filter(filter_, declared=DECLARED | dict.fromkeys(STRANGE, "integer"))
    assert parsed is not None

    assert index_key(lower(parsed)) == key


@pytest.mark.parametrize("mode", ["semantic", "lexical", "hybrid"])
@pytest.mark.parametrize("name", ["n", "kind", "at", "in.side"])
async def test_a_plan_for_any_values_finds_the_index_of_the_attribute(
    stock: Library, resources: Resources, mode: str, name: str
) -> None:
    filter_ = next(each for each in NARROW if f"attributes.{name}" in each)
    plan = await explain(
        stock.having(left=Knowing(20)),
        resources,
        "common w7",
        mode=mode,
        vector=VECTOR,
        filter=filter_,
        settings={"plan_cache_mode": "force_generic_plan"},
    )

    assert executed(plan, attribute_index_name(name)), plan
    assert not executed(plan, "Seq Scan on (documents|chunks|chunk_terms|embeddings)"), plan


@pytest.mark.parametrize(
    ("filter_", "fields", "left", "kept"),
    [
        (NARROW[0], {"mode": "semantic"}, 20, True),
        (NARROW[0], {"mode": "lexical"}, 20, True),
        (NARROW[0], {}, 20, True),
        (NARROW[0], {"method": "rrf"}, 20, True),
        (NARROW[0], {"mode": "semantic"}, None, False),
        (NARROW[0], {}, 2_100, False),  # Which words select depends on how many pass.
        (NARROW[3], {}, 20, True),
        (NARROW[7], {"mode": "semantic"}, 20, False),
        (NARROW[8], {"mode": "semantic"}, 20, False),  # Any of the two may be the one that narrows.
        (NARROW[9], {}, 20, False),
        ({f"attributes.{STRANGE[0]}": 7}, {}, 20, False),
    ],
    ids=str,
)
async def test_a_plan_is_kept_where_one_index_serves_all_values(
    stock: Library,
    resources: Resources,
    *,
    filter_: dict[str, Any],
    fields: dict[str, Any],
    left: int | None,
    kept: bool,
) -> None:
    sent = Sent(stock.tools.reader)
    await stock.having(reader=sent, left=Left() if left is None else Knowing(left)).ask(
        "common w7", vector=VECTOR, filter=filter_, **fields
    )
    generic, custom = await plans_of_a_dozen(sent, resources)

    assert (generic > 0) is kept
    assert kept or custom == 12


FILTER = parse_filter({"source": "den"}, declared={})


@pytest.mark.parametrize(
    ("left", "fields", "exact_chunks", "way"),
    [
        (2_000, {}, 20_000, "tiny"),
        (2_001, {}, 20_000, "few"),
        (2_000, {"mode": "lexical"}, 20_000, "tiny"),
        (2_001, {"mode": "lexical"}, 20_000, "count"),
        (2_000, {"mode": "lexical"}, 0, "tiny"),  # Vectors do not matter.
        (2_000, {"mode": "semantic"}, 20_000, "few"),
        (2_000, {"mode": "semantic"}, 1_999, "count"),
        (2_000, {}, 1_999, "count"),
        (2_000, {"limits": Limits(budget=9)}, 20_000, "few"),
        (2_000, {"mode": "lexical", "limits": Limits(budget=9)}, 20_000, "count"),
        (2_000, {"limits": Limits(exact=True)}, 20_000, "count"),
    ],
)
def test_what_was_left_the_last_time_decides(left: int, fields: dict[str, Any], exact_chunks: int, way: str) -> None:
    query = Query("bear", **{"filter": FILTER, "fusion": Fusion(window=200), **fields})

    assert way_of(query, Words("bear"), LARGE, exact_chunks=exact_chunks, left=left) == way


def test_a_statement_with_a_spelled_key_still_binds_its_values() -> None:
    filter_ = parse_filter({"attributes.n": {"$lt": 40}}, declared=DECLARED)
    assert filter_ is not None
    shape = Shape(
        mode="semantic",
        dimension=384,
        window=10,
        fusion="linear",
        grouped=True,
        phrases=False,
        excluding=False,
        filter=skeleton(filter_),
        way="few",
        index_key=index_key(lower(filter_)),
    )
    statement = Statements().of(shape, filter_)

    assert re.search(r"attributes -> 'n'", statement.sql), statement.sql
    assert "40" not in statement.sql
    assert "f0" not in statement.parameters
    assert {"f1", "f2"} <= {*statement.parameters}
