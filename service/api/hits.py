"""What a search answers, on the wire. What was not asked for is left out."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from orjson import Fragment
from pydantic import BaseModel, Field

from service.api.answers import Json
from service.domain.hits import ChunkHit, Explanation, Hit, Hits, WrittenChunks


class ShareBody(BaseModel):
    """What a leg gave; rank and score are null where it does not list the chunk."""

    rank: int | None
    score: float | None
    contribution: float


class ExplanationBody(BaseModel):
    """The contributions, and the boost where one was asked for, sum to the chunk's score, unless a reranker gave it."""

    lexical: ShareBody
    semantic: ShareBody
    boost: float | None = None
    rerank: float | None = None


class FacetValueBody(BaseModel):
    value: str | int | float | bool
    count: int


class FacetBody(BaseModel):
    values: list[FacetValueBody]
    relation: Literal["eq", "gte"]
    scope: Literal["matches", "window"]


class TallyBody(BaseModel):
    value: int
    relation: Literal["eq", "gte"]
    scope: Literal["matches", "window"]


class ChunkHitBody(BaseModel):
    chunk_id: UUID
    ordinal: int
    text: str
    score: float
    char_start: int
    char_end: int
    page: int | None
    highlights: list[str] = Field(default_factory=list, description="Only with `highlight`.")
    explain: ExplanationBody | None = Field(default=None, description='Only with `include: ["explain"]`.')


class HitBody(BaseModel):
    document_id: UUID
    external_id: str | None
    title: str | None
    score: float
    source: str | None
    tags: list[str]
    published_at: datetime | None
    attributes: dict[str, Any]
    chunks: list[ChunkHitBody]


class WarningBody(BaseModel):
    code: Literal["lexical_only", "scan_limit", "unindexed_filter", "budget"]
    message: str


class SearchResponse(BaseModel):
    """What OpenAPI says; `show_hits` writes the same shape."""

    hits: list[HitBody]
    facets: dict[str, FacetBody] = Field(default_factory=dict, description="Only with `facets`.")
    count: TallyBody | None = Field(default=None, description='Only with `include: ["count"]`.')
    next_cursor: str | None
    profile: str
    warnings: list[WarningBody]
    took_ms: float


def show_hits(hits: Hits, *, took_ms: float) -> Json:
    extras: Json = {}
    if hits.facets is not None:
        extras["facets"] = hits.facets
    if hits.count is not None:
        extras["count"] = hits.count
    return {
        "hits": [show_hit(hit) for hit in hits.hits],
        **extras,
        "next_cursor": hits.next_cursor,
        "profile": hits.profile,
        "warnings": hits.warnings,
        "took_ms": round(took_ms, 3),
    }


def show_hit(hit: Hit) -> Json:
    return {
        "document_id": hit.document_id,
        "external_id": hit.external_id,
        "title": hit.title,
        "score": hit.score,
        "source": hit.source,
        "tags": hit.tags,
        "published_at": hit.published_at,
        "attributes": hit.attributes,
        "chunks": show_chunks(hit.chunks),
    }


def show_chunks(chunks: Sequence[ChunkHit]) -> Fragment | list[Json]:
    return Fragment(chunks.json) if isinstance(chunks, WrittenChunks) else [show_chunk(chunk) for chunk in chunks]


def show_chunk(chunk: ChunkHit) -> Json:
    shown: Json = {
        "chunk_id": chunk.chunk_id,
        "ordinal": chunk.ordinal,
        "text": chunk.text,
        "score": chunk.score,
        "char_start": chunk.char_start,
        "char_end": chunk.char_end,
        "page": chunk.page,
    }
    if chunk.highlights is not None:
        shown["highlights"] = chunk.highlights
    if chunk.explain is not None:
        shown["explain"] = show_explanation(chunk.explain)
    return shown


def show_explanation(told: Explanation) -> Json:
    shown: Json = {"lexical": told.lexical, "semantic": told.semantic}
    if told.boost is not None:
        shown["boost"] = told.boost
    if told.rerank is not None:
        shown["rerank"] = told.rerank
    return shown
