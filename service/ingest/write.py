"""The last step of indexing: one transaction after which a batch of versions is served, and its jobs are done."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import structlog

from service.db import chunk_rows, indexing, jobs
from service.db.chunk_rows import NewChunk, WholeChunk
from service.db.indexing import PendingVersion, StatementRefusedError
from service.db.jobs import Job
from service.domain.errors import ExtractionError
from service.domain.ids import new_id
from service.domain.texts import ChunkText
from service.ingest.report import report_ended
from service.ingest.tools import Tools

STATISTICS_AT_MOST = 4.0  # seconds that a collection's statistics are behind, while more of it waits to be indexed

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Indexable:
    """One version with its job; either chunks to serve or the reason why there are none.

    One with a vector of its own is one chunk, whose text does not leave the database.
    """

    job: Job
    version: PendingVersion
    chunks: tuple[ChunkText, ...] = ()
    failure: ExtractionError | None = None

    @property
    def chunk_count(self) -> int:
        return 1 if self.version.has_vector else len(self.chunks)


async def write(tenant_id: UUID | None, batch: list[tuple[Indexable, np.ndarray]], *, tools: Tools) -> None:
    """Commits the batch; where the database refuses a row, each version alone, and the culprit ends `failed`."""
    try:
        ended = await commit(tenant_id, batch, tools=tools)
    except StatementRefusedError as error:
        if len(batch) > 1:
            for single in batch:
                await write(tenant_id, [single], tools=tools)
            return
        item, _ = batch[0]
        ids = {"document_id": str(item.version.document_id), "job_id": str(item.job.id)}
        log.warning("version refused", **ids, error=str(error))
        failure = ExtractionError("corrupt", "the database cannot hold this text")
        empty = np.empty((0, tools.embedder.dimension), np.float32)
        refused = Indexable(item.job, item.version, failure=failure)
        ended = await commit(tenant_id, [(refused, empty)], tools=tools)
    report_ended(ended, telemetry=tools.telemetry)


async def commit(tenant_id: UUID | None, batch: list[tuple[Indexable, np.ndarray]], *, tools: Tools) -> list[Indexable]:
    """Fields, chunks, terms, embeddings, statuses and the jobs' end: all of it, or nothing. Returns what was not overtaken."""
    async with indexing.refusing(), tools.primary.begin(tenant_id) as connection:
        ours = await jobs.finish(connection, [item.job for item, _ in batch])
        held = [(item, matrix) for item, matrix in batch if item.job.id in ours]
        newer = await indexing.lock_newer(connection, [item.version for item, _ in held])
        held = [(item, matrix) for item, matrix in held if item.version.document_id in newer]
        for item, _ in held:
            if item.failure is not None:
                v = item.version
                await indexing.mark_failed(
                    connection, v.document_id, v.number, code=item.failure.code, message=str(item.failure)
                )
        served = [(item, matrix) for item, matrix in held if item.failure is None]
        if not served:
            return [item for item, _ in held]
        versions = [item.version for item, _ in served]
        await indexing.serve_versions(connection, versions, [item.chunk_count for item, _ in served])
        await chunk_rows.remove_chunks(connection, [v.document_id for v in versions if newer[v.document_id]])
        await chunk_rows.insert_all(connection, new_chunks(served), whole_chunks(served))
        orphans = await indexing.drop_overtaken(connection, versions)
        if orphans:
            await jobs.enqueue(
                connection,
                jobs.DELETE_BLOBS,
                tenant_id=tenant_id,
                payload={"keys": orphans},
                delay_seconds=tools.blob_grace_seconds,
            )
        # In id order: each stays locked until the commit, and two batches must not wait for each other.
        collections = dict(sorted({v.collection_id: v.collection_chunks for v in versions}.items()))
        awaited = await jobs.awaited_collections(connection, collections.keys())
        for collection_id, chunks in collections.items():
            await jobs.enqueue(
                connection,
                jobs.REFRESH_STATISTICS,
                tenant_id=tenant_id,
                collection_id=collection_id,
                dedupe_key=jobs.statistics_key(collection_id),
                delay_seconds=STATISTICS_AT_MOST if collection_id in awaited else statistics_delay(chunks),
            )
        return [item for item, _ in held]


def statistics_delay(chunks: int) -> float:
    """A recount costs some ten seconds a million chunks: soon for small collections, in good time for large ones."""
    return min(0.1 + chunks / 30_000, STATISTICS_AT_MOST)


def new_chunks(served: Sequence[tuple[Indexable, np.ndarray]]) -> list[NewChunk]:
    return [
        NewChunk(
            new_id(), item.version.document_id, item.version.collection_id, item.version.profile_id, chunk, matrix[row]
        )
        for item, matrix in served
        for row, chunk in enumerate(item.chunks)
    ]


def whole_chunks(served: Sequence[tuple[Indexable, np.ndarray]]) -> list[WholeChunk]:
    versions = [item.version for item, _ in served if item.version.has_vector]
    return [WholeChunk(new_id(), v.document_id, v.number, v.collection_id, v.profile_id) for v in versions]
