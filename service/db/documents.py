"""Reading documents: always the newest version's fields, and what search serves beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from sqlalchemy import Select, and_, case, exists, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.failures import read_failure
from service.db.jobs import INDEX_KINDS
from service.db.tables import chunks, collections, document_versions, documents, jobs
from service.domain.documents import Chunk, Collection, Document, Fields, JsonObject
from service.domain.errors import NotFoundError

newest = document_versions.alias("newest")
is_running = exists(
    select(jobs.c.id).where(
        jobs.c.document_id == documents.c.id, jobs.c.kind.in_(INDEX_KINDS), jobs.c.state == "running"
    )
)
STATUS = case((and_(newest.c.status == "pending", is_running), "processing"), else_=newest.c.status)
COLUMNS = (
    documents.c.id,
    collections.c.name.label("collection"),
    documents.c.external_id,
    documents.c.version,
    documents.c.indexed_version,
    documents.c.chunk_count,
    documents.c.created_at,
    documents.c.updated_at,
    newest.c.title,
    newest.c.source,
    newest.c.tags,
    newest.c.published_at,
    newest.c.language,
    newest.c.attributes,
    newest.c.content_type,
    newest.c.size,
    newest.c.sha256,
    newest.c.failure,
    STATUS.label("status"),
)


@dataclass(frozen=True, slots=True)
class StoredBody:
    """Where the newest version's bytes are: in `text`, or in the object `blob_key`."""

    text: str | None
    blob_key: str | None
    filename: str | None
    content_type: str
    size: int
    sha256: bytes


def newest_versions(tenant_id: UUID, *columns: object) -> Select[Any]:
    """The scope of every document: its collection is the tenant's and live."""
    return (
        select(*cast("tuple[Any, ...]", columns))
        .select_from(collections)
        .join(documents, documents.c.collection_id == collections.c.id)
        .join(newest, and_(newest.c.document_id == documents.c.id, newest.c.number == documents.c.version))
        .where(collections.c.tenant_id == tenant_id, collections.c.deleted_at.is_(None))
    )


def read_fields(row: Mapping[str, Any]) -> Fields:
    return Fields(
        title=cast("str | None", row["title"]),
        source=cast("str | None", row["source"]),
        tags=tuple(cast("list[str]", row["tags"])),
        published_at=cast("datetime | None", row["published_at"]),
        language=cast("str | None", row["language"]),
        attributes=cast("JsonObject", row["attributes"]),
    )


def read_document(row: Mapping[str, Any]) -> Document:
    return Document(
        fields=read_fields(row),
        error=read_failure(row),
        **{
            name: row[name]
            for name in (
                "id",
                "collection",
                "external_id",
                "content_type",
                "size",
                "sha256",
                "version",
                "indexed_version",
                "status",
                "chunk_count",
                "created_at",
                "updated_at",
            )
        },
    )


async def find_document(connection: AsyncConnection, tenant_id: UUID, document_id: UUID) -> Document:
    """Raises NotFoundError."""
    statement = newest_versions(tenant_id, *COLUMNS).where(documents.c.id == document_id)
    row = (await connection.execute(statement)).mappings().one_or_none()
    if row is None:
        raise NotFoundError("no such document")
    return read_document(row)


async def find_document_id(connection: AsyncConnection, collection: Collection, external_id: str) -> UUID:
    """Raises NotFoundError."""
    statement = select(documents.c.id).where(
        documents.c.collection_id == collection.id, documents.c.external_id == external_id
    )
    document_id: UUID | None = (await connection.execute(statement)).scalar_one_or_none()
    if document_id is None:
        raise NotFoundError("no such document")
    return document_id


async def list_chunks(connection: AsyncConnection, document: Document, *, limit: int, after: int | None) -> list[Chunk]:
    """In order, of the version that search serves; the caller has found the document in the tenant's scope.

    The one chunk of a document without text is kept empty and shows the title, which is what it is found by.
    """
    c = chunks.c
    text = func.coalesce(func.nullif(c.text, ""), documents.c.title, "").label("text")
    statement = (
        select(c.id, c.ordinal, text, c.char_start, c.char_end, c.page)
        .join_from(chunks, documents, documents.c.id == c.document_id)
        .where(c.document_id == document.id)
        .order_by(c.ordinal)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(c.ordinal > after)
    return [Chunk(**row) for row in (await connection.execute(statement)).mappings()]


async def find_body(connection: AsyncConnection, tenant_id: UUID, document_id: UUID) -> StoredBody:
    """Raises NotFoundError."""
    n = newest.c
    statement = newest_versions(tenant_id, n.text, n.blob_key, n.filename, n.content_type, n.size, n.sha256)
    row = (await connection.execute(statement.where(documents.c.id == document_id))).mappings().one_or_none()
    if row is None:
        raise NotFoundError("no such document")
    return StoredBody(**row)


async def is_finished(connection: AsyncConnection, tenant_id: UUID, document_id: UUID, number: int) -> bool:
    """Whether a version is indexed, failed, overtaken or deleted: nothing more will happen to it."""
    v = document_versions.c
    statement = (
        select(v.status)
        .select_from(collections)
        .join(document_versions, v.collection_id == collections.c.id)
        .where(collections.c.tenant_id == tenant_id, v.document_id == document_id, v.number == number)
    )
    return (await connection.execute(statement)).scalar_one_or_none() != "pending"


async def ping(connection: AsyncConnection) -> None:
    """One round trip."""
    await connection.execute(select(literal(1)))
