"""What idle lanes wait for: one look a poll for all of them, because looking costs the embedder's time."""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress

import structlog

from service.db import jobs
from service.db.primary import Primary
from service.domain.errors import OverloadedError, UnavailableError

BUSY_POLLS = 5  # A look takes as long as two abstracts take to be embedded.
OUTAGE_SECONDS = 1.0  # between two looks at a database that does not answer
BUSY = (UnavailableError, OverloadedError)

log = structlog.get_logger(__name__)


async def pause(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


class Watch:
    """Wakes, of the lanes that wait for a kind that is due, the one that waited longest: a second look wakes a second."""

    def __init__(self, primary: Primary, *, kinds: Collection[str], urgent: Collection[str] = ()) -> None:
        """While no lane waits for what is `urgent`, all of those are busy, and a look is worth a fifth as many."""
        self._primary = primary
        self._kinds = kinds
        self._urgent = frozenset(urgent)
        self._waiting: list[tuple[Sequence[str], asyncio.Event]] = []
        self._ended = False

    async def until_due(self, kinds: Sequence[str]) -> None:
        """Returns when a job of these kinds was seen (somebody else may be faster to claim it), or at the end."""
        if self._ended:
            return
        waiter = (kinds, asyncio.Event())
        self._waiting.append(waiter)
        try:
            await waiter[1].wait()
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    async def run(self, *, poll_seconds: float, stop: asyncio.Event) -> None:
        """Looks until `stop` is set; whoever waits then is let go."""
        try:
            while not stop.is_set():
                if not await self._look():
                    await pause(stop, OUTAGE_SECONDS)
                    continue
                for _ in range(BUSY_POLLS):
                    await pause(stop, poll_seconds)
                    if stop.is_set() or self._is_urgent():
                        break
        finally:
            self._ended = True
            for _, event in self._waiting:
                event.set()

    def _is_urgent(self) -> bool:
        return not self._urgent or any(self._urgent.intersection(kinds) for kinds, _ in self._waiting)

    async def _look(self) -> bool:
        if not self._waiting:
            return True
        try:
            async with self._primary.look() as connection:
                due = await jobs.due_kinds(connection, self._kinds)
        except BUSY as error:
            log.warning("worker waits", reason=str(error))
            return False
        except Exception:
            log.exception("looking for jobs failed")
            return False
        for waiter in list(self._waiting):
            kinds, event = waiter
            if due.intersection(kinds):
                due.difference_update(kinds)
                self._waiting.remove(waiter)
                event.set()
        return True
