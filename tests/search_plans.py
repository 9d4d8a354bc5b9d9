"""What Postgres does with a search: the statement as the route sends it, explained as the searcher role runs it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import asyncpg
import numpy as np
from pgvector import HalfVector
from pgvector.asyncpg import register_vector

from bench.inside import literal
from service.db.read_pool import SET_CONFIG, Reader, Row
from service.db.retrieval import Statement
from service.resources import Resources
from service.telemetry.loads import PoolLoad
from tests.pooler import Pooler
from tests.search_calls import Library


@dataclass
class Sent:
    """A reader that keeps what it was given last."""

    reader: Reader
    driver: Literal["psqlpy", "asyncpg"] = "psqlpy"
    sql: str = ""
    values: list[Any] = field(default_factory=list)
    settings: Mapping[str, str] = field(default_factory=dict)
    parameters: Sequence[str] = ()

    async def fetch(
        self,
        statement: Statement,
        values: Mapping[str, object],
        *,
        settings: Mapping[str, str],
        after: int | None = None,
    ) -> Sequence[Row]:
        assert after is None
        self.sql, self.values, self.settings = statement.sql, statement.bind(values, settings), settings
        self.parameters = statement.parameters
        return await self.reader.fetch(statement, values, settings=settings)

    def bound(self, **others: object) -> list[Any]:
        """The values as asyncpg takes them, some of them exchanged."""
        values = dict(zip(self.parameters, self.values, strict=True)) | others
        return [HalfVector(value) if isinstance(value, np.ndarray) else value for value in values.values()]

    def loads(self) -> Mapping[str, PoolLoad]:
        return self.reader.loads()

    async def close(self) -> None:
        await self.reader.close()


@asynccontextmanager
async def searcher(resources: Resources) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection of the role that searches, around any pooler, so that its settings stay."""
    direct_url = resources.settings.database_direct_url
    assert direct_url is not None
    server = Pooler.of(direct_url.get_secret_value())
    connection = await asyncpg.connect(server.through(resources.settings.search_database_url.get_secret_value()))
    await register_vector(connection)
    try:
        yield connection
    finally:
        await connection.close()


async def explain(
    library: Library,
    resources: Resources,
    question: str = "",
    *,
    settings: Mapping[str, str] | None = None,
    **fields: Any,
) -> str:
    """The plan with what was executed of it. `settings` come on top of the role's and the request's.

    Of a prepared statement: what EXPLAIN is given as parameters it plans as constants, whatever `plan_cache_mode` says.
    """
    sent = Sent(library.tools.reader)
    await library.having(reader=sent).ask(question, **fields)
    chosen = {**sent.settings, **(settings or {})}
    async with searcher(resources) as connection, connection.transaction():
        await connection.execute(SET_CONFIG, list(chosen), list(chosen.values()))
        await connection.execute(f"prepare asked as {sent.sql}")
        rows = await connection.fetch(
            f"explain (analyze, costs off, timing off, summary off) execute asked ({', '.join(map(literal, sent.values))})"
        )
    return "\n".join(line for (line,) in rows)


async def plans_of_a_dozen(sent: Sent, resources: Resources) -> tuple[int, int]:
    """How many generic and how many custom plans a connection makes of what was sent, run twelve times."""
    async with searcher(resources) as connection:
        prepared = await connection.prepare(sent.sql)
        for _ in range(12):
            await prepared.fetch(*sent.bound())
        (plans,) = await connection.fetch(
            "select generic_plans, custom_plans from pg_prepared_statements where statement = $1", sent.sql
        )
    return plans["generic_plans"], plans["custom_plans"]
