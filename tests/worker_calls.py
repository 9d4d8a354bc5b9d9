"""What tests of the worker share: workers of any make, and the rules that hold whatever happened to them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg

from service.domain.texts import ExtractedText
from service.embeddings.base import Matrix
from service.embeddings.hashing import HashingEmbedder
from service.ingest.extract import Extractor
from service.ingest.tools import Tools
from service.ingest.worker import Schedule, run_worker
from service.resources import Resources
from service.settings import Settings
from tests.api_calls import Api

Working = Callable[..., AbstractAsyncContextManager[None]]


class Gate:
    """Where work waits until the test opens it."""

    def __init__(self) -> None:
        self.reached, self.open = asyncio.Event(), asyncio.Event()

    async def wait(self) -> None:
        self.reached.set()
        await self.open.wait()


class HeldEmbedder(HashingEmbedder):
    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.gate = gate

    async def embed_passages(self, texts: Sequence[str]) -> Matrix:
        await self.gate.wait()
        return await super().embed_passages(texts)


class HeldExtractor(Extractor):
    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.gate = gate

    async def extract(self, path: Path, *, content_type: str | None, filename: str | None) -> ExtractedText:
        await self.gate.wait()
        return await super().extract(path, content_type=content_type, filename=filename)


class PickyEmbedder(HashingEmbedder):
    """Fails on a batch with a certain word in it."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self.word = word

    async def embed_passages(self, texts: Sequence[str]) -> Matrix:
        if any(self.word in text for text in texts):
            raise RuntimeError(self.word)
        return await super().embed_passages(texts)


def working_with(resources: Resources) -> Working:
    @asynccontextmanager
    async def working(
        *,
        embedder: HashingEmbedder | None = None,
        extractor: Extractor | None = None,
        direct_url: str | None = None,
        **schedule: Any,
    ) -> AsyncIterator[None]:
        """A worker in this process, with some of its tools exchanged."""
        stop, r = asyncio.Event(), resources
        async with extractor or Extractor() as opened:
            grace = r.settings.blob_grace_seconds
            tools = Tools(
                r.primary, r.blobs, r.embedder, r.profile, opened, grace, exact_chunks=r.settings.exact_chunks
            )
            tools = tools if embedder is None else replace(tools, embedder=embedder)
            times = Schedule(**{"poll_seconds": 0.01, "lease_seconds": 30, **schedule})
            running = asyncio.create_task(run_worker(tools, schedule=times, stop=stop, direct_url=direct_url))
            try:
                yield
            finally:
                stop.set()
                await running

    return working


async def until(condition: Callable[[], Awaitable[Any]], seconds: float = 60) -> Any:
    """What the condition returns once it is true; the time is only there to end a test that would hang."""
    async with asyncio.timeout(seconds):
        while not (found := await condition()):  # noqa: ASYNC110  another process changes it
            await asyncio.sleep(0.02)
        return found


async def until_idle(admin: asyncpg.Connection, seconds: float = 90) -> None:
    """No job is due, running or coming."""

    async def idle() -> bool:
        return not await admin.fetchval("select count(*) from jobs where state <> 'dead'")

    await until(idle, seconds)


async def is_indexed(api: Api, document: dict[str, Any]) -> bool:
    return bool((await api.get(document))["status"] == "indexed")


# Each names what must never be found, and finds it.
VIOLATIONS = {
    "chunks of a document that are not those of one whole version": """
        select d.id from documents d left join chunks k on k.document_id = d.id group by d.id
        having count(k.id) <> d.chunk_count or count(k.id) <> count(distinct k.ordinal)
            or coalesce(max(k.ordinal) + 1, 0) <> d.chunk_count""",
    "chunks whose text is not that of the served version": """
        select k.id from chunks k join documents d on d.id = k.document_id
        left join document_versions v on v.document_id = d.id and v.number = d.indexed_version
        where v.number is null
            or v.text is not null and substr(v.text, k.char_start + 1, k.char_end - k.char_start) <> k.text""",
    "documents whose fields are not those of the served version": """
        select d.id from documents d join document_versions v on v.document_id = d.id and v.number = d.indexed_version
        where (d.title, d.source, d.tags, d.attributes, d.language, d.published_at, 'indexed') is distinct from
              (v.title, v.source, v.tags, v.attributes, v.language, v.published_at, v.status)""",
    "chunks without terms, or terms without a chunk": """
        select k.id, t.chunk_id from chunks k full join chunk_terms t
            on (t.chunk_id, t.document_id, t.collection_id) = (k.id, k.document_id, k.collection_id)
        where k.id is null or t.chunk_id is null""",
    "chunks without an embedding of their collection's profile, or embeddings without a chunk": """
        select k.id, e.chunk_id from chunks k join collections c on c.id = k.collection_id full join embeddings e
            on (e.chunk_id, e.document_id, e.collection_id, e.profile_id)
             = (k.id, k.document_id, k.collection_id, c.profile_id)
        where k.id is null or e.chunk_id is null""",
    "versions that were overtaken and are still kept": """
        select v.* from document_versions v join documents d on d.id = v.document_id and v.number < d.indexed_version""",
    "documents that are pending and have no job": """
        select d.id from documents d join document_versions v on v.document_id = d.id and v.number = d.version
        where v.status = 'pending' and not exists (
            select from jobs j where j.document_id = d.id and j.state <> 'dead' and j.payload ->> 'version' = d.version::text)""",
}


async def check_whole(admin: asyncpg.Connection) -> None:
    for name, query in VIOLATIONS.items():
        found = await admin.fetch(query)
        assert not found, f"{len(found)} {name}: {found[:3]}"


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables from which another process makes the same settings."""
    values = {name: value for name, value in settings if value is not None}
    return {
        name.upper(): str(value.get_secret_value() if hasattr(value, "get_secret_value") else value)
        for name, value in values.items()
    }
