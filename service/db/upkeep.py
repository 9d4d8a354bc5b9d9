"""What maintenance jobs do in SQL: empty a deleted collection, analyse what has changed, merge what indexes put off."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.tables import chunk_terms, chunks, collections, document_versions, documents, embeddings, jobs

EMPTIED = 500  # documents in one transaction of a collection's removal
# Since a table was last analysed, of its rows and at least: loading a million rows from nothing analyses it some forty times.
CHANGED_SHARE, CHANGED_LEAST = 0.2, 1000


async def remove_some_documents(connection: AsyncConnection, collection_id: UUID) -> tuple[int, list[str]]:
    """Deletes one batch of a deleted collection's documents; returns how many, and the blob keys they named."""
    d = documents.c
    ids = list(
        (await connection.execute(select(d.id).where(d.collection_id == collection_id).limit(EMPTIED))).scalars()
    )
    keys = await remove_documents(connection, ids)
    return len(ids), keys


async def remove_documents(connection: AsyncConnection, ids: Sequence[UUID]) -> list[str]:
    """Deletes documents with everything under them, set by set; returns the blob keys that they named."""
    v = document_versions.c
    named = select(v.blob_key).distinct().where(v.document_id.in_(ids), v.blob_key.is_not(None))
    keys = list((await connection.execute(named)).scalars())
    await connection.execute(delete(jobs).where(jobs.c.document_id.in_(ids), jobs.c.state != "running"))
    for table in (embeddings, chunk_terms, chunks, document_versions):
        await connection.execute(delete(table).where(table.c.document_id.in_(ids)))
    await connection.execute(delete(documents).where(documents.c.id.in_(ids)))
    return [key for key in keys if key is not None]


UNNAMED = text(
    """
    select key from unnest(cast(:keys as text[])) key
    where exists (select from tenants)
      and not exists (select from document_versions where blob_key = key)
      and key not in (select jsonb_array_elements_text(payload -> 'keys') from jobs where kind = 'delete_blobs')
    """
)


async def unnamed_keys(connection: AsyncConnection, keys: Sequence[str]) -> list[str]:
    """Those of a tenant's keys that no version names and no job will delete in its time; none for an unknown tenant.

    One statement: a deletion moves keys from versions to a job in one commit, and this sees them before it or after.
    """
    return list((await connection.execute(UNNAMED, {"keys": list(keys)})).scalars())


async def remove_collection_row(connection: AsyncConnection, collection_id: UUID) -> None:
    c = collections.c
    await connection.execute(delete(collections).where(c.id == collection_id, c.deleted_at.is_not(None)))


async def analyze_changed(connection: AsyncConnection) -> list[str]:
    """Analyses the tables of searches that have changed much since they last were; returns which."""
    return list((await connection.execute(select(func.analyze_changed(CHANGED_SHARE, CHANGED_LEAST)))).scalar_one())


async def merge_pending(connection: AsyncConnection) -> int:
    """Moves what waits in the pending lists of the GIN indexes to where it is found fast; returns how many pages it took.

    Every search reads these lists, up to 1.7 ms of it, and after a load nobody else would empty them.
    """
    return int((await connection.execute(select(func.merge_pending()))).scalar_one())
