"""A version's way from pending to served, or to failed; its chunks are written by `chunk_rows.py` in the same transaction."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Integer, Uuid, bindparam, case, delete, func, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db import jobs
from service.db.arrays import rows_of
from service.db.failures import failed, pending
from service.db.jobs import ReturnedJob
from service.db.primary import cannot_encode
from service.db.tables import collections, document_versions, documents
from service.domain.errors import ServiceError


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
    text: str | None  # left out where the version has its own vector: then nobody but the database needs it
    characters: int  # of the text
    blob_key: str | None
    has_vector: bool


async def pending_versions(
    connection: AsyncConnection, wanted: Sequence[tuple[UUID, int]]
) -> dict[tuple[UUID, int], PendingVersion]:
    """The versions by (document, number); absent are those deleted or overtaken by a newer one since."""
    v, d, c = document_versions.c, documents.c, collections.c
    keys = rows_of("wanted", id=("ids", Uuid), number=("numbers", Integer))
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
            case((v.vector.is_(None), v.text)).label("text"),
            func.coalesce(func.char_length(v.text), 0).label("characters"),
            v.blob_key,
            v.vector.is_not(None).label("has_vector"),
        )
        .select_from(keys)
        .join(document_versions, (v.document_id == keys.c.id) & (v.number == keys.c.number))
        .join(documents, (d.id == v.document_id) & (d.version == v.number))
        .join(collections, c.id == v.collection_id)
        .where(v.status == "pending", c.deleted_at.is_(None))
    )
    ids, numbers = [w[0] for w in wanted], [w[1] for w in wanted]
    rows = (await connection.execute(statement, {"ids": ids, "numbers": numbers})).mappings()
    found = [PendingVersion(**row) for row in rows]
    return {(version.document_id, version.number): version for version in found}


async def lock_newer(connection: AsyncConnection, versions: Sequence[PendingVersion]) -> dict[UUID, int]:
    """Locks the documents, in id order, and returns those whose served version is older than the one at hand, with that
    version's number; 0 where none is served yet.
    """
    d = documents.c
    numbers = {version.document_id: version.number for version in versions}
    ids = bindparam("ids", list(numbers), type_=ARRAY(Uuid))
    statement = select(d.id, d.indexed_version).where(d.id == func.any(ids)).order_by(d.id).with_for_update()
    served = {row.id: row.indexed_version or 0 for row in await connection.execute(statement)}
    return {id_: number for id_, number in served.items() if number < numbers[id_]}


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
    versions = [version for version in versions if version.number > 1]
    if not versions:
        return []
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
        .values(failed(code, message))
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
        .values(pending())
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
