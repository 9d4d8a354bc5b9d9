"""What a filter leaves is counted once; where it is much, a walk filters what it passes from then on, and misses hardly any."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pytest

from service.db import bm25
from service.db.filter_shapes import lower
from service.db.filters import is_one_test
from service.db.read_pool import Reader, Row
from service.db.retrieval import Statement, Statements
from service.domain.documents import Collection
from service.domain.errors import NotFoundError
from service.domain.filters import parse_filter
from service.domain.ids import new_id
from service.domain.queries import Fusion, Limits, Query, Words
from service.resources import Resources
from service.search import ways
from service.search.ways import Left, way_of
from tests.api_calls import Api
from tests.search_calls import Library, analyze, directions, halves, library
from tests.search_plans import explain
from tests.test_search_plans import GRAPH, executed
from tests.test_search_routes import COLLECTION

SPREAD, BEHIND = 2_000, 2_100  # documents in every direction, and others that point away from every question
TOWARDS = directions(1, seed=41)[0]
QUESTIONS = [TOWARDS + 0.02 * direction for direction in directions(6, seed=42)]
VECTORS = np.concatenate([directions(SPREAD, seed=43), directions(BEHIND, seed=45) * 0.3 - TOWARDS])
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
KEPT = halves(VECTORS)
BROAD: dict[str, Any] = {"attributes.n": {"$lt": 1_900}}
FAR: dict[str, Any] = {"attributes.behind": True}


@dataclass
class Watched:
    """A reader that keeps the way of each statement, and how far it counts."""

    reader: Reader
    driver: Literal["psqlpy", "asyncpg"] = "asyncpg"
    ways: list[str] = field(default_factory=list)
    counted: list[Any] = field(default_factory=list)

    async def fetch(
        self, statement: Statement, values: Mapping[str, object], *, settings: Mapping[str, str]
    ) -> Sequence[Row]:
        self.ways.append(way(statement))
        self.counted.append(values["exact_chunks"])
        return await self.reader.fetch(statement, values, settings=settings)

    async def close(self) -> None:
        await self.reader.close()


def way(statement: Statement) -> str:
    """By the branches that are written: a second one of the leg that has to go through all that the filter leaves, or not."""
    if "furthest" in statement.parameters:
        return "filter"
    second = " AS s2" if "profile" in statement.parameters else " AS l2"
    return "count" if second in statement.sql else "narrow"


class Knowing(Left):
    """Of every filter the same."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    def by(self, likeness: int | None) -> int:  # noqa: ARG002
        return self.left


@pytest.fixture(scope="module")
async def meadow(api: Api, resources: Resources) -> Library:
    documents = [
        {"text": f"common w{n % 40}", "vector": vector.tolist(), "attributes": {"n": n, "behind": n >= SPREAD}}
        for n, vector in enumerate(VECTORS)
    ]
    made = await library(api, resources, documents)
    await analyze(resources)
    return replace(made, collection=replace(made.collection, graph_size=len(VECTORS)))


def watching(library: Library, left: Left | None = None) -> tuple[Library, Watched]:
    watched = Watched(library.tools.reader)
    return library.having(reader=watched, left=left or Left()), watched


def nearest(question: np.ndarray, among: range, limit: int) -> set[str]:
    cosines = KEPT[among.start : among.stop] @ halves(question)
    return {str(among[i]) for i in np.argsort(-cosines)[:limit]}


async def test_the_second_search_with_a_broad_filter_counts_nothing_and_finds_as_much(meadow: Library) -> None:
    """As much as without a filter: random directions are the hardest there are for a graph, and each build is another one."""
    searching, seen = watching(meadow)
    questions = [TOWARDS + 0.2 * direction for direction in directions(60, seed=46)]

    filtered: list[float] = []
    plain: list[float] = []
    for question in questions:
        found = await searching.ids(vector=question, mode="semantic", window=50, filter=BROAD)
        filtered.append(len({*found} & nearest(question, range(1_900), 10)) / 10)
        found = await meadow.ids(vector=question, mode="semantic", window=50)
        plain.append(len({*found} & nearest(question, range(len(VECTORS)), 10)) / 10)

    assert seen.ways == ["count"] + ["filter"] * (len(questions) - 1)
    found_with, found_without = sum(filtered) / len(filtered), sum(plain) / len(plain)
    assert found_with >= max(found_without - 0.01, 0.93), (found_with, found_without)


@pytest.mark.parametrize("mode", ["semantic", "hybrid"])
async def test_what_is_far_from_the_question_is_counted_after_all_and_remembered(meadow: Library, mode: str) -> None:
    searching, seen = watching(meadow)
    fields: dict[str, Any] = {"mode": mode, "window": 10, "filter": FAR}

    found = [await searching.ids("common", vector=question, **fields) for question in QUESTIONS[:4]]

    assert seen.ways == ["count", "filter", "count", "count", "count"]
    exact = [await meadow.ids("common", vector=question, exact=True, **fields) for question in QUESTIONS[:4]]
    assert found == exact


@pytest.mark.parametrize("mode", ["semantic", "hybrid"])
async def test_a_guess_that_is_no_longer_right_costs_no_hit(meadow: Library, mode: str) -> None:
    """Three are left where there were thousands."""
    few = {"attributes.n": {"$in": [7, 77, 777]}}
    searching, seen = watching(meadow, Knowing(3_500))

    found = await searching.ask("common", vector=QUESTIONS[0], mode=mode, filter=few)

    assert {hit.external_id for hit in found.hits} == {"7", "77", "777"}
    assert found.warnings == ()
    assert seen.ways == ["filter", "count"]


async def test_another_filter_and_another_collection_are_counted_anew(meadow: Library) -> None:
    searching, seen = watching(meadow)
    elsewhere = replace(searching, collection=replace(meadow.collection, id=new_id()))
    for fields in (BROAD, {"attributes.n": {"$lt": 1_899}}, {"attributes.n": {"$gte": 1_900}}):
        await searching.ask(vector=QUESTIONS[0], mode="semantic", window=10, filter=fields)
    with pytest.raises(NotFoundError):
        await elsewhere.ask(vector=QUESTIONS[0], mode="semantic", window=10, filter=BROAD)

    assert seen.ways == ["count"] * 4


@pytest.mark.parametrize("question", ["common w7", "common w7 -w3", "w7", "-w3"])
@pytest.mark.parametrize(
    "fields", [{"mode": "hybrid"}, {"mode": "hybrid", "method": "rrf"}, {"mode": "semantic"}], ids=str
)
async def test_both_ways_find_the_same_and_only_what_passes(
    meadow: Library, question: str, fields: dict[str, Any]
) -> None:
    late = {"attributes.n": {"$gte": 1_300}}  # Words alone would find the earlier ones first.
    asked: dict[str, Any] = {**fields, "vector": directions(1, seed=46)[0], "filter": late, "limit": 50, "window": 50}
    walking, seen = watching(meadow, Knowing(2_100))
    counting, _ = watching(meadow, Knowing(0))

    walked, counted = await walking.ids(question, **asked), await counting.ids(question, **asked)

    assert seen.ways == ["filter"]
    assert all(int(each or "") >= 1_300 for each in walked)
    assert "-w3" not in question or all(int(each or "") % 40 != 3 for each in walked)
    assert len({*walked} & {*counted}) >= 47


LATE: dict[str, Any] = {"attributes.n": {"$gte": SPREAD}}


@pytest.mark.parametrize(
    ("left", "exact_chunks", "way"),
    [(BEHIND, 20_000, "narrow"), (0, 20_000, "count"), (0, 1_000, "count")],
    ids=["remembered", "counted", "more than is counted"],
)
@pytest.mark.parametrize("question", ["common w7", "common w7 -w3"])
async def test_words_are_found_among_what_the_filter_leaves(
    meadow: Library, question: str, left: int, exact_chunks: int, way: str
) -> None:
    """Which is too much to be scored whole. Words alone decide here; half of those with the rare one are not left."""
    searching, seen = watching(meadow.having(exact_chunks=exact_chunks), Knowing(left))

    found = await searching.ids(question, vector=QUESTIONS[0], alpha=0.0, filter=LATE, limit=100)

    assert seen.ways == [way]
    rare = {str(n) for n in range(SPREAD, SPREAD + BEHIND) if n % 40 == 7}
    assert {*found[: len(rare)]} == rare
    assert all(int(each or "") >= SPREAD for each in found)
    assert len(found) == 100


@pytest.mark.parametrize("left", [BEHIND, 0])
async def test_no_document_is_looked_up_again_for_its_words(meadow: Library, resources: Resources, left: int) -> None:
    """Its filter was asked when it was counted: each candidate of the words took a look at its document."""
    plan = await explain(
        meadow.having(left=Knowing(left)), resources, "common w7", vector=QUESTIONS[0], filter=LATE, limit=5
    )

    lexical = plan[plan.index("CTE lexical") : plan.index("CTE scored")]
    assert "hashed SubPlan" in lexical
    assert not executed(lexical, " on documents"), lexical


async def test_more_than_a_hash_has_room_for_is_looked_up_one_by_one(
    meadow: Library, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`params.exact` counts without end. A hash that the planner believes too large is none: every row would go through it all."""
    all_of_them = {"source": {"$exists": False}}  # Of which the planner expects 4,100.
    asked: dict[str, Any] = {"vector": QUESTIONS[0], "filter": all_of_them, "alpha": 0.0, "exact": True, "limit": 100}
    expected = await meadow.ids("common w7", **asked)
    monkeypatch.setattr(bm25, "HASHED", 500)
    small = meadow.having(statements=Statements())

    plan = await explain(
        small, resources, "common w7", settings={"work_mem": "64kB", "hash_mem_multiplier": "1"}, **asked
    )

    lexical = plan[plan.index("CTE lexical") : plan.index("CTE scored")]
    assert "hashed SubPlan" in lexical
    assert executed(lexical, " on documents"), lexical
    assert await small.ids("common w7", **asked) == expected


async def test_no_foreign_tenant_is_shown_anything_on_the_way(meadow: Library) -> None:
    searching, seen = watching(meadow, Knowing(3_500))
    for mode in ("semantic", "hybrid"):
        with pytest.raises(NotFoundError):
            await replace(searching, collection=replace(meadow.collection, tenant_id=new_id())).ask(
                "common", vector=QUESTIONS[0], mode=mode, filter=BROAD
            )
    assert seen.ways == ["filter", "filter"]


async def test_the_walk_ends_where_the_window_is_filled(meadow: Library, resources: Resources) -> None:
    """And neither counts the documents that the filter leaves nor scans their vectors."""
    plan = await explain(
        meadow.having(left=Knowing(2_100)), resources, vector=QUESTIONS[0], mode="semantic", window=20, filter=BROAD
    )

    assert executed(plan, GRAPH), plan
    assert "CTE matching" not in plan
    assert "document_id_idx" not in plan


async def test_words_alone_count_only_as_far_as_it_matters_to_them(meadow: Library) -> None:
    searching, seen = watching(meadow)
    await searching.ask("common", mode="lexical", filter=BROAD)
    await searching.ask("common", mode="lexical", filter=BROAD)
    await searching.ask("common", mode="lexical", filter=BROAD, exact=True)

    assert seen.counted[:2] == [2_000, 2_000]
    assert seen.counted[2] > 1e9
    assert seen.ways == ["count", "narrow", "count"]


async def test_words_alone_remember_no_count_that_they_broke_off(meadow: Library) -> None:
    searching, _ = watching(meadow)
    await searching.ask("common", mode="lexical", filter={"attributes.n": {"$lt": 2_500}})

    assert not searching.tools.left.entries


LARGE = replace(COLLECTION, chunk_count=30_000, graph_size=30_000)
FILTER = parse_filter({"source": "den"}, declared={})


@pytest.mark.parametrize(
    ("left", "window", "size", "way"),
    [
        (None, 200, 30_000, "count"),  # Nobody has counted.
        (0, 200, 30_000, "count"),  # Far from an earlier question, or there is nothing.
        (4_000, 200, 30_000, "few"),
        (6_000, 200, 30_000, "few"),
        (7_000, 200, 30_000, "filter"),
        (4_000, 10, 30_000, "filter"),  # A narrow window is filled sooner,
        (2_500, 10, 30_000, "filter"),
        (2_400, 10, 30_000, "few"),
        (1_500, 10, 30_000, "few"),
        (400, 1, 30_000, "few"),  # but the graph's list is as long as ever.
        (6_000, 200, 300_000, "few"),  # Most of the graph is somebody else's.
        (20_001, 200, 3_000_000, "count"),
        (20_001, 200, 300_000, "filter"),
    ],
)
def test_a_walk_is_taken_where_it_takes_less_than_counting(left: int | None, window: int, size: int, way: str) -> None:
    query = Query("", filter=FILTER, fusion=Fusion(window=window), mode="semantic")
    collection: Collection = replace(LARGE, graph_size=size)

    assert way_of(query, Words(""), collection, exact_chunks=20_000, left=left) == way


@pytest.mark.parametrize(
    ("left", "window", "way"),
    [
        (3_000, 200, "few"),
        (3_500, 200, "filter"),
        (1_300, 10, "filter"),
        (1_200, 10, "few"),
        (20_001, 200, "filter"),
    ],
)
def test_a_filter_of_several_tests_is_walked_sooner(left: int, window: int, way: str) -> None:
    """What it leaves is a part of what has to be looked at."""
    query = Query("", filter=FILTER, fusion=Fusion(window=window), mode="semantic")

    assert way_of(query, Words(""), LARGE, exact_chunks=20_000, left=left, one_test=False) == way


@pytest.mark.parametrize(
    ("given", "one"),
    [
        ({"source": "den"}, True),
        ({"attributes.n": {"$gte": 1, "$lt": 9}}, True),
        ({"attributes.n": {"$in": [1, 2, 3]}}, True),
        ({"attributes.n": {"$exists": True}}, True),
        ({"attributes.n": {"$ne": 1}}, True),
        ({"source": "den", "attributes.n": 1}, False),
        ({"$or": [{"source": "den"}, {"source": "cave"}]}, False),
    ],
)
def test_what_counts_as_one_test(given: dict[str, Any], one: bool) -> None:  # noqa: FBT001  a case
    filter_ = parse_filter(given, declared={"n": "integer"})
    assert filter_ is not None

    assert is_one_test(lower(filter_)) is one


async def test_several_tests_are_walked_in_the_second_search(meadow: Library) -> None:
    """900 of 4,100: one test scans them, two walk."""
    searching, seen = watching(meadow)
    one = {"attributes.n": {"$lt": 900}}
    for filter_ in (one, one, one | {"attributes.behind": False}, one | {"attributes.behind": False}):
        await searching.ask(vector=QUESTIONS[0], mode="semantic", window=50, filter=filter_)

    assert seen.ways == ["count", "narrow", "count", "filter"]


def test_words_are_scored_whole_in_the_second_search_as_in_the_first() -> None:
    query = Query("bear", filter=FILTER, fusion=Fusion(window=10))
    words = Words("bear")

    assert way_of(query, words, LARGE, exact_chunks=20_000, left=2_000) == "tiny"
    few = replace(LARGE, chunk_count=10_000, graph_size=10_000)
    assert way_of(query, words, few, exact_chunks=20_000, left=2_000) == "tiny"
    assert way_of(replace(query, limits=Limits(budget=9)), words, few, exact_chunks=20_000, left=2_000) == "filter"
    assert way_of(replace(query, mode="semantic"), words, few, exact_chunks=20_000, left=2_000) == "filter"
    assert way_of(query, words, LARGE, exact_chunks=20_000, left=2_001) == "few"
    assert way_of(query, words, LARGE, exact_chunks=20_000, left=2_500) == "filter"


def test_phrases_words_and_exact_searches_are_counted_whatever_is_remembered() -> None:
    query = Query("bear", filter=FILTER)
    bulk = replace(LARGE, graph_size=0)  # A load has put the graph off.
    for asked, words, collection in (
        (query, Words("bear", phrases=("bear",)), LARGE),
        (replace(query, mode="lexical"), Words("bear"), LARGE),
        (replace(query, limits=Limits(exact=True)), Words("bear"), LARGE),
        (query, Words("bear"), bulk),
    ):
        assert way_of(asked, words, collection, exact_chunks=20_000, left=25_000) == "count"
    assert way_of(query, Words("bear"), LARGE, exact_chunks=20_000, left=25_000) == "filter"


def test_what_is_remembered_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    left = Left()
    left.remember(1, 9_000)
    left.remember(2, 0)
    assert (left.by(1), left.by(2), left.by(3)) == (9_000, 0, None)

    later = time.monotonic() + 601
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert (left.by(1), left.by(2)) == (None, None)


def test_only_so_many_filters_are_remembered() -> None:
    left = Left()
    for filter_ in range(ways.REMEMBERED_MOST + 5):
        left.remember(filter_, 1)

    assert (left.by(4), left.by(5)) == (None, 1)
