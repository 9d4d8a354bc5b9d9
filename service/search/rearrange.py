"""What happens to the best documents after fusion: recency, then a reranker, then difference from those above."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from service.db.read_pool import OUT_OF_TIME
from service.db.vectors import read_vectors
from service.domain.documents import Collection
from service.domain.errors import InvalidError, OverloadedError
from service.domain.hits import ChunkHit, Hit
from service.domain.queries import Query, Rearrangement, Recency, Words
from service.rerankers.base import Reranker
from service.search.running import settings
from service.search.tools import Searching

DAY_SECONDS = 24 * 3600.0
PAGE_MOST = 100  # Documents: no page is larger.
DIGITS = 9  # Of a cosine: the same two texts must tie, whatever order their products were summed in.


def pool(asked: Rearrangement) -> int:
    """How many documents are to be found: whatever `limit` is, so that a small page is a prefix of a large one."""
    return max(PAGE_MOST, asked.top_n)


async def rearranged(
    hits: tuple[Hit, ...], query: Query, words: Words, collection: Collection, *, tools: Searching, now: datetime
) -> tuple[Hit, ...]:
    """All these hits in the order that `query.rearranged` asks for, with their scores.

    A reranker reads the first `top_n`; those behind it keep their place there, and `mmr` leaves them alone, because their
    scores mean something else. Raises InvalidError where there is no reranker, OverloadedError and UnavailableError.
    """
    asked = query.rearranged
    if asked is None:
        return hits
    reranker = reranker_for(words, tools=tools) if asked.rerank else None
    behind: tuple[Hit, ...] = ()
    if asked.recency is not None:
        hits = boosted(hits, asked.recency, now=now, grouped=query.grouped)
    if reranker is not None:
        hits, behind = hits[: asked.top_n], hits[asked.top_n :]
        hits = await reranked(hits, query, words, reranker=reranker)
    if asked.diversity is not None and hits:
        vectors = await vectors_of(hits, query, collection, tools=tools)
        scores = np.array([hit.score for hit in hits])
        hits = tuple(hits[at] for at in most_different(scores, vectors, diversity=asked.diversity))
    return hits + behind


def reranker_for(words: Words, *, tools: Searching) -> Reranker:
    """Raises InvalidError: a client that wants its hits read again must not get them unread."""
    if tools.reranker is None:
        raise InvalidError("this service has no reranker: set RERANKER_MODEL and start it again", field="rerank")
    if not words.text:
        raise InvalidError("there is no question to read the hits with", field="rerank")
    return tools.reranker


def boosted(hits: Sequence[Hit], recency: Recency, *, now: datetime, grouped: bool) -> tuple[Hit, ...]:
    """`weight * 0.5 ** (age / half-life)` more for every chunk; a date to come is as good as now, none gains nothing."""

    def boost(hit: Hit) -> Hit:
        gained = 0.0
        if hit.published_at is not None:
            age = max((now - hit.published_at).total_seconds() / DAY_SECONDS, 0.0)
            gained = recency.weight * 0.5 ** (age / recency.half_life_days)
        return rescored(hit, [rated(chunk, chunk.score + gained, "boost", gained) for chunk in hit.chunks])

    return tuple(sorted(map(boost, hits), key=best_first(grouped=grouped)))


async def reranked(hits: Sequence[Hit], query: Query, words: Words, *, reranker: Reranker) -> tuple[Hit, ...]:
    """The reranker's scores in place of the old ones. `timeout_ms` holds for the reading as it does for the statement."""
    limit = query.limits.timeout_ms
    passages = [passage(hit, chunk) for hit in hits for chunk in hit.chunks]
    try:
        async with asyncio.timeout(None if limit is None else limit / 1000):
            scores = await reranker.score(words.text, passages)
    except TimeoutError as error:
        raise OverloadedError(OUT_OF_TIME) from error
    chunks = (chunk for hit in hits for chunk in hit.chunks)
    read = iter([rated(chunk, score, "rerank", score) for chunk, score in zip(chunks, scores, strict=True)])
    again = [rescored(hit, [next(read) for _ in hit.chunks]) for hit in hits]
    return tuple(sorted(again, key=best_first(grouped=query.grouped)))


def passage(hit: Hit, chunk: ChunkHit) -> str:
    """What was embedded too; a chunk without text shows its title already."""
    return "\n".join(filter(None, dict.fromkeys((hit.title, chunk.text))))


def rated(chunk: ChunkHit, score: float, step: Literal["boost", "rerank"], told: float) -> ChunkHit:
    if chunk.explain is None:
        return replace(chunk, score=score)
    explain = replace(chunk.explain, boost=told) if step == "boost" else replace(chunk.explain, rerank=told)
    return replace(chunk, score=score, explain=explain)


def rescored(hit: Hit, chunks: Sequence[ChunkHit]) -> Hit:
    ordered = tuple(sorted(chunks, key=lambda chunk: (-chunk.score, chunk.chunk_id)))
    return replace(hit, chunks=ordered, score=ordered[0].score)


def best_first(*, grouped: bool) -> Callable[[Hit], tuple[float, str]]:
    """Score descending, then id: the document's, or the chunk's where each is a hit of its own."""
    return lambda hit: (-hit.score, hit.document_id if grouped else hit.chunks[0].chunk_id)


async def vectors_of(
    hits: Sequence[Hit], query: Query, collection: Collection, *, tools: Searching
) -> NDArray[np.float64]:
    """`(n, dimension)`, the best chunk's of each hit, at unit length; zeros, near to nothing, where it is gone meanwhile."""
    chunk_ids = [hit.chunks[0].chunk_id for hit in hits]
    found = await read_vectors(
        chunk_ids,
        collection_id=collection.id,
        profile_id=collection.profile_id,
        reader=tools.reader,
        settings=settings(query, collection.tenant_id),
    )
    nothing = np.zeros_like(next(iter(found.values()), np.zeros(1)))
    vectors = np.stack([found.get(chunk_id, nothing) for chunk_id in chunk_ids])
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths == 0, 1, lengths), np.float64)


def most_different(scores: NDArray[np.float64], vectors: NDArray[np.float64], *, diversity: float) -> list[int]:
    """Maximal marginal relevance (Carbonell and Goldstein 1998), greedily: places in the order to show them.

    Always the largest `(1 - diversity) * relevance - diversity * max cosine to those chosen`, the earlier place where two are
    equal; relevance is the score from 0, the worst of them, to 1, the best.
    """
    spread = scores.max() - scores.min()
    relevance = (scores - scores.min()) / spread if spread else np.zeros(len(scores))
    cosines = np.round(vectors @ vectors.T, DIGITS)
    nearest = np.zeros(len(scores))
    left = np.ones(len(scores), bool)
    order: list[int] = []
    while left.any():
        gain = np.where(left, (1 - diversity) * relevance - diversity * nearest, -np.inf)
        at = int(gain.argmax())
        nearest = np.maximum(nearest, cosines[at]) if order else cosines[at]
        left[at] = False
        order.append(at)
    return order
