"""Maintenance jobs: statistics, new epochs, what deletion leaves behind, the owner's indexes. Each is safe to repeat."""

from typing import TYPE_CHECKING, cast
from uuid import UUID

import structlog

from service.db import jobs, terms
from service.db import upkeep as rows
from service.db.attribute_indexes import settle_index
from service.db.jobs import Job
from service.domain.errors import OverloadedError, UnavailableError
from service.ingest import bulk
from service.ingest.tools import Tools

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

log = structlog.get_logger(__name__)


async def run(job: Job, *, tools: Tools, direct_url: str | None) -> None:
    match job.kind:
        case jobs.REFRESH_STATISTICS:
            await refresh_statistics(job, tools=tools)
        case jobs.REWRITE_WEIGHTS:
            await rewrite_weights(job, tools=tools)
        case jobs.DELETE_BLOBS:
            await tools.blobs.delete(cast("list[str]", job.payload["keys"]))  # which keeps those of a branch's parent
            await finish(job, tools=tools)
        case jobs.DELETE_COLLECTION:
            await delete_collection(job, tools=tools)
        case jobs.INDEX_ATTRIBUTE if direct_url is not None:
            await settle_index(direct_url, str(job.payload["key"]))
            await finish(job, tools=tools)
        case jobs.DEFER_GRAPH if direct_url is not None:
            await bulk.defer_graph(job, tools=tools, direct_url=direct_url)
        case jobs.BUILD_GRAPH if direct_url is not None:
            await bulk.build_graph(job, tools=tools, direct_url=direct_url)
        case _:
            raise ValueError(f"no worker knows the job kind {job.kind!r}")


def collection_of(job: Job) -> UUID:
    if job.collection_id is None:
        raise ValueError(f"job {job.id} of kind {job.kind!r} names no collection")
    return job.collection_id


async def finish(job: Job, *, tools: Tools) -> None:
    async with tools.primary.begin() as connection:
        await jobs.finish(connection, [job])


async def refresh_statistics(job: Job, *, tools: Tools) -> None:
    collection_id = collection_of(job)
    async with tools.primary.begin(job.tenant_id) as connection:
        if not await jobs.finish(connection, [job]):
            return
        await terms.refresh_statistics(connection, collection_id)
        if await terms.is_behind(connection, collection_id):
            await enqueue_rewrite(connection, job)
    await settle_tables(tools=tools)


async def settle_tables(*, tools: Tools) -> None:
    """What makes searches faster and changes no answer: the collection is settled whether it works or not."""
    try:
        async with tools.primary.begin() as connection:
            analyzed = await rows.analyze_changed(connection)
        async with tools.primary.begin() as connection:
            await rows.merge_pending(connection)
    except (OverloadedError, UnavailableError) as error:
        log.warning("tables not analyzed, or words not merged", reason=str(error))
    else:
        if analyzed:
            log.info("tables analyzed", tables=analyzed)


async def enqueue_rewrite(connection: "AsyncConnection", job: Job, *, delay_seconds: float = 0) -> None:
    await jobs.enqueue(
        connection,
        jobs.REWRITE_WEIGHTS,
        tenant_id=job.tenant_id,
        collection_id=job.collection_id,
        dedupe_key=f"{jobs.REWRITE_WEIGHTS}:{job.collection_id}",
        delay_seconds=delay_seconds,
    )


async def rewrite_weights(job: Job, *, tools: Tools) -> None:
    """In batches, each its own transaction: searches go on, over weights of both epochs for a moment."""
    rewritten = 1
    while rewritten:
        async with tools.primary.begin(job.tenant_id) as connection:
            rewritten = (await terms.rewrite_weights(connection, collection_of(job))).chunks
    async with tools.primary.begin(job.tenant_id) as connection:
        if await jobs.finish(connection, [job]) and await terms.is_behind(connection, collection_of(job)):
            await enqueue_rewrite(connection, job, delay_seconds=1)  # Somebody held the last rows.
    await settle_tables(tools=tools)


async def delete_collection(job: Job, *, tools: Tools) -> None:
    removed = 1
    while removed:
        async with tools.primary.begin(job.tenant_id) as connection:
            removed, keys = await rows.remove_some_documents(connection, collection_of(job))
            if keys:
                await jobs.enqueue(
                    connection,
                    jobs.DELETE_BLOBS,
                    tenant_id=job.tenant_id,
                    payload={"keys": keys},
                    delay_seconds=tools.blob_grace_seconds,
                )
    async with tools.primary.begin(job.tenant_id) as connection:
        await rows.remove_collection_row(connection, collection_of(job))
        await jobs.finish(connection, [job])
