"""The read pool on psqlpy.

Its statement cache never shrinks, so the rarer shapes run on asyncpg beside it.
"""

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

import numpy as np
from psqlpy import ConnectionPool
from psqlpy.exceptions import Error as PsqlpyError
from psqlpy.extra_types import CustomType

from service.db.addresses import Address, psqlpy_tls
from service.db.read_pool import (
    OUT_OF_TIME,
    SET_CONFIG,
    ConflictError,
    Gate,
    PlacedReader,
    Row,
    check_place,
    is_whole,
)
from service.db.retrieval import Statement
from service.domain.errors import OverloadedError, UnavailableError
from service.telemetry.loads import PoolLoad

# psqlpy tells errors by their text alone; `lc_messages` is C.
CONFLICT = "conflict with recovery"
TOO_SLOW = ("statement timeout", "canceling statement")
LOST = (
    "connection closed", "connection refused", "connection reset", "terminating connection", "server closed",
    "starting up", "shutting down", "communicating with the server", "connecting to server", "timeout",
    "pool is closed", "too many clients", "remaining connection slots", "query_wait_timeout",
    "fatal:",  # by definition the end of a connection; a pooler that cannot reach the server has words of its own
)  # fmt: skip


def binary_halfvec(vector: object) -> CustomType:
    """Pgvector's wire form: dimension, unused, big-endian halves. As text it would cost five times as much."""
    numbers = np.asarray(vector, ">f2")
    return CustomType(struct.pack(">HH", numbers.size, 0) + numbers.tobytes())


def bindable(value: object) -> object:
    """What psqlpy binds: the standard UUID class alone (asyncpg returns one of its own), vectors as bytes."""
    if isinstance(value, np.ndarray):
        return binary_halfvec(value)
    if isinstance(value, UUID) and type(value) is not UUID:
        return UUID(bytes=value.bytes)
    return value


class PsqlpyReader:
    driver: Literal["psqlpy"] = "psqlpy"

    def __init__(self, address: Address, *, pool_size: int, queue: int, tracked: bool, rare: PlacedReader) -> None:
        self.rare = rare
        self.tracked = tracked
        self.gate = Gate(running=pool_size, waiting=queue, deadline_seconds=10)
        # Read when its runtime starts. Reported to take less CPU with one thread than with one a core; not measured here.
        os.environ.setdefault("TOKIO_WORKER_THREADS", "1")
        self.pool = ConnectionPool(
            username=address.user,
            password=address.password,
            host=address.host,
            port=address.port,
            db_name=address.database,
            max_db_pool_size=max(2, pool_size),
            connect_timeout_sec=10,
            keepalives=True,
            keepalives_idle_sec=30,
            **psqlpy_tls(address),
        )

    async def fetch(
        self,
        statement: Statement,
        values: Mapping[str, object],
        *,
        settings: Mapping[str, str],
        after: int | None = None,
    ) -> Sequence[Row]:
        if not statement.prepared:
            return await self.rare.fetch(statement, values, settings=settings, after=after)
        bound = statement.bind({name: bindable(value) for name, value in values.items()}, settings)
        # Without a transaction an untracking pooler would send the steps of one statement to different servers.
        alone = self.tracked and after is None and is_whole(statement, settings)

        async def unit() -> AsyncIterator[Sequence[Row]]:
            if alone:
                async with self.pool.acquire() as connection:
                    result = await connection.fetch(statement.sql, bound, prepared=True)
                    yield result.result(as_tuple=True)
                return
            async with self.pool.acquire() as connection, connection.transaction() as transaction:
                steps: list[tuple[str, list[Any] | None]] = [
                    (SET_CONFIG, [list(settings), list(settings.values())]),
                    (statement.sql, bound),
                ]
                results = await transaction.pipeline(steps, prepared=self.tracked)
                if after is not None:
                    check_place(results[0].result(as_tuple=True), after)
                yield results[1].result(as_tuple=True)

        try:
            return await self.gate.run(unit)
        except PsqlpyError as error:
            raise translated(error) from error

    def loads(self) -> Mapping[str, PoolLoad]:
        rare = {f"{name}_rare": load for name, load in self.rare.loads().items()}
        return {"search": self.gate.load(), **rare}

    async def close(self) -> None:
        await self.rare.close()
        await self.gate.drained()
        self.pool.close()
        await asyncio.sleep(0)  # psqlpy may abort the interpreter when its pool is alive at exit


def translated(error: Exception) -> Exception:
    words = str(error).lower()
    if CONFLICT in words:
        return ConflictError("the search database was in the way of its own replication")
    if any(sign in words for sign in TOO_SLOW):
        return OverloadedError(OUT_OF_TIME)
    if any(sign in words for sign in LOST):
        return UnavailableError("the search database does not answer")
    return error
