"""A batch of accepted versions becomes searchable: read, extract, chunk, embed, then one transaction a tenant."""

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import numpy as np
import structlog

from service.db import indexing, jobs
from service.db.indexing import PendingVersion
from service.db.jobs import Job
from service.db.profiles import EmbeddingProfile
from service.domain.errors import BlobCorruptError, BlobNotFoundError, ExtractionError
from service.domain.texts import ChunkText, ExtractedText
from service.embeddings.base import Embedder
from service.ingest.chunk import fit_title, split_into_chunks
from service.ingest.report import named
from service.ingest.tools import Tools
from service.ingest.write import Indexable, write

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

PART_CHARACTERS = 400_000  # some 400 chunks embedded and written together
WHOLE_CHARACTERS = 100_000  # A document with its own vector is one chunk; more terms than this a row cannot hold.

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Read:
    """One version with its job and its text, or the reason why it has none."""

    job: Job
    version: PendingVersion
    text: ExtractedText | ExtractionError


def passages(title: str | None, chunks: Sequence[ChunkText], embedder: Embedder) -> list[str]:
    """What is embedded: the title before every chunk, worth .046 nDCG@10 (measured). A long title leaves the text its half."""
    shown = fit_title(title, count_tokens=embedder.count_tokens, max_tokens=embedder.max_tokens)
    return [f"{shown}\n{chunk.text}" if shown else chunk.text for chunk in chunks]


async def index_batch(claimed: Sequence[Job], *, tools: Tools) -> None:
    """Finishes every job of the batch, or raises and leaves them to be tried again."""
    by_tenant = sorted(claimed, key=lambda job: str(job.tenant_id))
    for tenant_id, group in groupby(by_tenant, key=lambda job: job.tenant_id):
        await index_of_tenant(tenant_id, list(group), tools=tools)


async def index_of_tenant(tenant_id: UUID | None, claimed: Sequence[Job], *, tools: Tools) -> None:
    wanted = {(job.document_id, jobs.version_of(job)): job for job in claimed}
    async with tools.primary.begin(tenant_id) as connection:
        found = await indexing.pending_versions(connection, list(wanted))  # type: ignore[arg-type]
        # Deleted or overtaken since: nothing is left to do.
        await jobs.finish(connection, [job for key, job in wanted.items() if key not in found])
        foreign = {key for key, version in found.items() if version.profile_id != tools.profile.id}
        if foreign:
            await refuse(connection, [wanted[key] for key in foreign], profile=tools.profile)
    # In the order of the jobs, not of the rows, which is the planner's: chunks that nothing else tells apart rank as they came.
    for part in sized([found[key] for key in wanted if key in found and key not in foreign]):
        with tools.telemetry.index_stage("read"):
            read = await asyncio.gather(*(read_version(wanted[v.document_id, v.number], v, tools=tools) for v in part))
        # One thread for all of them: ten megabytes of text take seconds, and more threads only hinder the embedder's.
        with tools.telemetry.index_stage("chunk"):
            prepared = await asyncio.to_thread(chunk_all, read, tools.embedder)
        with tools.telemetry.index_stage("embed"):
            vectors = await embed(prepared, tools.embedder)
        with tools.telemetry.index_stage("write"):
            await write(tenant_id, list(zip(prepared, vectors, strict=True)), tools=tools)


def sized(versions: Sequence[PendingVersion]) -> Iterator[list[PendingVersion]]:
    """Parts of bounded text, so that the size of a claim in documents bounds its memory too."""
    part: list[PendingVersion] = []
    size = 0
    for version in versions:
        size += len(version.text or "")
        if part and size > PART_CHARACTERS:
            yield part
            part, size = [], len(version.text or "")
        part.append(version)
    if part:
        yield part


async def refuse(connection: "AsyncConnection", claimed: Sequence[Job], *, profile: EmbeddingProfile) -> None:
    """Two models of one dimension mix silently, so the jobs wait for a worker of their collection's model."""
    reason = f"the collection's embedding profile is not {profile.name!r}, the only one that this worker has"
    log.error("foreign profile", count=len(claimed), profile=profile.name, **named(claimed))
    await jobs.fail(connection, claimed, error=reason, outage=True)


async def read_version(job: Job, version: PendingVersion, *, tools: Tools) -> Read:
    """The version's text. A file that cannot be read is a result, not an error: the document ends `failed`."""
    if version.blob_key is None:
        return Read(job, version, ExtractedText(version.text or "", version.content_type))
    try:
        return Read(job, version, await read_file(version, tools=tools))
    except ExtractionError as failure:
        return Read(job, version, failure)
    except (BlobNotFoundError, BlobCorruptError) as error:
        ids = {"document_id": str(version.document_id), "job_id": str(job.id)}
        log.warning("blob lost", **ids, blob_key=version.blob_key, error=str(error))
        return Read(job, version, ExtractionError("corrupt", "the stored file is damaged or missing"))


async def read_file(version: PendingVersion, *, tools: Tools) -> ExtractedText:
    with tempfile.TemporaryDirectory(prefix="extract-") as folder:
        path = Path(folder) / "file"
        await tools.blobs.fetch(str(version.blob_key), path, sha256=version.sha256.hex())
        return await tools.extractor.extract(path, content_type=version.content_type, filename=version.filename)


def chunk_all(read: Sequence[Read], embedder: Embedder) -> list[Indexable]:
    return [chunked(each, embedder) for each in read]


def chunked(read: Read, embedder: Embedder) -> Indexable:
    version, text = read.version, read.text
    if isinstance(text, ExtractionError):
        return Indexable(read.job, version, failure=text)
    if version.has_vector:
        if version.characters > WHOLE_CHARACTERS:
            reason = f"with a vector, the text is one chunk of up to {WHOLE_CHARACTERS} characters"
            return Indexable(read.job, version, failure=ExtractionError("too_large", reason))
        return Indexable(read.job, version)
    chunks = split_into_chunks(text, title=version.title, tokens=embedder)
    if not chunks and version.title:
        chunks = [ChunkText(0, "", 0, 0, None)]  # found by its title alone
    return Indexable(read.job, version, tuple(chunks))


async def embed(prepared: Sequence[Indexable], embedder: Embedder) -> list[np.ndarray]:
    """One `(chunks, dimension)` matrix a version, unit length; all passages of the batch in one call."""
    texts = [text for item in prepared for text in passages(item.version.title, item.chunks, embedder)]
    matrix = await embedder.embed_passages(texts) if texts else np.empty((0, embedder.dimension), np.float32)
    ends = np.cumsum([len(item.chunks) for item in prepared])
    return np.split(matrix, ends[:-1])
