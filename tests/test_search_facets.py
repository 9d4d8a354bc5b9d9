"""What a facet shows, what it refuses, and what it says when there is no time to count."""

from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from service.db.read_pool import Reader, Row
from service.db.tally import VALUES
from service.domain.errors import InvalidError, OverloadedError
from service.domain.hits import Tally
from service.resources import Resources
from service.search.running import CollectionChangedError
from tests.api_calls import Api, Json
from tests.search_calls import library
from tests.tally_oracle import Asked, about, valued
from tests.tally_world import Shelf, check, recounted, see, tallied


@pytest.fixture(scope="module")
async def crowd(api: Api, resources: Resources, admin: asyncpg.Connection) -> Shelf:
    """Thousands, with more values than a facet shows; some are as frequent as the last one shown."""
    documents = [
        {
            "title": "bear" if n % 3 else "wolf",
            "tags": [f"t{n % 7}", f"t{n % 5}", f"ü{n % 90}"],
            "attributes": {"n": n // 2, "list": [float(n % 150), float(n % 150), f"s{n % 3}"]},
        }
        for n in range(3_000)
    ]
    held = await library(api, resources, documents)
    return Shelf(held, await see(admin, held.collection.id, documents))


CROWDED = ("tags", "attributes.n", "attributes.list", "attributes.none")


async def test_thousands_are_counted_and_a_facet_shows_its_hundred_most_frequent_values(crowd: Shelf) -> None:
    for mode, expected in (("semantic", crowd.seen), ("lexical", about(crowd.seen, Asked(["bear"])))):
        facets, count = await tallied(crowd.library, "bear", mode=mode, facets=CROWDED)
        check((facets, count), expected, "eq", "matches")
        assert facets is not None
        assert len(facets["attributes.n"].values) == VALUES
        assert {type(each.value) for each in facets["attributes.list"].values} == {int, str}


async def test_when_time_runs_out_the_window_is_what_is_known(crowd: Shelf) -> None:
    window = crowd.chunks()[::20]
    for mode in ("semantic", "lexical"):
        found = await tallied(crowd.library, "bear", window, mode=mode, facets=CROWDED, timeout_ms=1)
        check(found, crowd.holding(window), "gte", "matches")


async def test_a_search_answers_with_the_same_facets_and_count_on_every_page(crowd: Shelf) -> None:
    fields: Json = {"mode": "lexical", "facets": CROWDED, "count": True, "limit": 5}
    first = await crowd.library.ask("wolf", **fields)
    later = await crowd.library.ask("wolf", **fields, cursor=first.next_cursor)

    check((first.facets, first.count), about(crowd.seen, Asked(["wolf"])), "eq", "matches")
    assert (later.facets, later.count) == (first.facets, first.count)
    assert {hit.document_id for hit in first.hits}.isdisjoint(hit.document_id for hit in later.hits)


async def test_a_hybrid_search_counts_what_its_pages_show(crowd: Shelf) -> None:
    found = await crowd.library.ask("wolf", facets=CROWDED, count=True, window=40, limit=100)

    shown = {hit.external_id for hit in found.hits}
    assert len(shown) >= 40
    check((found.facets, found.count), [s for s in crowd.seen if s.fields["external_id"] in shown], "eq", "window")


@pytest.mark.parametrize(
    "facet_",
    [
        *("title", "external_id", "published_at", "tag", "tags.0", "count", "", "a\x00", "\ud800", "é" * 9_000),
        *("attributes", "attributes.", "attributes.a..b", "attributes.\x00", "attributes" + ".a" * 11),
    ],
)
async def test_what_is_no_facet_is_refused_by_name(crowd: Shelf, facet_: str) -> None:
    with pytest.raises(InvalidError) as refused:
        await tallied(crowd.library, "bear", facets=("tags", facet_))

    assert refused.value.field == "facets"
    assert repr(facet_[:100].encode(errors="backslashreplace").decode())[:-1] in str(refused.value)
    assert len(str(refused.value).encode()) < 500


async def test_a_document_that_is_not_indexed_yet_is_not_counted(api: Api, resources: Resources) -> None:
    kept = await library(api, resources, [{"text": "bear", "tags": ["old"]}])
    await api.make_document(kept.collection.name, text="bear", tags=["new"])
    for mode in ("lexical", "semantic"):
        facets, count = await tallied(kept, "bear", mode=mode, facets=("tags",))
        assert recounted(facets or {}) == {"tags": [(valued("old"), 1)]}
        assert count == Tally(1, "eq", "matches")


async def test_a_collection_that_was_declared_anew_is_not_counted_by_an_old_filter(
    api: Api, resources: Resources
) -> None:
    kept = await library(api, resources, [{"text": "bear", "attributes": {"n": 1}}])
    await api.client.patch(f"/v1/collections/{kept.collection.name}", json={"attributes": {"n": "integer"}})

    with pytest.raises(CollectionChangedError):
        await tallied(kept, "bear", mode="lexical", filter={"attributes.n": 1})


class FullAtFirst:
    """A reader with no place for the first statement."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.turned_away = False

    async def fetch(self, *arguments: Any, **settings: Any) -> Sequence[Row]:
        if self.turned_away:
            return await self.reader.fetch(*arguments, **settings)
        self.turned_away = True
        raise OverloadedError("too many searches at once")


async def test_a_full_service_is_no_lack_of_time(crowd: Shelf) -> None:
    with pytest.raises(OverloadedError):
        await tallied(crowd.library.having(reader=FullAtFirst(crowd.library.tools.reader)), "bear", mode="lexical")
