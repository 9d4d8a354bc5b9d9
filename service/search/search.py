"""One search: question → embedding → one statement → hits. The embedding comes first: no connection waits for it."""

from array import array
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from operator import attrgetter

from service.domain.documents import Collection
from service.domain.errors import InvalidError
from service.domain.hits import Hits
from service.domain.queries import WIDENING, Query, Words
from service.embeddings.base import Vector
from service.search.highlight import highlighted
from service.search.question import embedded
from service.search.ranking import Ranking, explained, fingerprint, read_cursor
from service.search.rearrange import pool, rearranged, reranker_for
from service.search.running import hit, hits_of, needs_more, route_of, run, run_page, told
from service.search.tally import facet_fields, tally
from service.search.tools import Searching
from service.telemetry.telemetry import SearchClock


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asked of a collection, and the vector of its question where there is one."""

    query: Query
    words: Words
    collection: Collection
    vector: Vector | None = None


async def search(query: Query, collection: Collection, *, tools: Searching, clock: SearchClock | None = None) -> Hits:
    """Raises NotFoundError or CollectionChangedError when the collection is not what it was, and InvalidError,
    OverloadedError or UnavailableError. `clock` is the request's.
    """
    clock = clock or tools.telemetry.search_clock()
    words = Words.parse(query.question)
    if not words.text and (query.vector is None or query.mode == "lexical"):
        raise InvalidError("it has nothing to look for", field="query")
    facet_fields(query.facets)  # What is refused is refused before anything is looked for.
    if query.rearranged is not None and query.rearranged.rerank:
        reranker_for(words, tools=tools)
    asked = Asked(query, words, collection)
    if query.cursor is not None:
        return await later_page(asked, query.cursor, tools=tools, clock=clock)
    with clock.stage("embedding") if query.vector is None and query.mode != "lexical" else nullcontext():
        query, vector, warnings = await embedded(query, words, collection, tools=tools)
    if query.rearranged is not None:
        query = replace(query, limit=pool(query.rearranged))
    with clock.stage("statement"):
        rows = await run(query, words, vector, collection, tools=tools)
    # A leg alone goes on until it has found `limit` documents or nothing is left.
    while query.mode != "hybrid" and needs_more(rows, query):
        query = replace(query, fusion=replace(query.fusion, window=query.fusion.window * WIDENING))
        with clock.stage("statement"):
            rows = await run(query, words, vector, collection, tools=tools)
    warnings = (*warnings, *told(rows[0], query, words, collection))
    tools.telemetry.searched(route_of(rows[0], query, words), [warning.code for warning in warnings])
    if tools.recall is not None:
        tools.recall.consider(query, words, vector, collection, rows)
    ranking = Ranking(rows[0].ranking or b"", query.explain)
    hits = explained(tuple(hit(row) for row in hits_of(rows)), ranking)
    if query.rearranged is not None:
        with clock.stage("rearrangement"):
            hits = await rearranged(hits, query, words, collection, tools=tools, now=datetime.now(UTC))
        ranking = ranking.begun_with(hits)
    found = Hits(hits[: asked.query.limit], profile=tools.profile.name, warnings=warnings)
    return await completed(found, replace(asked, vector=vector), ranking, start=0, tools=tools, clock=clock)


async def later_page(asked: Asked, cursor: str, *, tools: Searching, clock: SearchClock) -> Hits:
    """Of the list that the cursor carries. Raises MalformedError and CursorMismatchError."""
    query = asked.query
    ranking, start = read_cursor(cursor, of=list_of(asked, tools=tools))
    entries = list(ranking.entries(start, ranking.end_of(start, hits=query.limit)))
    with clock.stage("statement"):
        rows = await run_page(query, entries, asked.collection, tools=tools)
    found = Hits(explained(tuple(hit(row) for row in hits_of(rows)), ranking), profile=tools.profile.name)
    if query.highlight is not None:
        with clock.stage("embedding"):
            _, vector, _ = await embedded(query, asked.words, asked.collection, tools=tools)
            asked = replace(asked, vector=vector)
    return await completed(found, asked, ranking, start=start, tools=tools, clock=clock)


async def completed(
    found: Hits, asked: Asked, ranking: Ranking, *, start: int, tools: Searching, clock: SearchClock
) -> Hits:
    """What was asked for beside the hits: highlights, facets and the count, and the cursor of the next page."""
    query, words, collection = asked.query, asked.words, asked.collection
    if query.highlight is not None:
        with clock.stage("highlight"):
            marked = await highlighted(found.hits, query, words, collection, asked.vector, tools=tools)
        found = replace(found, hits=marked)
    # A leg alone that went on has a longer list than a cursor should carry.
    end = ranking.end_of(start, hits=query.limit)
    carried = ranking.cut(max(2 * query.fusion.window, end))
    if query.facets or query.count:
        with clock.stage("tally"):
            facets, count = await tally(query, words, collection, carried.chunk_ids(), tools=tools)
        found = replace(found, facets=facets, count=count)
    if end >= len(carried):
        return found
    return replace(found, next_cursor=carried.cursor(end, of=list_of(asked, tools=tools)))


SHOWING = {"limit", "cursor", "highlight", "facets", "count", "limits"}  # Fields that change nothing in the list.
finding = attrgetter(*(field.name for field in fields(Query) if field.name not in SHOWING | {"vector"}))


def list_of(asked: Asked, *, tools: Searching) -> bytes:
    """Of everything that decides what the hits are and in which order."""
    given = asked.query.vector and array("d", asked.query.vector).tobytes().hex()  # its numbers spelled cost .15 ms
    return fingerprint(asked.collection.id, tools.profile.id, given, finding(asked.query))
