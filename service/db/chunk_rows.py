"""The rows that search reads, a chunk at a time: its text, its terms, its embedding."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import orjson
from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import Insert, Integer, Text, Uuid, cast, delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.arrays import rows_of
from service.db.tables import chunk_terms, chunks, embeddings
from service.db.terms import insert_terms
from service.domain.texts import ChunkText


@dataclass(frozen=True, slots=True)
class NewChunk:
    id: UUID
    document_id: UUID
    collection_id: UUID
    profile_id: UUID
    chunk: ChunkText
    embedding: np.ndarray


async def replace_chunks(connection: AsyncConnection, document_ids: Sequence[UUID], new: Sequence[NewChunk]) -> None:
    """Removes what search knew of the documents and inserts the new chunks with their terms and embeddings."""
    for table in (embeddings, chunk_terms, chunks):
        await connection.execute(delete(table).where(table.c.document_id.in_(document_ids)))
    if not new:
        return
    await connection.execute(INSERT_CHUNKS, chunk_columns(new))
    await insert_terms(connection, [c.id for c in new], collection_ids={c.collection_id for c in new})
    await connection.execute(
        INSERT_EMBEDDINGS,
        {
            "chunk_ids": [c.id for c in new],
            "profile_ids": [c.profile_id for c in new],
            "collection_ids": [c.collection_id for c in new],
            "document_ids": [c.document_id for c in new],
            "vectors": [spelled(c.embedding) for c in new],
        },
    )


def spelled(vector: np.ndarray) -> str:
    """Its text form, as pgvector reads it and orjson writes it: ten times faster than Python's own."""
    return orjson.dumps(vector.astype(np.float32), option=orjson.OPT_SERIALIZE_NUMPY).decode()


def chunk_columns(new: Sequence[NewChunk]) -> dict[str, object]:
    return {
        "ids": [c.id for c in new],
        "collection_ids": [c.collection_id for c in new],
        "document_ids": [c.document_id for c in new],
        "ordinals": [c.chunk.ordinal for c in new],
        "texts": [c.chunk.text for c in new],
        "starts": [c.chunk.char_start for c in new],
        "ends": [c.chunk.char_end for c in new],
        "pages": [c.chunk.page for c in new],
    }


def insert_chunks() -> Insert:
    r = rows_of(
        "r",
        id=("ids", Uuid),
        collection_id=("collection_ids", Uuid),
        document_id=("document_ids", Uuid),
        ordinal=("ordinals", Integer),
        text=("texts", Text),
        char_start=("starts", Integer),
        char_end=("ends", Integer),
        page=("pages", Integer),
    )
    names = ["id", "collection_id", "document_id", "ordinal", "text", "char_start", "char_end", "page"]
    return insert(chunks).from_select(names, select(*(r.c[name] for name in names)))


def insert_embeddings() -> Insert:
    r = rows_of(
        "r",
        chunk_id=("chunk_ids", Uuid),
        profile_id=("profile_ids", Uuid),
        collection_id=("collection_ids", Uuid),
        document_id=("document_ids", Uuid),
        vector=("vectors", Text),
    )
    c = r.c
    names = ["chunk_id", "profile_id", "collection_id", "document_id", "embedding"]
    columns = (c.chunk_id, c.profile_id, c.collection_id, c.document_id, cast(c.vector, HALFVEC))
    return insert(embeddings).from_select(names, select(*columns))


INSERT_CHUNKS, INSERT_EMBEDDINGS = insert_chunks(), insert_embeddings()
