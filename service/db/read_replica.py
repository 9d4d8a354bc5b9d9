"""The reading door where a replica stands behind it: nothing older than the client has seen, and the primary where that fails.

A client shows the token of its last write. The statement brings along how far the replica was when it began; one that was
not far enough is thrown away, the replica is given a moment, and then the primary is asked, as the same role.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

import structlog

from service.db.read_pool import BehindError, ConflictError, PlacedReader, Reader, Row
from service.db.retrieval import Statement
from service.domain.commits import CommitToken
from service.domain.errors import OverloadedError, UnavailableError
from service.telemetry.loads import PoolLoad

# Why a request went to the primary, or that it waited for the replica and was answered there.
Turn = Literal["waited", "behind", "foreign", "conflict", "unavailable"]
ReadFrom = Literal["replica", "primary"]

PLACE = Statement(
    "select case when pg_is_in_recovery() then (pg_last_wal_replay_lsn() - '0/0'::pg_lsn)::bigint end",
    (),
    prepared=True,
)
NOBODY = {"app.tenant_id": ""}
FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.05  # Seconds between two looks; a healthy replica is some milliseconds behind.

R = TypeVar("R", bound=Reader)

log = structlog.get_logger(__name__)


class Replica:
    """A Reader of the replica alone; `following` makes of it the reader of one request. One per process."""

    def __init__(
        self, replica: PlacedReader, primary: Reader, *, system: int, wait_seconds: float, note: Callable[[Turn], None]
    ) -> None:
        self.replica = replica
        self.primary = primary
        self.system = system
        self.wait_seconds = wait_seconds
        self.note = note
        self._replayed = 0
        self._looking: asyncio.Task[bool] | None = None
        self._pause = FIRST_PAUSE

    @property
    def driver(self) -> Literal["psqlpy", "asyncpg"]:
        return self.replica.driver

    async def fetch(
        self, statement: Statement, values: Mapping[str, object], *, settings: Mapping[str, str]
    ) -> Sequence[Row]:
        return await self.replica.fetch(statement, values, settings=settings)

    async def reaches(self, position: int, *, until: float) -> bool:
        """Whether to ask it again: False when it did not get so far in time. However many wait, one of them looks."""
        loop = asyncio.get_running_loop()
        while self._replayed < position:
            left = until - loop.time()
            if left <= 0:
                return False
            looking = self._looking
            if looking is None or looking.done():
                self._looking = looking = asyncio.create_task(self._look())
            await asyncio.wait({looking}, timeout=left)
            if looking.done() and not looking.result():
                return True  # It is away, and will say so.
        self._pause = FIRST_PAUSE
        return True

    async def _look(self) -> bool:
        """Whether it answers at all."""
        await asyncio.sleep(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        try:
            ((replayed,),) = await self.replica.fetch(PLACE, {}, settings=NOBODY)
        except OverloadedError:
            return True
        except UnavailableError:
            return False
        # Null: it was promoted, and what it says now comes from the primary itself.
        self._replayed = replayed if isinstance(replayed, int) else 2**63
        return True

    def loads(self) -> Mapping[str, PoolLoad]:
        return {**self.replica.loads(), "search_primary": self.primary.loads()["search"]}

    async def close(self) -> None:
        if self._looking is not None:
            await asyncio.wait({self._looking})
        await self.replica.close()
        await self.primary.close()


class Following:
    """The Reader of one request: the replica, and from the first statement that it cannot answer on, the primary."""

    def __init__(self, door: Replica, token: CommitToken | None) -> None:
        self.door = door
        self.after = None if token is None else token.position
        self.read_from: ReadFrom = "replica"
        self._until: float | None = None
        self._waited = False
        if token is not None and token.system != door.system:
            self.turn("foreign")  # Of another database: here nobody ever gets there.

    @property
    def driver(self) -> Literal["psqlpy", "asyncpg"]:
        return self.door.driver

    async def fetch(
        self, statement: Statement, values: Mapping[str, object], *, settings: Mapping[str, str]
    ) -> Sequence[Row]:
        if self.read_from == "replica":
            try:
                return await self._from_replica(statement, values, settings=settings)
            except BehindError:
                self.turn("behind")
            except ConflictError:
                self.turn("conflict")
            except UnavailableError:
                self.turn("unavailable")
        return await self.door.primary.fetch(statement, values, settings=settings)

    async def _from_replica(
        self, statement: Statement, values: Mapping[str, object], *, settings: Mapping[str, str]
    ) -> Sequence[Row]:
        fetch = self.door.replica.fetch
        try:
            return await fetch(statement, values, settings=settings, after=self.after)
        except BehindError:
            if self.after is None or not await self.door.reaches(self.after, until=self.deadline(settings)):
                raise
        rows = await fetch(statement, values, settings=settings, after=self.after)
        if not self._waited:
            self._waited = True
            self.door.note("waited")
        return rows

    def deadline(self, settings: Mapping[str, str]) -> float:
        """One for all statements of the request, and not beyond the time that its client gave a statement."""
        if self._until is None:
            limit = float(settings.get("statement_timeout", "inf")) / 1_000
            self._until = asyncio.get_running_loop().time() + min(self.door.wait_seconds, limit)
        return self._until

    def turn(self, reason: Turn) -> None:
        """To the primary, for the rest of the request."""
        if self.read_from == "replica":
            self.read_from = "primary"
            self.door.note(reason)
            log.info("turned to the primary", reason=reason)

    def loads(self) -> Mapping[str, PoolLoad]:
        return self.door.loads()

    async def close(self) -> None:
        """The doors are closed by whoever opened them."""


def following(reader: Reader, token: CommitToken | None) -> Reader:
    """For one request. Where no replica is, whatever was committed is seen at once."""
    return Following(reader, token) if isinstance(reader, Replica) else reader


def read_from(reader: Reader) -> ReadFrom | None:
    """Where the request has read; nothing where there is no replica to speak of."""
    return reader.read_from if isinstance(reader, Following) else None


def turn(reader: Reader) -> None:
    """To the primary, with a request whose replica does not know what the primary does."""
    if isinstance(reader, Following):
        reader.turn("behind")
