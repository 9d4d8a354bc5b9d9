"""The service's own prepared statement through raw asyncpg on a held connection: what a search cannot be faster than."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from bench.dataset import Dataset
from bench.peers.library import Timed
from bench.peers.ours import Service
from bench.peers.sides import LIMIT
from service.cli.figures.search_latency import Parts, open_parts
from service.cli.own_settings import own_settings
from service.domain.queries import Query, Words
from service.search.running import hits_of, run


class RawSql:
    """The reader times the statement alone: no transaction, no embedding, no hits made of its rows."""

    name = "raw asyncpg"

    def __init__(self, parts: Parts, dataset: Dataset) -> None:
        self._parts, self._dataset = parts, dataset

    async def search(self, queries: Sequence[int], *, limit: int = LIMIT, effort: int | None = None) -> Timed:
        del effort  # It is the service's own.
        seconds, found = [], []
        for query in queries:
            words = Words.parse(self._dataset.queries[query])
            vector = np.asarray(self._dataset.query_vectors[query], np.float32)
            asked = Query(self._dataset.queries[query], limit=limit)
            rows = await run(asked, words, vector, self._parts.collection, tools=self._parts.tools)
            seconds.append(self._parts.reader.seconds[-1])
            found.append([str(row.external_id) for row in hits_of(rows)])
        return Timed(seconds, found)


@asynccontextmanager
async def open_raw_sql(service: Service, dataset: Dataset, state: Path) -> AsyncIterator[RawSql]:
    settings = own_settings({"DATA_DIR": str(state)})
    async with open_parts(service.collection, settings=settings, api_key=service.key) as parts:
        yield RawSql(parts, dataset)
