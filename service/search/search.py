"""One search: question → embedding → one statement → hits. The embedding comes first: no connection waits for it."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC
from uuid import UUID

import numpy as np
import orjson

from service.db import filters
from service.db.profiles import EmbeddingProfile
from service.db.read_out import SearchRow
from service.db.read_pool import Reader
from service.db.retrieval import Shape, Statements
from service.domain.documents import Collection
from service.domain.errors import InvalidError, NotFoundError, OverloadedError, UnavailableError
from service.domain.hits import ChunkHit, Hit, Hits, SearchWarning
from service.domain.queries import WIDENING, Query, Words
from service.embeddings.base import Embedder, Vector
from service.telemetry.telemetry import SearchClock, SearchRoute, Telemetry

ALL = 2**31 - 2  # `exact: true`: every collection counts as small
TINY_CHUNKS = 2_000  # What leaves at most so many is scored whole by its words: cheaper than choosing candidates.
CHECKED_CHUNKS = 5_000  # Where a quoted phrase is looked for: the most relevant that have its words, .04 ms each.


@dataclass(frozen=True, slots=True)
class Searching:
    """What a search needs, built once per process."""

    reader: Reader
    statements: Statements
    embedder: Embedder
    profile: EmbeddingProfile
    exact_chunks: int
    lexical_budget: int
    telemetry: Telemetry = field(default_factory=Telemetry)


class CollectionChangedError(UnavailableError):
    """The collection was declared anew since it was looked up, so its filter may mean something else."""


async def search(query: Query, collection: Collection, *, tools: Searching, clock: SearchClock | None = None) -> Hits:
    """Raises NotFoundError or CollectionChangedError when the collection is not what it was, and InvalidError,
    OverloadedError or UnavailableError. `clock` is the request's.
    """
    clock = clock or tools.telemetry.search_clock()
    words = Words.parse(query.question)
    if not words.text and (query.vector is None or query.mode == "lexical"):
        raise InvalidError("it has nothing to look for", field="query")
    with clock.stage("embedding") if query.vector is None and query.mode != "lexical" else nullcontext():
        query, vector, warnings = await embedded(query, words, collection, tools=tools)
    with clock.stage("statement"):
        rows = await run(query, words, vector, collection, tools=tools)
    # A leg alone goes on until it has found `limit` documents or nothing is left.
    while query.mode != "hybrid" and len(hits_of(rows)) < query.limit and found(rows[0], query) == query.fusion.window:
        query = replace(query, fusion=replace(query.fusion, window=query.fusion.window * WIDENING))
        with clock.stage("statement"):
            rows = await run(query, words, vector, collection, tools=tools)
    warnings = (*warnings, *told(rows[0], query, words))
    tools.telemetry.searched(route_of(rows[0], query, words), [warning.code for warning in warnings])
    return Hits(tuple(hit(row) for row in hits_of(rows)), profile=tools.profile.name, warnings=warnings)


async def embedded(
    query: Query, words: Words, collection: Collection, *, tools: Searching
) -> tuple[Query, Vector | None, tuple[SearchWarning, ...]]:
    """The question's vector, unit length. Where there is none a hybrid search becomes a lexical one, and says so."""
    if query.mode == "lexical":
        return query, None, ()
    try:
        return query, await vector_of(query, words, collection, tools=tools), ()
    except (OverloadedError, UnavailableError) as error:
        if query.mode == "semantic":
            raise
        warning = SearchWarning("lexical_only", f"these hits are found by their words alone: {error}")
        return replace(query, mode="lexical"), None, (warning,)


async def vector_of(query: Query, words: Words, collection: Collection, *, tools: Searching) -> Vector:
    """Raises OverloadedError or UnavailableError."""
    if collection.profile_id != tools.profile.id:
        # Vectors of two models have nothing to say to each other.
        raise UnavailableError(f"the collection's embeddings are not of {tools.profile.name}, which this service runs")
    if query.vector is None:
        return await tools.embedder.embed_query(words.text)
    given = np.asarray(query.vector, np.float64)
    given /= np.abs(given).max()  # or the squares of large and small numbers would leave the range
    return np.asarray(given / np.linalg.norm(given), np.float32)


async def run(
    query: Query, words: Words, vector: Vector | None, collection: Collection, *, tools: Searching
) -> list[SearchRow]:
    shape = Shape(
        mode=query.mode,
        dimension=tools.profile.dimension,
        window=query.fusion.window,
        fusion=query.fusion.method if query.mode == "hybrid" else "linear",
        grouped=query.grouped,
        phrases=bool(words.phrases),
        excluding=bool(words.excluded),
        filter=None if query.filter is None else filters.skeleton(query.filter),
    )
    statement = tools.statements.of(shape, query.filter)
    values = {
        "collection": collection.id,
        "profile": tools.profile.id,
        "question": words.text,
        "phrases": list(words.phrases),
        "excluded": list(words.excluded),
        "vector": vector,
        "alpha": query.fusion.alpha,
        "k": query.fusion.k,
        "lexical_weight": query.fusion.lexical_weight,
        "semantic_weight": query.fusion.semantic_weight,
        "limit": query.limit,
        "per_document": query.chunks_per_document,
        "exact_chunks": ALL if query.limits.exact else tools.exact_chunks,
        "checked_chunks": ALL if query.limits.exact else CHECKED_CHUNKS,
        "tiny_chunks": TINY_CHUNKS if query.limits.budget is None else 0,
        "budget": query.limits.budget or tools.lexical_budget,
        **({} if query.filter is None else filters.parameters(query.filter)),
    }
    rows = await tools.reader.fetch(statement, values, settings=settings(query, collection.tenant_id))
    if not rows:
        raise NotFoundError("no such collection")
    read = [SearchRow.read(row) for row in rows]
    if query.filter is not None and read[0].declared_at != collection.updated_at:
        raise CollectionChangedError("the collection has just been changed")
    return read


def settings(query: Query, tenant_id: UUID) -> Mapping[str, str]:
    """Transaction-local; what is not named stays as the searcher role has it."""
    chosen = {"app.tenant_id": str(tenant_id)}
    if query.limits.ef_search is not None:
        chosen["hnsw.ef_search"] = str(query.limits.ef_search)
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


def told(row: SearchRow, query: Query, words: Words) -> list[SearchWarning]:
    """There are never fewer hits than exist without a word about it."""
    warnings = []
    window, bounded = query.fusion.window, query.mode != "lexical" or words.phrases
    if bounded and not row.exact and found(row, query) < min(window, row.matched):
        message = f"the scan ended after {found(row, query)} chunks; set params.exact to look at them all"
        warnings.append(SearchWarning("scan_limit", message))
    if query.mode != "semantic" and row.over_budget and row.lexical < window:
        message = "the most frequent words did not select candidates; raise params.budget to let them"
        warnings.append(SearchWarning("budget", message))
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
        chunks=tuple(ChunkHit(**chunk) for chunk in orjson.loads(row.chunks or "[]")),
    )
