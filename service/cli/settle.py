"""Waiting until everything that was accepted can be searched."""

import asyncio
import time
from collections.abc import Callable

from service.cli.client import CollectionStatus, ServiceClient
from service.cli.failures import CommandError

FIRST_PAUSE = 0.05  # Seconds; doubled up to LAST_PAUSE, so that a short wait is short and a long one is cheap.
LAST_PAUSE = 0.5
LONGEST_PAUSE = 1.0
FINISHED_A_SECOND = 5_000  # More than any worker does, until it has shown what it does.
QUIET_AT_MOST = 30.0  # Seconds after the last document.
STALLED = 600.0  # Seconds without a finished document: longer than any one document is allowed to take.


async def wait_until_settled(
    client: ServiceClient,
    collection: str,
    *,
    watch: Callable[[CollectionStatus], None] = lambda _status: None,
    last_pause: float = LAST_PAUSE,
    stalled: float = STALLED,
    quiet: bool = False,
) -> CollectionStatus:
    """Poll the status until it is settled; raises CommandError when nothing has moved for `stalled` seconds.

    `quiet` waits for the jobs behind it too: new statistics may have weights rewritten, and scores move until that is done.
    Not for ever: a job of the owner may wait for a worker that nobody has started.
    """
    pause, progress = FIRST_PAUSE, Progress()
    while True:
        status = await client.collection_status(collection)
        watch(status)
        progress.see(status.finished, at=time.monotonic())
        moved = progress.moved
        if status.settled and not (quiet and status.waiting_jobs and time.monotonic() - moved < QUIET_AT_MOST):
            return status
        if time.monotonic() - moved > stalled:
            raise CommandError(
                f"Nothing has moved for {stalled:.0f} s: {status.pending} documents are pending and "
                f"{status.processing} processing, {status.dead_jobs} jobs are dead. "
                "Does a worker run? `service jobs list` shows the dead ones."
            )
        # Half of what is likely left: a look that finds work left costs the worker time, one for every tenth of a second 3 %.
        likely = progress.seconds_left(status.pending + status.processing, at=time.monotonic())
        await asyncio.sleep(max(pause, min(likely / 2, LONGEST_PAUSE)))
        pause = min(pause * 2, last_pause)


class Progress:
    """When documents were finished, and from that when the last of them will be."""

    def __init__(self) -> None:
        self.first: tuple[int, float] | None = None
        self.finished, self.moved = -1, 0.0

    def see(self, finished: int, *, at: float) -> None:
        self.first = self.first or (finished, at)
        if finished != self.finished:
            self.finished, self.moved = finished, at

    def seconds_left(self, left: int, *, at: float) -> float:
        """Documents end by the hundred, so what has passed since the last of them is already a part of it; 0 when overdue."""
        if self.first is None or self.finished <= self.first[0]:
            return left / FINISHED_A_SECOND
        rate = (self.finished - self.first[0]) / (self.moved - self.first[1])
        return max(left / rate - (at - self.moved), 0)
