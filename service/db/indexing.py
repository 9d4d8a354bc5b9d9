"""What makes a version searchable: chunks, terms, embeddings and the document's own fields, in one transaction."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
import orjson
from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import (
    ARRAY,
    BindParameter,
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
    select,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeEngine

from service.db import jobs
from service.db.jobs import ReturnedJob
from service.db.primary import cannot_encode
from service.db.tables import (
    chunk_terms,
    chunks,
    collections,
    document_versions,
    documents,
    embeddings,
)
from service.db.terms import insert_terms
from service.domain.errors import ServiceError
from service.domain.texts import ChunkText


@dataclass(frozen=True, slots=True)
class PendingVersion:
    """A version to index, with what its collection decides."""

    document_id: UUID
    number: int
    collection_id: UUID
    profile_id: UUID
    collection_chunks: int
    title: str | None
    content_type: str
    filename: str | None
    sha256: bytes
    text: str | None
    blob_key: str | None
    vector: Sequence[float] | None


@dataclass(frozen=True, slots=True)
class NewChunk:
    id: UUID
    document_id: UUID
    collection_id: UUID
    profile_id: UUID
    chunk: ChunkText
    embedding: np.ndarray


async def pending_versions(
    connection: AsyncConnection, wanted: Sequence[tuple[UUID, int]]
) -> dict[tuple[UUID, int], PendingVersion]:
    """The versions by (document, number); absent are those deleted or overtaken by a newer one since."""
    v, d, c = document_versions.c, documents.c, collections.c
    keys = (
        func.unnest(bindparam("ids", type_=ARRAY(Uuid)), bindparam("numbers", type_=ARRAY(Integer)))
        .table_valued("id", "number", name="wanted")
        .render_derived()
    )
    statement = (
        select(
            v.document_id,
            v.number,
            v.collection_id,
            c.profile_id,
            c.chunk_count.label("collection_chunks"),
            v.title,
            v.content_type,
            v.filename,
            v.sha256,
            v.text,
            v.blob_key,
            v.vector,
        )
        .select_from(keys)
        .join(document_versions, (v.document_id == keys.c.id) & (v.number == keys.c.number))
        .join(documents, (d.id == v.document_id) & (d.version == v.number))
        .join(collections, c.id == v.collection_id)
        .where(v.status == "pending", c.deleted_at.is_(None))
    )
    ids, numbers = [w[0] for w in wanted], [w[1] for w in wanted]
    rows = (await connection.execute(statement, {"ids": ids, "numbers": numbers})).mappings()
    found = [PendingVersion(**{**row, "vector": listed(row["vector"])}) for row in rows]
    return {(version.document_id, version.number): version for version in found}


def listed(vector: Sequence[float] | None) -> list[float] | None:
    return None if vector is None else [float(x) for x in vector]


async def lock_newer(connection: AsyncConnection, versions: Sequence[PendingVersion]) -> set[UUID]:
    """Locks the documents, in id order, and returns those whose served version is older than the one at hand."""
    d = documents.c
    numbers = {version.document_id: version.number for version in versions}
    statement = select(d.id, d.indexed_version).where(d.id.in_(numbers)).order_by(d.id).with_for_update()
    rows = await connection.execute(statement)
    return {row.id for row in rows if (row.indexed_version or 0) < numbers[row.id]}


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


def rows_of(name: str, **columns: tuple[str, type[TypeEngine[Any]]]) -> TableValuedAlias:
    """A table made of arrays: one parameter a column, one round trip however many rows. COPY is refused under row security."""
    arrays: list[BindParameter[Any]] = [bindparam(parameter, type_=ARRAY(kind)) for parameter, kind in columns.values()]
    return func.unnest(*arrays).table_valued(*columns, name=name).render_derived()


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


async def serve_versions(
    connection: AsyncConnection, versions: Sequence[PendingVersion], counts: Sequence[int]
) -> None:
    """The documents take the fields and the chunk count of these versions; from commit on, search serves them."""
    wanted = rows_of("wanted", id=("ids", Uuid), number=("numbers", Integer), chunk_count=("counts", Integer)).c
    v = document_versions.c
    statement = (
        update(documents)
        .where(documents.c.id == v.document_id, v.document_id == wanted.id, v.number == wanted.number)
        .values(
            indexed_version=v.number,
            title=v.title,
            source=v.source,
            tags=v.tags,
            published_at=v.published_at,
            language=v.language,
            attributes=v.attributes,
            chunk_count=wanted.chunk_count,
        )
    )
    numbers = {
        "ids": [version.document_id for version in versions],
        "numbers": [version.number for version in versions],
    }
    await connection.execute(statement, {**numbers, "counts": list(counts)})
    done = (
        update(document_versions).where(v.document_id == wanted.id, v.number == wanted.number).values(status="indexed")
    )
    await connection.execute(done, {**numbers, "counts": list(counts)})


async def drop_overtaken(connection: AsyncConnection, versions: Sequence[PendingVersion]) -> list[str]:
    """Deletes the versions older than these and returns the blob keys that no version names any more."""
    wanted = rows_of("wanted", id=("ids", Uuid), number=("numbers", Integer)).c
    v, kept = document_versions.c, document_versions.alias("kept").c
    old = delete(document_versions).where(v.document_id == wanted.id, v.number < wanted.number).returning(v.blob_key)
    keys: dict[str, list[Any]] = {
        "ids": [version.document_id for version in versions],
        "numbers": [version.number for version in versions],
    }
    dropped = {key for key in (await connection.execute(old, keys)).scalars() if key is not None}
    if not dropped:
        return []
    still = select(kept.blob_key).where(kept.document_id.in_(keys["ids"]), kept.blob_key.in_(dropped))
    return sorted(dropped - set((await connection.execute(still)).scalars()))


async def mark_failed(connection: AsyncConnection, document_id: UUID, number: int, *, code: str, message: str) -> None:
    v = document_versions.c
    await connection.execute(
        update(document_versions)
        .where(v.document_id == document_id, v.number == number, v.status == "pending")
        .values(status="failed", error_code=code, error_message=message)
    )


async def revive(connection: AsyncConnection, job: ReturnedJob) -> bool:
    """Queues a dead job again, its document pending; False when somebody else was faster.

    The document is locked first, as by everybody who changes it and its jobs.
    """
    document_id = job.document_id if job.kind in jobs.INDEX_KINDS else None
    if document_id is not None:
        await connection.execute(select(documents.c.id).where(documents.c.id == document_id).with_for_update())
    revived = await jobs.revive(connection, job.id)
    if revived and document_id is not None:
        await mark_pending(connection, document_id, jobs.version_of(job))
    return revived


async def mark_pending(connection: AsyncConnection, document_id: UUID, number: int) -> None:
    v = document_versions.c
    await connection.execute(
        update(document_versions)
        .where(v.document_id == document_id, v.number == number, v.status == "failed")
        .values(status="pending", error_code=None, error_message=None)
    )


class StatementRefusedError(ServiceError):
    """The database cannot hold a value: a fact about the row, not about the moment."""


@asynccontextmanager
async def refusing() -> AsyncIterator[None]:
    """Turns data and limit errors (SQLSTATE classes 22 and 54, or the driver's own) into StatementRefusedError."""
    try:
        yield
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None) or ""
        if state.startswith(("22", "54")) or cannot_encode(error):
            raise StatementRefusedError(f"{state}: {type(error.orig).__name__}") from error
        raise
