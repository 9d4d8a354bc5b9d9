"""The read pool on asyncpg: the other driver's oracle, and where rare shapes run unprepared."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal

import asyncpg
import numpy as np
from asyncpg.exceptions import InternalClientError
from pgvector import HalfVector
from pgvector.asyncpg import register_vector

from service.db.addresses import Address, asyncpg_tls
from service.db.read_pool import OUT_OF_TIME, SET_CONFIG, ConflictError, Gate, Row, check_place, is_whole
from service.db.retrieval import Statement
from service.domain.errors import OverloadedError, UnavailableError
from service.telemetry.loads import PoolLoad

LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # stopping, starting, a connection ended by hand
    asyncpg.InsufficientResourcesError,  # too many connections
    asyncpg.InvalidAuthorizationSpecificationError,  # a wrong role or password
    asyncpg.InvalidCatalogNameError,
    asyncpg.InterfaceError,
    InternalClientError,  # what the next statement meets on a connection that was ended while it was idle
)


def halves(vector: object) -> HalfVector | None:
    return None if vector is None else HalfVector(np.asarray(vector))


async def nothing_to_reset(_connection: object) -> None:
    """Everything that is set here ends with its transaction, so the pool need not ask the server to forget it."""


def limit(settings: Mapping[str, str]) -> float:
    """Seconds that the caller gave the statement; infinite where only its role has a limit."""
    return float(settings.get("statement_timeout", "inf")) / 1_000


def lost_its_place(error: BaseException | None) -> bool:
    """Itself, or while its transaction was ended for that very reason."""
    while error is not None and not isinstance(error, InternalClientError):
        error = error.__context__
    return error is not None


class AsyncpgReader:
    driver: Literal["asyncpg"] = "asyncpg"

    def __init__(self, address: Address, *, pool_size: int, queue: int, tracked: bool) -> None:
        self.gate = Gate(running=pool_size, waiting=queue, deadline_seconds=10)
        self.opening, self.opened = asyncio.Lock(), False
        self.pool = asyncpg.create_pool(
            user=address.user,
            password=address.password,
            host=address.host,
            port=address.port,
            database=address.database,
            ssl=asyncpg_tls(address),
            min_size=0,
            max_size=pool_size,
            timeout=10,
            statement_cache_size=100 if tracked else 0,
            max_cached_statement_lifetime=0,  # Else each is prepared anew every five minutes,
            max_cacheable_statement_size=0,  # and one of more than 15 kB every time.
            init=register_vector,
            reset=nothing_to_reset,
        )
        self.tracked = tracked

    async def fetch(
        self,
        statement: Statement,
        values: Mapping[str, object],
        *,
        settings: Mapping[str, str],
        after: int | None = None,
    ) -> Sequence[Row]:
        bound = statement.bind({**values, "vector": halves(values.get("vector"))}, settings)
        # Without a transaction an untracking pooler would send the steps of one statement to different servers.
        alone = self.tracked and after is None and is_whole(statement, settings)
        begun = asyncio.get_running_loop().time()

        async def unit() -> AsyncIterator[Sequence[Row]]:
            if not self.opened:
                await self.open()
            if alone:
                async with self.pool.acquire() as connection:
                    yield await connection.fetch(statement.sql, *bound)
            else:
                async with self.pool.acquire() as connection, connection.transaction():
                    place = await connection.fetch(SET_CONFIG, list(settings), list(settings.values()))
                    if after is not None:
                        check_place(place, after)
                    yield await connection.fetch(statement.sql, *bound)

        try:
            return [tuple(row) for row in await self.gate.run(unit)]
        except asyncpg.TransactionRollbackError as error:  # Of what only reads: a replica had to go on.
            raise ConflictError("the search database was in the way of its own replication") from error
        except asyncpg.QueryCanceledError as error:
            raise OverloadedError(OUT_OF_TIME) from error
        except LOST as error:
            if isinstance(error, ValueError):  # A value that asyncpg cannot encode: our mistake.
                raise
            # When the limit strikes just after a plan was made, asyncpg loses its place instead (seen once in 1,200 at 1 ms).
            if lost_its_place(error) and asyncio.get_running_loop().time() - begun > limit(settings):
                raise OverloadedError(OUT_OF_TIME) from error
            raise UnavailableError("the search database does not answer") from error

    def loads(self) -> Mapping[str, PoolLoad]:
        return {"search": self.gate.load()}

    async def open(self) -> None:
        """On first use: a pool may not be opened by two tasks."""
        async with self.opening:
            await self.pool
            self.opened = True

    async def close(self) -> None:
        await self.gate.drained()
        if self.opened:
            await self.pool.close()
