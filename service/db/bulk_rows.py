"""Rows by COPY straight into the tables that search reads, their indexes built afterwards: for measuring large collections.

No client comes by here: what this writes has no versions, no jobs and no blobs.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray
from pgvector import HalfVector
from pgvector.asyncpg import register_vector
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.owner import as_owner
from service.db.profiles import EmbeddingProfile
from service.db.roles import identifier
from service.db.tables import chunk_terms, chunks, documents, embeddings, lexeme_frequencies
from service.db.terms import insert_terms, refresh_statistics
from service.domain.ids import new_id

BUILDING = {
    "maintenance_work_mem": "4GB",  # The graph of a million vectors of 384 fits; beyond it, building is many times slower.
    "max_parallel_maintenance_workers": "3",
}
FILLED = (documents, chunks, chunk_terms, embeddings, lexeme_frequencies)


@dataclass(frozen=True, slots=True)
class ChunkDraft:
    """A document of one chunk; `vector` has the profile's dimension and unit length."""

    title: str
    text: str
    vector: NDArray[np.float32]


async def count_documents(direct_url: str, *, besides: Collection[UUID] = ()) -> int:
    """Of all tenants, those of some collections left out."""
    counted = select(func.count()).select_from(documents).where(documents.c.collection_id.not_in(besides))
    async with as_owner(direct_url) as connection:
        return int((await connection.execute(counted)).scalar_one())


async def copy_chunks(
    direct_url: str, drafts: Sequence[ChunkDraft], *, collection_id: UUID, profile: EmbeddingProfile
) -> None:
    """In one transaction of the owner, with their terms."""
    rows = [(new_id(), new_id(), draft) for draft in drafts]
    async with as_owner(direct_url) as connection:
        driver = await driver_of(connection)
        await driver.copy_records_to_table(
            "documents",
            columns=["id", "collection_id", "indexed_version", "title", "chunk_count"],
            records=[(document, collection_id, 1, draft.title, 1) for document, _, draft in rows],
        )
        await driver.copy_records_to_table(
            "chunks",
            columns=["id", "collection_id", "document_id", "ordinal", "text", "char_start", "char_end"],
            records=[
                (chunk, collection_id, document, 0, draft.text, 0, len(draft.text)) for document, chunk, draft in rows
            ],
        )
        await driver.copy_records_to_table(
            "embeddings",
            columns=["chunk_id", "profile_id", "collection_id", "document_id", "embedding"],
            records=[
                (chunk, profile.id, collection_id, document, HalfVector(draft.vector))
                for document, chunk, draft in rows
            ],
        )
        await insert_terms(connection, [chunk for _, chunk, _ in rows], collection_ids=[collection_id])


async def driver_of(connection: AsyncConnection) -> "asyncpg.Connection[asyncpg.Record]":
    driver: asyncpg.Connection[asyncpg.Record] | None = (await connection.get_raw_connection()).driver_connection
    if driver is None:
        raise RuntimeError("a connection that is open has a driver's connection")
    await register_vector(driver)
    return driver


@asynccontextmanager
async def indexes_built_later(direct_url: str, profile: EmbeddingProfile) -> AsyncIterator[None]:
    """Drops the two indexes that cost most per row, and builds them again in parallel at the end."""
    names = [f"embeddings_p_{profile.id.hex}_hnsw", "ix_chunk_terms_terms"]
    async with as_owner(direct_url) as connection:
        definitions = [
            str(
                (
                    await connection.execute(text("select pg_get_indexdef(to_regclass(:name))"), {"name": name})
                ).scalar_one()
            )
            for name in names
        ]
        for name in names:
            await connection.execute(text(f"drop index {identifier(name)}"))
    try:
        yield
    finally:
        async with as_owner(direct_url) as connection:
            for setting, value in BUILDING.items():
                await connection.execute(
                    text("select set_config(:setting, :value, true)"), {"setting": setting, "value": value}
                )
            for definition in definitions:
                await connection.execute(text(definition))


async def settle(direct_url: str, collection_ids: Sequence[UUID]) -> None:
    """What the worker's jobs would do: count the terms, analyse; and vacuum, as autovacuum does in time."""
    for collection_id in collection_ids:
        async with as_owner(direct_url) as connection:
            await connection.execute(text("set local work_mem = '512MB'"))
            await refresh_statistics(connection, collection_id)
    async with as_owner(direct_url, autocommit=True) as connection:
        for table in FILLED:
            await connection.execute(text(f"vacuum (analyze) {identifier(table.name)}"))


async def empty(direct_url: str, *, of: Collection[UUID]) -> None:
    """At once, unless anybody else has documents there: then nothing is touched, and deleting the collections is slow."""
    if await count_documents(direct_url, besides=of):
        return
    async with as_owner(direct_url) as connection:
        await connection.execute(text(f"truncate {', '.join(identifier(table.name) for table in FILLED)} cascade"))


async def sizes(direct_url: str) -> dict[str, int]:
    """Bytes of each table and each of its indexes, by name."""
    tables = [table.name for table in FILLED]
    asked = text(
        """
        select c.relname, case c.relkind when 'i' then pg_relation_size(c.oid) else pg_table_size(c.oid) end
        from pg_class c left join pg_index i on i.indexrelid = c.oid
        where c.relkind in ('r', 'i') and c.relnamespace = 'public'::regnamespace
          and exists (select from unnest(cast(:tables as text[])) t
                      where coalesce((select relname from pg_class where oid = i.indrelid), c.relname) ~ ('^' || t || '(_p_.*)?$'))
        order by 2 desc
        """
    )
    async with as_owner(direct_url) as connection:
        rows = await connection.execute(asked, {"tables": tables})
        return {str(name): int(size) for name, size in rows if size}
