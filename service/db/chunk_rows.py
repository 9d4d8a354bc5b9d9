"""The rows that search reads, a chunk at a time: its text, its terms, its embedding."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import orjson
from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import (
    ARRAY,
    ColumnClause,
    FromClause,
    Insert,
    Integer,
    TableValuedAlias,
    Text,
    Uuid,
    bindparam,
    cast,
    delete,
    func,
    insert,
    literal_column,
    null,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.arrays import rows_of
from service.db.tables import chunk_terms, chunks, document_versions, embeddings
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


@dataclass(frozen=True, slots=True)
class WholeChunk:
    """The one chunk of a version that came with its vector: text and vector are where they are needed already."""

    id: UUID
    document_id: UUID
    number: int
    collection_id: UUID
    profile_id: UUID


async def remove_chunks(connection: AsyncConnection, document_ids: Sequence[UUID]) -> None:
    """What search knows of the documents."""
    if not document_ids:
        return
    for table in (embeddings, chunk_terms, chunks):
        ids = bindparam("ids", list(document_ids), type_=ARRAY(Uuid))
        await connection.execute(delete(table).where(table.c.document_id == func.any(ids)))


async def insert_all(connection: AsyncConnection, new: Sequence[NewChunk], whole: Sequence[WholeChunk]) -> None:
    """Chunks with their terms and embeddings."""
    if new:
        await connection.execute(INSERT_CHUNKS, chunk_columns(new))
    if whole:
        await connection.execute(INSERT_WHOLE_CHUNKS, whole_columns(whole))
    every: list[NewChunk | WholeChunk] = [*new, *whole]
    if every:
        await insert_terms(connection, [c.id for c in every], collection_ids={c.collection_id for c in every})
    if new:
        await connection.execute(INSERT_EMBEDDINGS, embedding_columns(new))
    if whole:
        await connection.execute(INSERT_WHOLE_EMBEDDINGS, whole_columns(whole))


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


def embedding_columns(new: Sequence[NewChunk]) -> dict[str, object]:
    return {
        "chunk_ids": [c.id for c in new],
        "profile_ids": [c.profile_id for c in new],
        "collection_ids": [c.collection_id for c in new],
        "document_ids": [c.document_id for c in new],
        "vectors": [spelled(c.embedding) for c in new],
    }


def whole_columns(whole: Sequence[WholeChunk]) -> dict[str, object]:
    return {
        "chunk_ids": [c.id for c in whole],
        "document_ids": [c.document_id for c in whole],
        "numbers": [c.number for c in whole],
        "profile_ids": [c.profile_id for c in whole],
    }


def whole_rows() -> tuple[TableValuedAlias, FromClause]:
    """The chunks' ids, and beside each the version that it is the whole of."""
    r = rows_of(
        "r",
        chunk_id=("chunk_ids", Uuid),
        document_id=("document_ids", Uuid),
        number=("numbers", Integer),
        profile_id=("profile_ids", Uuid),
    )
    v = document_versions.c
    return r, r.join(document_versions, (v.document_id == r.c.document_id) & (v.number == r.c.number))


def insert_whole_chunks() -> Insert:
    (r, rows), v = whole_rows(), document_versions.c
    zero: ColumnClause[int] = literal_column("0")
    selected = select(
        r.c.chunk_id, v.collection_id, v.document_id, zero, v.text, zero, func.char_length(v.text), null()
    )
    names = ["id", "collection_id", "document_id", "ordinal", "text", "char_start", "char_end", "page"]
    return insert(chunks).from_select(names, selected.select_from(rows).order_by(r.c.chunk_id))


def insert_whole_embeddings() -> Insert:
    """As accepted: of unit length, in half precision. In the order of their ids, so that loads of a kind are alike."""
    (r, rows), v = whole_rows(), document_versions.c
    selected = select(r.c.chunk_id, r.c.profile_id, v.collection_id, v.document_id, v.vector)
    names = ["chunk_id", "profile_id", "collection_id", "document_id", "embedding"]
    return insert(embeddings).from_select(names, selected.select_from(rows).order_by(r.c.chunk_id))


INSERT_CHUNKS, INSERT_EMBEDDINGS = insert_chunks(), insert_embeddings()
INSERT_WHOLE_CHUNKS, INSERT_WHOLE_EMBEDDINGS = insert_whole_chunks(), insert_whole_embeddings()
