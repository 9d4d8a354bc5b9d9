"""Documents held for a change: locked rows, and what their newest versions say."""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from sqlalchemy import ARRAY, Text, Uuid, bindparam, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.documents import read_fields
from service.db.tables import collections, document_versions, documents
from service.domain.attributes import same_json
from service.domain.documents import BlobBody, Collection, Fields, Version
from service.domain.errors import NotFoundError

v, d = document_versions.c, documents.c


@dataclass(frozen=True, slots=True)
class LockedDocument:
    """A document that nobody else changes until the transaction ends."""

    id: UUID
    collection_id: UUID
    external_id: str | None
    version: int
    indexed_version: int | None


@dataclass(frozen=True, slots=True)
class NewestVersion:
    """What the newest version says, without its text."""

    fields: Fields
    content_type: str
    size: int
    sha256: bytes
    blob_key: str | None
    filename: str | None
    vector: tuple[float, ...] | None
    status: str

    @property
    def is_file(self) -> bool:
        return self.blob_key is not None

    def says(self, version: Version) -> bool:
        """Whether the version on offer has the same bytes and fields."""
        body, mine, theirs = version.body, self.fields, version.fields
        named = (body.filename, None) if isinstance(body, BlobBody) else (None, halved(body.vector))
        return (
            self.sha256 == version.sha256
            and self.is_file == isinstance(body, BlobBody)
            and self.content_type == version.content_type
            and (self.filename, self.vector) == named
            and (mine.title, mine.source, mine.tags) == (theirs.title, theirs.source, theirs.tags)
            and (mine.published_at, mine.language) == (theirs.published_at, theirs.language)
            and same_json(mine.attributes, theirs.attributes)
        )


def halved(vector: tuple[float, ...] | None) -> tuple[float, ...] | None:
    """The numbers as a halfvec keeps them."""
    if vector is None:
        return None
    form = f"{len(vector)}e"
    return tuple(struct.unpack(form, struct.pack(form, *vector)))


LOCKED = (d.id, d.collection_id, d.external_id, d.version, d.indexed_version)
LOCK_BY_EXTERNAL_ID = (
    select(*LOCKED)
    .where(
        d.collection_id == bindparam("collection_id"),
        d.external_id == func.any(bindparam("external_ids", type_=ARRAY(Text))),
    )
    # The order in which the worker locks too: two transactions that share documents wait, and never deadlock.
    .order_by(d.id)
    .with_for_update()
)


async def lock_by_external_ids(
    connection: AsyncConnection, collection: Collection, external_ids: Iterable[str]
) -> dict[str, LockedDocument]:
    """Those of the documents that exist."""
    bound = {"collection_id": collection.id, "external_ids": sorted(external_ids)}
    rows = (await connection.execute(LOCK_BY_EXTERNAL_ID, bound)).mappings()
    return {row["external_id"]: LockedDocument(**row) for row in rows}


async def lock_document(connection: AsyncConnection, tenant_id: UUID, document_id: UUID) -> LockedDocument:
    """Raises NotFoundError."""
    statement = (
        select(*LOCKED)
        .select_from(collections)
        .join(documents, d.collection_id == collections.c.id)
        .where(collections.c.tenant_id == tenant_id, collections.c.deleted_at.is_(None), d.id == document_id)
        .with_for_update(of=documents)
    )
    row = (await connection.execute(statement)).mappings().one_or_none()
    if row is None:
        raise NotFoundError("no such document")
    return LockedDocument(**row)


async def find_newest(connection: AsyncConnection, locked: Iterable[LockedDocument]) -> dict[UUID, NewestVersion]:
    """The newest versions of locked documents. A statement of its own: one that waited for the lock may see old rows."""
    numbers = {document.id: document.version for document in locked}
    if not numbers:
        return {}
    statement = (
        select(
            v.document_id,
            v.title,
            v.source,
            v.tags,
            v.published_at,
            v.language,
            v.attributes,
            v.content_type,
            v.size,
            v.sha256,
            v.blob_key,
            v.filename,
            v.vector,
            v.status,
        )
        .join(documents, (d.id == v.document_id) & (d.version == v.number))
        .where(v.document_id == func.any(literal(list(numbers), ARRAY(Uuid))))
    )
    rows = (await connection.execute(statement)).mappings()
    return {row["document_id"]: read_newest(cast("Mapping[str, Any]", row)) for row in rows}


def read_newest(row: Mapping[str, Any]) -> NewestVersion:
    plain = ("content_type", "size", "sha256", "blob_key", "filename", "status")
    vector = None if row["vector"] is None else halved(tuple(row["vector"]))  # Postgres spells them in decimals.
    return NewestVersion(fields=read_fields(row), vector=vector, **{name: row[name] for name in plain})
