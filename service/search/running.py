"""The search statement of a query: bound, run, and read."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC
from uuid import UUID

import orjson

from service.db import filters
from service.db.filter_shapes import Lowered, lower
from service.db.read_out import SearchRow
from service.db.retrieval import Shape
from service.db.semantic import Way
from service.domain.documents import Collection
from service.domain.errors import NotFoundError, UnavailableError
from service.domain.hits import Hit, SearchWarning, WrittenChunks
from service.domain.queries import WINDOW, Query, Words
from service.embeddings.base import Vector
from service.search.ranking import Entry
from service.search.tools import Searching
from service.search.warnings import unindexed_filter
from service.search.ways import TINY_CHUNKS, furthest, likenesses, way_of
from service.telemetry.telemetry import SearchRoute

ALL = 2**31 - 2  # `exact: true`: every collection counts as small
CHECKED_CHUNKS = 5_000  # Where a quoted phrase is looked for: the most relevant that have its words, .04 ms each.


class CollectionChangedError(UnavailableError):
    """The collection was declared anew since it was looked up, so its filter may mean something else."""


async def run(
    query: Query,
    words: Words,
    vector: Vector | None,
    collection: Collection,
    *,
    tools: Searching,
) -> list[SearchRow]:
    """One statement finds everything; the second one where what is remembered of a filter is not so for this question."""
    lowered = None if query.filter is None else lower(query.filter)  # Once: a thousand values take a millisecond.
    same, kind = likenesses(lowered, words, collection)
    left = tools.left.by(same)
    # Nobody has asked for this value, but others of its attribute left little: as if it left one.
    guessed = left is None and 0 < (tools.left.by(kind) or 0) <= TINY_CHUNKS
    way = way_of(
        query,
        words,
        collection,
        exact_chunks=tools.exact_chunks,
        left=1 if guessed else left,
        one_test=lowered is None or filters.is_one_test(lowered),
    )
    rows = await on_way(way, query, words, vector, collection, tools=tools, lowered=lowered, left=left, guessed=guessed)
    if holds(way, rows[0], query):
        found_out = rows[0].matched if left is None else None
    else:
        rows = await on_way("count", query, words, vector, collection, tools=tools, lowered=lowered)
        found_out = 0 if way == "filter" else rows[0].matched
    if found_out is not None:
        tools.left.remember(kind, found_out)
        if query.mode != "lexical" or found_out <= TINY_CHUNKS:  # Words alone are not counted further.
            tools.left.remember(same, found_out)
    return rows


def holds(way: Way, row: SearchRow, query: Query) -> bool:
    """Whether a way that was taken by what is remembered has found all that it should."""
    match way:
        case "filter":
            return found(row, query) >= query.fusion.window
        case "few":
            return row.exact
        case "tiny":
            return row.exact and row.matched <= TINY_CHUNKS
        case _:
            return True


async def on_way(
    way: Way,
    query: Query,
    words: Words,
    vector: Vector | None,
    collection: Collection,
    *,
    tools: Searching,
    lowered: Lowered | None,
    left: int | None = None,
    guessed: bool = False,
) -> list[SearchRow]:
    narrow = way == "tiny" or (way == "few" and query.mode == "semantic")
    shape = Shape(
        mode=query.mode,
        dimension=tools.profile.dimension,
        window=query.fusion.window,
        way=way,
        fusion=query.fusion.method if query.mode == "hybrid" else "linear",
        grouped=query.grouped,
        phrases=bool(words.phrases),
        excluding=bool(words.excluded),
        filter=None if lowered is None else lowered[0],
        index_key=filters.index_key(lowered) if lowered is not None and narrow else (),
        explained=query.explain,
    )
    values = {
        "profile": tools.profile.id,
        "question": words.text,
        "phrases": list(words.phrases),
        "excluded": list(words.excluded),
        "vector": vector,
        "alpha": query.fusion.alpha,
        "k": query.fusion.k,
        "lexical_weight": query.fusion.lexical_weight,
        "semantic_weight": query.fusion.semantic_weight,
        "per_document": query.chunks_per_document,
        "threshold": -math.inf if query.score_threshold is None else query.score_threshold,
        "ef_search": None if query.limits.ef_search is None else str(query.limits.ef_search),
        "furthest": furthest(query, collection, left=left),
        "exact_chunks": counted_chunks(query, words, tools=tools, guessed=guessed),
        "checked_chunks": ALL if query.limits.exact else CHECKED_CHUNKS,
        "tiny_chunks": TINY_CHUNKS if query.limits.budget is None else 0,
        "budget": query.limits.budget or tools.lexical_budget,
    }
    return await fetched(shape, values, query, collection, tools=tools, lowered=lowered)


def counted_chunks(query: Query, words: Words, *, tools: Searching, guessed: bool) -> int:
    """How far what a filter leaves is counted: words are looked for in another way from `TINY_CHUNKS` on, and that is all.

    Nor is a guess worth more.
    """
    if query.limits.exact:
        return ALL
    if query.mode == "lexical" and not words.phrases:
        return TINY_CHUNKS
    return min(TINY_CHUNKS, tools.exact_chunks) if guessed else tools.exact_chunks


async def run_page(
    query: Query, entries: Sequence[Entry], collection: Collection, *, tools: Searching
) -> list[SearchRow]:
    """The hits of these chunks: a later page, of which only the filter is looked at again."""
    lowered = None if query.filter is None else lower(query.filter)
    shape = Shape(
        mode="lexical",  # From here on nothing is looked for, so one shape serves all.
        dimension=tools.profile.dimension,
        window=WINDOW,
        fusion="linear",
        grouped=query.grouped,
        phrases=False,
        excluding=False,
        filter=None if lowered is None else lowered[0],
        resumed=True,
    )
    values = {"chunk_ids": [entry.chunk_id for entry in entries], "scores": [entry.score for entry in entries]}
    return await fetched(shape, values, query, collection, tools=tools, lowered=lowered)


async def fetched(
    shape: Shape,
    values: Mapping[str, object],
    query: Query,
    collection: Collection,
    *,
    tools: Searching,
    lowered: Lowered | None,
) -> list[SearchRow]:
    """Raises NotFoundError and CollectionChangedError."""
    bound = {
        "collection": collection.id,
        "limit": query.limit,
        **values,
        **({} if lowered is None else filters.named(lowered[1])),
    }
    statement = tools.statements.of(shape, query.filter)
    rows = await tools.reader.fetch(statement, bound, settings=settings(query, collection.tenant_id))
    if not rows:
        raise NotFoundError("no such collection")
    read = list(map(SearchRow._make, rows))
    if query.filter is not None and read[0].declared_at != collection.updated_at:
        raise CollectionChangedError("the collection has just been changed")
    return read


def settings(query: Query, tenant_id: UUID) -> Mapping[str, str]:
    """Transaction-local; what is not named stays as the searcher role has it."""
    chosen = {"app.tenant_id": str(tenant_id)}
    if query.limits.timeout_ms is not None:
        chosen["statement_timeout"] = str(query.limits.timeout_ms)
    return chosen


def route_of(row: SearchRow, query: Query, words: Words) -> SearchRoute:
    """How the semantic candidates were found, or what stood in for them."""
    if words.phrases:
        return "phrase"
    if query.mode == "lexical":
        return "lexical"
    return "exact" if row.exact else "hnsw"


def hits_of(rows: Sequence[SearchRow]) -> list[SearchRow]:
    return [row for row in rows if row.document_id is not None]


def found(row: SearchRow, query: Query) -> int:
    """Candidates of the leg that has to go through all that the filter leaves."""
    return row.lexical if query.mode == "lexical" else row.semantic


def needs_more(rows: Sequence[SearchRow], query: Query) -> bool:
    """Fewer documents than asked for, although the window was full and its last chunk above the threshold."""
    first = rows[0]
    above = query.score_threshold is None or first.worst is None or first.worst >= query.score_threshold
    return len(hits_of(rows)) < query.limit and found(first, query) == query.fusion.window and above


def told(row: SearchRow, query: Query, words: Words, collection: Collection) -> list[SearchWarning]:
    """There are never fewer hits than exist without a word about it."""
    warnings = []
    window, bounded = query.fusion.window, query.mode != "lexical" or words.phrases
    if bounded and not row.exact and found(row, query) < min(window, row.matched):
        message = f"the scan ended after {found(row, query)} chunks; set params.exact to look at them all"
        warnings.append(SearchWarning("scan_limit", message))
    if query.mode != "semantic" and row.over_budget and row.lexical < window:
        message = "the most frequent words did not select candidates; raise params.budget to let them"
        warnings.append(SearchWarning("budget", message))
    if (unindexed := unindexed_filter(query.filter, collection)) is not None:
        warnings.append(unindexed)
    return warnings


def hit(row: SearchRow) -> Hit:
    return Hit(
        document_id=str(row.document_id),
        external_id=row.external_id,
        title=row.title,
        score=float(row.score or 0.0),
        source=row.source,
        tags=tuple(row.tags or ()),
        published_at=None if row.published_at is None else row.published_at.astimezone(UTC),
        attributes=orjson.loads(row.attributes or "{}"),
        chunks=WrittenChunks(row.chunks or "[]"),
    )
