"""One held connection of the searcher role, for measuring what a search statement itself costs."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import asyncpg
import numpy as np
from pgvector import HalfVector
from pgvector.asyncpg import register_vector

from service.db.addresses import Address, asyncpg_tls
from service.db.read_pool import Row, is_whole
from service.db.retrieval import Statement
from service.telemetry.loads import PoolLoad

SET_SESSION = "select set_config(key, value, false) from unnest($1::text[], $2::text[]) as setting(key, value)"


class HeldReader:
    """A Reader without pool, gate and transaction; `seconds` grows by what each statement alone took."""

    driver: Literal["psqlpy", "asyncpg"] = "asyncpg"

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self.connection = connection
        self.seconds: list[float] = []
        self.last: tuple[str, list[object]] | None = None

    async def fetch(
        self, statement: Statement, values: Mapping[str, object], *, settings: Mapping[str, str]
    ) -> Sequence[Row]:
        if not is_whole(statement, settings):
            await self.connection.execute(SET_SESSION, list(settings), list(settings.values()))
        vector = values.get("vector")
        bound = statement.bind(
            {**values, "vector": None if vector is None else HalfVector(np.asarray(vector, np.float32))}, settings
        )
        self.last = (statement.sql, bound)
        begun = time.perf_counter()
        rows = await self.connection.fetch(statement.sql, *bound)
        self.seconds.append(time.perf_counter() - begun)
        return [tuple(row) for row in rows]

    async def plan_of_last(self) -> list[str]:
        """The plan of the statement before, run once more, with times and pages."""
        if self.last is None:
            return []
        sql, bound = self.last
        return [row[0] for row in await self.connection.fetch("explain (analyze, buffers) " + sql, *bound)]

    def loads(self) -> Mapping[str, PoolLoad]:
        return {}

    async def close(self) -> None:
        await self.connection.close()


@asynccontextmanager
async def open_held_reader(address: Address) -> AsyncIterator[HeldReader]:
    connection = await asyncpg.connect(
        user=address.user,
        password=address.password,
        host=address.host,
        port=address.port,
        database=address.database,
        ssl=asyncpg_tls(address),
        timeout=10,
    )
    try:
        await register_vector(connection)
        yield HeldReader(connection)
    finally:
        await connection.close()
