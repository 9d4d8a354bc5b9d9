"""The strategy `best_score`, as Qdrant has it: nearest to any of the good examples, unless a bad one is nearer still."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from service.db.vectors import read_vectors
from service.domain.documents import Collection
from service.domain.hits import ChunkHit, Hit
from service.search.tools import Searching

CANDIDATES = 500  # Documents nearest to any good example, of which the bad ones decide: two megabytes of vectors.

Vectors = NDArray[np.float64]


async def best_scores(
    candidates: Iterable[Hit],
    positive: Sequence[Vectors],
    negative: Sequence[Vectors],
    collection: Collection,
    *,
    tools: Searching,
) -> list[Hit]:
    """The candidates scored and in order: score descending, then id. A document may come several times, with other chunks."""
    documents: dict[str, Hit] = {}
    for hit in sorted(candidates, key=lambda hit: -hit.score):
        known = documents.setdefault(hit.document_id, replace(hit, chunks=()))
        chunks = {chunk.chunk_id: chunk for chunk in (*known.chunks, *hit.chunks)}
        documents[hit.document_id] = replace(known, chunks=tuple(chunks.values()))
    kept = list(documents.values())[:CANDIDATES]
    found = await read_vectors(
        [chunk.chunk_id for hit in kept for chunk in hit.chunks],
        collection_id=collection.id,
        profile_id=tools.profile.id,
        reader=tools.reader,
        settings={"app.tenant_id": str(collection.tenant_id)},
    )
    scores = dict(zip(found, scores_of(np.array([*found.values()]), positive, negative), strict=True)) if found else {}
    scored = [rescored(hit, scores) for hit in kept]
    return sorted((hit for hit in scored if hit.chunks), key=lambda hit: (-hit.score, hit.document_id))


def scores_of(vectors: Vectors, positive: Sequence[Vectors], negative: Sequence[Vectors]) -> list[float]:
    """The best similarity to a good example; where one to a bad example is as good, minus its square."""
    good = (vectors @ np.array(positive).T).max(axis=1)
    if not negative:
        return [float(score) for score in good]
    bad = (vectors @ np.array(negative).T).max(axis=1)
    return [float(score) for score in np.where(good > bad, good, -(bad**2))]


def rescored(hit: Hit, scores: dict[str, float]) -> Hit:
    """Its best chunks first; one that was replaced since it was found has no score, and is left out."""
    chunks: list[ChunkHit] = [
        replace(chunk, score=scores[chunk.chunk_id]) for chunk in hit.chunks if chunk.chunk_id in scores
    ]
    chunks.sort(key=lambda chunk: (-chunk.score, chunk.chunk_id))
    return replace(hit, chunks=tuple(chunks), score=chunks[0].score if chunks else 0.0)
