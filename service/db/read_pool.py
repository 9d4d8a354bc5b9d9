"""The reading door: one prepared statement a search, in one transaction with its tenant, as the `searcher` role.

psqlpy hides SQLSTATE and can hand back a connection inside an open transaction when a request is cancelled, so it only
reads, and every unit of work runs to its end in a task of its own behind a bounded semaphore.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

from service.db.retrieval import TENANT_SETTING, Statement
from service.domain.errors import OverloadedError, UnavailableError
from service.telemetry.loads import PoolLoad

Row = tuple[object, ...]
T = TypeVar("T")

OUT_OF_TIME = "the search took longer than its time limit"
PING = Statement("select 1", (), prepared=True)

# Set for the transaction alone: nothing else survives transaction pooling, or must. With it comes how far a replica is, read
# before the statement's snapshot is taken, so that the statement sees what this covers. Always this one text: psqlpy runs a
# statement that it has prepared before one of the same pipeline that it has yet to prepare, and so without a tenant.
SET_CONFIG = """
    select set_config(key, value, true),
           case when pg_is_in_recovery() then (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint end as replayed
    from unnest($1::text[], $2::text[]) as setting(key, value)
"""  # A server that was promoted still says where its replay ended, hence the question.


class BehindError(UnavailableError):
    """The replica had not replayed what the caller has seen already."""


class ConflictError(OverloadedError):
    """The replica had to remove rows that the statement was reading: the primary has removed them long ago."""


def check_place(rows: Sequence[Sequence[object]], after: int) -> None:
    """Raises BehindError when the answer to SET_CONFIG lies before `after`."""
    replayed = rows[0][1]
    if isinstance(replayed, int) and replayed < after:
        raise BehindError("the search database has not received the latest changes yet")


def is_whole(statement: Statement, settings: Mapping[str, str]) -> bool:
    """Whether the statement alone does all that was asked for: it names the tenant by itself, and nothing else is to be set.

    Then it needs no transaction around it, which costs three round trips.
    """
    return statement.names_tenant and settings.keys() == {TENANT_SETTING}


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


class PlacedReader(Reader, Protocol):
    """One that can tell whether a replica has replayed the log up to `after`: it raises BehindError if not."""

    async def fetch(
        self,
        statement: Statement,
        values: Mapping[str, object],
        *,
        settings: Mapping[str, str],
        after: int | None = None,
    ) -> Sequence[Row]: ...


class Gate:
    """At most `running` units at once and `waiting` in the queue; who comes later is told so at once.

    A unit goes on when its client leaves: cancelling psqlpy in the middle would leave a transaction open for the next user.
    """

    def __init__(self, *, running: int, waiting: int, deadline_seconds: float) -> None:
        self.slots = asyncio.Semaphore(running)
        self.size = running
        self.most = running + waiting
        self.units: set[asyncio.Future[None]] = set()  # running and waiting
        self.at_work = self.refused = 0
        self.deadline_seconds = deadline_seconds

    async def run(self, work: Callable[[], AsyncIterator[T]]) -> T:
        """The first thing that the unit yields: to tidy up after it keeps nobody waiting. Raises OverloadedError when the queue
        is full.
        """
        if len(self.units) >= self.most:
            self.refused += 1
            raise OverloadedError("too many searches at once")
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        unit = asyncio.ensure_future(self._in_turn(work, answer))
        self.units.add(unit)
        unit.add_done_callback(partial(self._left, answer))
        return await answer  # Whoever leaves cancels this alone.

    async def _in_turn(self, work: Callable[[], AsyncIterator[T]], answer: "asyncio.Future[T]") -> None:
        try:
            async with self.slots:
                self.at_work += 1
                steps = work()
                try:
                    found = await anext(steps)
                    if not answer.done():
                        answer.set_result(found)
                    await anext(steps, None)
                finally:
                    self.at_work -= 1
        except Exception as error:
            if answer.done():
                raise
            answer.set_exception(error)

    def _left(self, answer: "asyncio.Future[Any]", unit: "asyncio.Future[None]") -> None:
        self.units.discard(unit)
        answer.cancel()  # Where there is none, because the unit was broken off: nobody shall wait for ever.
        if not unit.cancelled():
            unit.exception()  # seen: its caller has the answer, or is gone

    def load(self) -> PoolLoad:
        return PoolLoad(self.size, self.at_work, max(len(self.units) - self.at_work, 0), self.refused)

    async def drained(self) -> None:
        """Waits until every unit has ended, at most the deadline."""
        end = asyncio.get_running_loop().time() + self.deadline_seconds
        while self.units and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110  a counter has no event
            await asyncio.sleep(0.01)
