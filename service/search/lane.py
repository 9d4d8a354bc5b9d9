"""Where searches go that come many at once: those of a batch, and those of a recommendation."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from service.db.read_narrow import NarrowReader
from service.db.read_pool import Reader
from service.domain.errors import OverloadedError
from service.search.tools import Searching

TOGETHER = 32  # Under way at once: two passes of the embedder, which takes 16 questions in each.
WAITING = 1_000  # Ten batches of a hundred; more is told at once to come back.

T = TypeVar("T")


class Lane:
    """One per process. Its searches share half of the connections, so that a single one always finds a free one."""

    def __init__(self, tools: Searching, *, pool_size: int) -> None:
        self.tools = tools
        self._places = asyncio.Semaphore(max(1, pool_size // 2))
        self._under_way = asyncio.Semaphore(TOGETHER)
        self._inside = 0

    async def run(self, searches: Sequence[Callable[[Searching], Awaitable[T]]], *, reader: Reader) -> list[T]:
        """Their answers, in order, by the reader of the request.

        The first that fails fails them all. Raises OverloadedError when too many wait.
        """
        if self._inside + len(searches) > WAITING:
            raise OverloadedError("too many searches of batches are waiting")
        self._inside += len(searches)
        tools = replace(self.tools, reader=NarrowReader(reader, places=self._places))
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._in_turn(search, tools)) for search in searches]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        finally:
            self._inside -= len(searches)
        return [task.result() for task in tasks]

    async def _in_turn(self, search: Callable[[Searching], Awaitable[T]], tools: Searching) -> T:
        async with self._under_way:
            return await search(tools)
