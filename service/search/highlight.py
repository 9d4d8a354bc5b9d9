r"""Highlights: of each shown chunk, what answers the question.

Where its text has words of the question, up to three passages (a sentence, at most 300 characters) with those words between
the tags, the passage with most and rarest of them first. What a word is, its stem and whether it counts is Postgres's, by the
configuration that the chunk was indexed with. Words of quoted phrases are marked one by one, wherever they occur.

Where it has none (it was found by its meaning, or by its title), the one sentence nearest to the question, without tags: there
is no word to point at, and a client sees by the missing tag that it was the meaning.

Tags go in as they are given and the text stays as it is: JSON is no HTML, and `text` beside it is not escaped either, so a
fragment without its tags is a part of it. Who shows HTML asks for tags that no text has (`\ue000`, `\ue001`), escapes the
fragment, and puts elements in their place.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from uuid import UUID

import numpy as np

from service.db.marks import Marks, marks_statement
from service.domain.documents import Collection
from service.domain.errors import NotFoundError, OverloadedError, UnavailableError
from service.domain.hits import ChunkHit, Hit
from service.domain.queries import Query, Tags, Words
from service.embeddings.base import Embedder, Vector
from service.search.passages import best_fragments, marks_in, passages_of
from service.search.running import settings
from service.search.tools import Searching

# What is compared with the question, every hit's best chunk first: a sentence costs the model some 2.5 ms of a core.
EMBEDDED_CHUNKS = 20
EMBEDDED_SENTENCES = 60
EMBEDDED_SECONDS = 0.5  # Longer nobody waits for a nicer sentence; what still queues then is not computed.

Fragments = Mapping[str, tuple[str, ...]]  # by chunk


async def highlighted(
    hits: tuple[Hit, ...],
    query: Query,
    words: Words,
    collection: Collection,
    vector: Vector | None,
    *,
    tools: Searching,
) -> tuple[Hit, ...]:
    """The same hits with `highlights`. `vector` is the question's, unit length, or None where there is none.

    Raises NotFoundError when the collection is gone, OverloadedError and UnavailableError of the database. Where the embedder
    is missing or slow, or there is too much to compare, the best sentence is the first.
    """
    if not hits or query.highlight is None:
        return hits
    marks = await found_marks(hits, query, words, collection, tools=tools)
    fragments = await by_words(hits, marks, query.highlight)
    others = [chunk for chunk in by_rank(hits) if chunk.chunk_id not in fragments]
    fragments |= await by_meaning(others, vector, embedder=tools.embedder)
    return tuple(
        replace(hit, chunks=tuple(replace(chunk, highlights=fragments[chunk.chunk_id]) for chunk in hit.chunks))
        for hit in hits
    )


async def found_marks(
    hits: Sequence[Hit], query: Query, words: Words, collection: Collection, *, tools: Searching
) -> Marks:
    """One statement for all hits. Excluded words are no part of what is asked."""
    spoken: defaultdict[str, set[str]] = defaultdict(set)
    for hit in hits:
        spoken[hit.document_id].update(*(chunk.text.split() for chunk in hit.chunks))
    values = {
        "collection": collection.id,
        "question": words.text,
        "documents": [UUID(document_id) for document_id in spoken],
        "words": [" ".join(its_words) for its_words in spoken.values()],
    }
    rows = await tools.reader.fetch(marks_statement(), values, settings=settings(query, collection.tenant_id))
    if not rows:
        raise NotFoundError("no such collection")
    return Marks.read(rows[0])


async def by_words(hits: Iterable[Hit], marks: Marks, tags: Tags) -> dict[str, tuple[str, ...]]:
    """The fragments of the chunks in which words of the question occur."""
    fragments = {}
    for hit in hits:
        words = marks.words.get(marks.languages.get(hit.document_id, ""), {})
        for chunk in hit.chunks:
            if found := marks_in(chunk.text, words):
                fragments[chunk.chunk_id] = best_fragments(chunk.text, found, marks.weights, tags)
        await asyncio.sleep(0)  # A page has up to a thousand chunks, .1 ms each: others have their turn.
    return fragments


async def by_meaning(
    chunks: Sequence[ChunkHit], vector: Vector | None, *, embedder: Embedder
) -> dict[str, tuple[str, ...]]:
    """The sentence of each chunk that is nearest to the question; the first one where sentences are not compared."""
    sentences = {}
    for chunk in chunks:
        sentences[chunk.chunk_id] = [chunk.text[p.start : p.end] for p in passages_of(chunk.text)]
        await asyncio.sleep(0)  # as above
    nearest = {chunk_id: tuple(its_sentences[:1]) for chunk_id, its_sentences in sentences.items()}
    if vector is None:
        return nearest
    compared = dict(few(sentences))
    texts = [sentence for its_sentences in compared.values() for sentence in its_sentences]
    if not texts:
        return nearest
    try:
        async with asyncio.timeout(EMBEDDED_SECONDS):
            scores = await embedder.embed_passages(texts) @ vector
    except (OverloadedError, UnavailableError, TimeoutError):
        return nearest
    at = 0
    for chunk_id, its_sentences in compared.items():
        end = at + len(its_sentences)
        nearest[chunk_id] = (its_sentences[int(np.argmax(scores[at:end]))],)
        at = end
    return nearest


def few(sentences: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Sequence[str]]]:
    """Of chunks with more than one sentence, as many as may be embedded."""
    left = EMBEDDED_SENTENCES
    several = [(chunk_id, some) for chunk_id, some in sentences.items() if len(some) > 1]
    for chunk_id, some in several[:EMBEDDED_CHUNKS]:
        left -= len(some)
        if left < 0:
            return
        yield chunk_id, some


def by_rank(hits: Sequence[Hit]) -> list[ChunkHit]:
    """The best chunk of every hit, then the second best, and so on."""
    placed = [(place, chunk) for hit in hits for place, chunk in enumerate(hit.chunks)]
    return [chunk for _, chunk in sorted(placed, key=lambda pair: pair[0])]
