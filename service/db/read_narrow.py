"""A reading door beside the door, for searches that come many at once: it lets a few through, and others keep theirs."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Literal

from service.db.read_pool import Reader, Row
from service.db.retrieval import Statement
from service.telemetry.loads import PoolLoad


class NarrowReader:
    """As many statements at once as there are `places` reach the reader behind it; the others wait here, and not in its queue."""

    def __init__(self, reader: Reader, *, places: asyncio.Semaphore) -> None:
        self._reader = reader
        self._places = places

    @property
    def driver(self) -> Literal["psqlpy", "asyncpg"]:
        return self._reader.driver

    async def fetch(
        self, statement: Statement, values: Mapping[str, object], *, settings: Mapping[str, str]
    ) -> Sequence[Row]:
        async with self._places:
            return await self._reader.fetch(statement, values, settings=settings)

    def loads(self) -> Mapping[str, PoolLoad]:
        return self._reader.loads()

    async def close(self) -> None:
        """The door behind is closed by whoever opened it."""
