"""Searching in the words of a test: fill a collection through the API, then ask it as the route does."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np

from service.api.auth import KeyCache
from service.db.owner import as_owner
from service.db.read_pool import Reader, Row
from service.db.retrieval import Statement
from service.domain.documents import Collection
from service.domain.filters import Joined, parse_filter
from service.domain.hits import Hits
from service.domain.queries import Fusion, Limits, Query
from service.ingest.extract import Extractor
from service.ingest.tools import Tools
from service.ingest.worker import Schedule, run_worker
from service.resources import Resources
from service.search.catalog import Catalog
from service.search.search import search
from service.search.tools import Searching
from tests.api_calls import Api, Json

DIMENSION = 384
BATCH = 500
SCHEDULE = Schedule(poll_seconds=0.01, lease_seconds=30)
PARTS: Mapping[str, frozenset[str]] = {
    "fusion": frozenset({"method", "alpha", "lexical_weight", "semantic_weight", "k", "window"}),
    "limits": frozenset({"ef_search", "exact", "budget", "timeout_ms"}),
}

names = count(1)


@dataclass(frozen=True)
class Library:
    """A filled collection and the tools to search it with."""

    collection: Collection
    tools: Searching
    joined: Sequence[Joined] = ()

    def having(self, **tools: Any) -> "Library":
        return replace(self, tools=replace(self.tools, **tools))

    async def ask(self, question: str = "", **fields: Any) -> Hits:
        return await search(self.query(question, **fields), self.collection, tools=self.tools)

    async def ids(self, question: str = "", **fields: Any) -> list[str | None]:
        return [hit.external_id for hit in (await self.ask(question, **fields)).hits]

    def query(self, question: str = "", **fields: Any) -> Query:
        """`window=5`, `exact=True` and the like find their own place."""
        fusion = {name: fields.pop(name) for name in PARTS["fusion"] & fields.keys()}
        limits = {name: fields.pop(name) for name in PARTS["limits"] & fields.keys()}
        if (vector := fields.get("vector")) is not None:
            fields["vector"] = tuple(map(float, vector))
        fields["filter"] = parse_filter(fields.get("filter"), declared=self.collection.attributes, joined=self.joined)
        return Query(question, fusion=Fusion(**fusion), limits=Limits(**limits), **fields)


def direct_url(resources: Resources) -> str:
    """The owner's door."""
    url = resources.settings.database_direct_url
    assert url is not None
    return url.get_secret_value()


async def analyze(resources: Resources) -> None:
    """What autovacuum does a minute after a load: without statistics the planner takes no graph."""
    async with as_owner(direct_url(resources), autocommit=True) as connection:
        await connection.exec_driver_sql("vacuum analyze")


def searching(resources: Resources, **changes: Any) -> Searching:
    settings = resources.settings
    tools = Searching(
        reader=resources.reader,
        statements=resources.statements,
        embedder=resources.embedder,
        profile=resources.profile,
        exact_chunks=settings.exact_chunks,
        lexical_budget=settings.lexical_budget,
    )
    return replace(tools, **changes)


class Patient:
    """A reader whose statements wait for a lock until the test gives it back, not until the role's limit of one second."""

    def __init__(self, reader: Reader, *, seconds: int = 60) -> None:
        self.reader = reader
        self.limits = dict.fromkeys(("lock_timeout", "statement_timeout"), f"{seconds}s")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reader, name)

    async def fetch(
        self, statement: Statement, values: Mapping[str, object], *, settings: Mapping[str, str]
    ) -> Sequence[Row]:
        return await self.reader.fetch(statement, values, settings={**settings, **self.limits})


def patient(desk: Any) -> Any:
    """The search desk of an app, with such a reader."""
    return replace(desk, tools=replace(desk.tools, reader=Patient(desk.tools.reader)))


@asynccontextmanager
async def working(resources: Resources) -> AsyncIterator[None]:
    """A worker runs meanwhile."""
    stop = asyncio.Event()
    async with Extractor() as extractor:
        r = resources
        tools = Tools(r.primary, r.blobs, r.embedder, r.profile, extractor, blob_grace_seconds=0)
        running = asyncio.create_task(run_worker(tools, schedule=SCHEDULE, stop=stop))
        try:
            yield
        finally:
            stop.set()
            await running


async def fill(api: Api, resources: Resources, collection: str, documents: Sequence[Json]) -> None:
    """Accepted, indexed, and counted in the lexical statistics."""
    for start in range(0, len(documents), BATCH):
        answers = await api.batch(collection, documents[start : start + BATCH])
        assert {answer["status"] for answer in answers} == {202}, answers[:3]
    await settle(api, resources, collection)


async def settle(api: Api, resources: Resources, collection: str) -> None:
    """Until nothing moves a score any more, the rewriting of weights after new statistics included."""
    async with working(resources), asyncio.timeout(120):
        while True:
            status = await api.status(collection)
            if status["settled"] and not (status["jobs"]["queued"] or status["jobs"]["running"]):
                return
            await asyncio.sleep(0.02)


async def library(api: Api, resources: Resources, documents: Sequence[Json], **fields: Any) -> Library:
    """A new collection with these documents; each without an `external_id` is named by its place in the list."""
    name = await api.make_collection(f"library-{next(names)}", **fields)
    if documents:
        numbered = [{"external_id": str(n), "text": "", "title": "-", **d} for n, d in enumerate(documents)]
        await fill(api, resources, name, numbered)
    return Library(await collection_of(api, resources, name), searching(resources))


async def collection_of(api: Api, resources: Resources, name: str) -> Collection:
    key = api.client.headers["Authorization"].removeprefix("Bearer ")
    tenant_id = await KeyCache(resources.primary).tenant_of(key)
    return await Catalog(resources.primary).find(tenant_id, name)


def directions(number: int, *, seed: int) -> np.ndarray:
    """`(number, 384)` float32, random; half precision loses nothing of them."""
    drawn = np.random.default_rng(seed).normal(size=(number, DIMENSION))
    return drawn.astype(np.float16).astype(np.float32)


def halves(vectors: np.ndarray) -> np.ndarray:
    """What Postgres keeps of them: unit length, in half precision; as float64, to compute with."""
    unit = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(unit.astype(np.float16), np.float64)
