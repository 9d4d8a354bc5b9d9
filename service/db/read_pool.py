"""The reading door: one prepared statement a search, in one transaction with its tenant, as the `searcher` role.

psqlpy hides SQLSTATE and can hand back a connection inside an open transaction when a request is cancelled, so it only
reads, and every unit of work runs to its end in its own shielded task behind a bounded semaphore.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar

from service.db.retrieval import Statement
from service.domain.errors import OverloadedError
from service.telemetry.loads import PoolLoad

Row = tuple[object, ...]
T = TypeVar("T")

OUT_OF_TIME = "the search took longer than its time limit"
PING = Statement("select 1", (), prepared=True)

# Set for the transaction alone: nothing else survives transaction pooling, or must.
SET_CONFIG = "select set_config(key, value, true) from unnest($1::text[], $2::text[]) as setting(key, value)"


class Reader(Protocol):
    """Runs a search statement under transaction-local settings, `app.tenant_id` among them."""

    @property
    def driver(self) -> Literal["psqlpy", "asyncpg"]: ...

    async def fetch(
        self, statement: Statement, values: Mapping[str, object], *, settings: Mapping[str, str]
    ) -> Sequence[Row]: ...

    def loads(self) -> Mapping[str, PoolLoad]:
        """Of each pool it has, by name. Safe to call from any thread."""

    async def close(self) -> None: ...


class Gate:
    """At most `running` units at once and `waiting` in the queue; who comes later is told so at once.

    A unit goes on when its client leaves: cancelling psqlpy in the middle would leave a transaction open for the next user.
    """

    def __init__(self, *, running: int, waiting: int, deadline_seconds: float) -> None:
        self.slots = asyncio.Semaphore(running)
        self.size = running
        self.most = running + waiting
        self.inside = self.at_work = self.refused = 0
        self.deadline_seconds = deadline_seconds

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Raises OverloadedError when the queue is full."""
        if self.inside >= self.most:
            self.refused += 1
            raise OverloadedError("too many searches at once")
        self.inside += 1
        task = asyncio.ensure_future(self._in_turn(work))
        task.add_done_callback(self._left)
        return await asyncio.shield(task)

    async def _in_turn(self, work: Callable[[], Awaitable[T]]) -> T:
        async with self.slots:
            self.at_work += 1
            try:
                return await work()
            finally:
                self.at_work -= 1

    def _left(self, task: "asyncio.Future[Any]") -> None:
        self.inside -= 1
        if not task.cancelled():
            task.exception()  # seen: nobody may be waiting for it any more

    def load(self) -> PoolLoad:
        return PoolLoad(self.size, self.at_work, max(self.inside - self.at_work, 0), self.refused)

    async def drained(self) -> None:
        """Waits until every unit has ended, at most the deadline."""
        end = asyncio.get_running_loop().time() + self.deadline_seconds
        while self.inside and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110  a counter has no event
            await asyncio.sleep(0.01)
