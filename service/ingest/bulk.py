"""Bulk loads: the index of vectors is dropped where nobody misses it, and comes back by a job, whatever becomes of the client."""

from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from service.db import graphs, jobs
from service.db.collections import find_collection
from service.db.jobs import Job
from service.db.primary import Primary
from service.domain.bulk import BulkLoad
from service.ingest.tools import Tools

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

log = structlog.get_logger(__name__)


async def begin_bulk_load(name: str, *, tenant_id: UUID, primary: Primary) -> BulkLoad:
    """Asks an owner's worker to put the index off; begun again, it is the same load."""
    async with primary.begin(tenant_id) as connection:
        collection = await find_collection(connection, tenant_id, name)
        standing = await graphs.find_bulk_load(connection, collection.id, collection.profile_id)
        if standing != "live":
            return standing
        await jobs.enqueue(
            connection,
            jobs.DEFER_GRAPH,
            tenant_id=tenant_id,
            collection_id=collection.id,
            dedupe_key=f"{jobs.DEFER_GRAPH}:{collection.id}",
        )
    return "preparing"


async def look_at_bulk_load(name: str, *, tenant_id: UUID, primary: Primary) -> BulkLoad:
    async with primary.begin(tenant_id) as connection:
        return await _standing(connection, name, tenant_id)


async def end_bulk_load(name: str, *, tenant_id: UUID, primary: Primary) -> BulkLoad:
    """The index is built as soon as nothing of the collection waits to be indexed."""
    async with primary.begin(tenant_id) as connection:
        collection = await find_collection(connection, tenant_id, name)
        await graphs.end_bulk_load(connection, collection.id)
        return await _standing(connection, name, tenant_id)


async def _standing(connection: "AsyncConnection", name: str, tenant_id: UUID) -> BulkLoad:
    collection = await find_collection(connection, tenant_id, name)
    return await graphs.find_bulk_load(connection, collection.id, collection.profile_id)


async def defer_graph(job: Job, *, tools: Tools, direct_url: str) -> None:
    deferred = await graphs.defer_graph(direct_url, job, tools.profile, exact_chunks=tools.exact_chunks)
    log.info("bulk load", deferred=deferred, collection_id=str(job.collection_id))


async def build_graph(job: Job, *, tools: Tools, direct_url: str) -> None:
    if await graphs.build_graph(direct_url, job, tools.profile):
        log.info("graph built", profile=tools.profile.name)
