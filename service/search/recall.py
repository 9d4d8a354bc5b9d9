"""Recall as it is served: a sampled share of searches is run again, exactly, in the background.

What is compared is what the statement found, before anything rearranges it. Documents that are written between the two
runs move both answers, so under heavy writing the figure is a little low.
"""

import asyncio
from collections.abc import Sequence
from contextvars import Context
from dataclasses import dataclass, replace
from random import random
from typing import TYPE_CHECKING, Literal

import orjson
import structlog

from service.db.collection_size import count_chunks
from service.db.read_out import SearchRow
from service.domain.documents import Collection
from service.domain.queries import Limits, Query, Words
from service.embeddings.base import Vector
from service.search.running import hits_of, route_of, run
from service.telemetry.telemetry import SearchRoute

if TYPE_CHECKING:
    from service.search.tools import Searching

RecallOutcome = Literal["measured", "empty", "busy", "failed"]
Selectivity = Literal["<=0.1%", "<=1%", "<=10%", "<=50%", ">50%", "all"]

FIRST = 10  # hits that are compared: a search that asked for fewer cannot be judged
WAITING = 4  # samples that wait for their turn; what comes beyond is dropped
# Every chunk is scanned, every word selects candidates. The role's own limit, said again: whatever it becomes, a search of
# a client must not wait longer for this one.
EXACTLY = Limits(exact=True, budget=100_000_000, timeout_ms=5_000)
SELECTIVITIES: tuple[tuple[float, Selectivity], ...] = (
    (0.001, "<=0.1%"),
    (0.01, "<=1%"),
    (0.1, "<=10%"),
    (0.5, "<=50%"),
)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Sample:
    """A search that was served, and the first ids that it found."""

    query: Query
    words: Words
    vector: Vector | None
    collection: Collection
    found: tuple[str, ...]
    route: SearchRoute


class RecallProbe:
    """One search at a time is run again, and only while a connection stays free for searches of clients."""

    def __init__(self, tools: "Searching", *, share: float) -> None:
        self.tools = tools
        self.share = share
        self.waiting: asyncio.Queue[Sample] = asyncio.Queue(WAITING)
        self.working: asyncio.Task[None] | None = None
        self.closed = False

    def consider(
        self, query: Query, words: Words, vector: Vector | None, collection: Collection, rows: Sequence[SearchRow]
    ) -> None:
        """Takes the sampled share of first pages that asked for ten hits or more; the search never waits for it."""
        if self.closed or query.limit < FIRST or random() >= self.share:  # noqa: S311  a sample, no secret
            return
        if self.waiting.full():
            self.count("busy")
            return
        route = route_of(rows[0], query, words)
        self.waiting.put_nowait(Sample(query, words, vector, collection, first_ids(rows, query), route))
        if self.working is None or self.working.done():
            # In a context of its own: its log lines are not the request's that happened to come first.
            self.working = asyncio.get_running_loop().create_task(self.work(), context=Context())

    async def work(self) -> None:
        while not self.waiting.empty():
            sample = self.waiting.get_nowait()
            try:
                self.count(await self.measure(sample))
            except Exception as error:  # noqa: BLE001  of a search that nobody asked for
                self.count("failed")
                log.info("recall not measured", route=sample.route, reason=type(error).__name__)

    async def measure(self, sample: Sample) -> RecallOutcome:
        if not self.is_idle():
            return "busy"
        query = replace(sample.query, limit=FIRST, chunks_per_document=1, explain=False, limits=EXACTLY)
        rows = await run(query, sample.words, sample.vector, sample.collection, tools=self.tools)
        wanted = first_ids(rows, query)
        if not wanted:
            return "empty"
        recall = len({*wanted} & {*sample.found}) / len(wanted)
        selectivity = await self.selectivity(sample, matched=rows[0].matched)
        self.tools.telemetry.metrics.search_recall.labels(sample.route, selectivity).observe(recall)
        return "measured"

    def is_idle(self) -> bool:
        return all(load.in_use + 1 < load.size for load in self.tools.reader.loads().values())

    async def selectivity(self, sample: Sample, *, matched: int) -> Selectivity:
        """Which part of the collection's chunks passes the filter, or has the words of the quoted phrases as well.

        Of the exact run, because the router stops counting once it knows enough. Excluded words are not in it.
        """
        if sample.query.filter is None and not sample.words.phrases:
            return "all"
        collection = sample.collection
        size = await count_chunks(collection.id, tenant_id=collection.tenant_id, reader=self.tools.reader)
        share = matched / max(size, matched, 1)
        return next((name for most, name in SELECTIVITIES if share <= most), ">50%")

    def count(self, outcome: RecallOutcome) -> None:
        self.tools.telemetry.metrics.recall_samples.labels(outcome).inc()

    async def close(self) -> None:
        """Forgets what waits. A statement that has begun runs to its end, at most its time limit, in the reader."""
        self.closed = True
        if self.working is not None:
            self.working.cancel()
            await asyncio.gather(self.working, return_exceptions=True)


def first_ids(rows: Sequence[SearchRow], query: Query) -> tuple[str, ...]:
    """Of documents, or of chunks where hits are chunks."""
    best = hits_of(rows)[:FIRST]
    if query.grouped:
        return tuple(str(row.document_id) for row in best)
    return tuple(str(orjson.loads(row.chunks or "[]")[0]["chunk_id"]) for row in best)
