"""Waiting until everything that was accepted can be searched."""

import asyncio
import time
from collections.abc import Callable

from service.cli.client import CollectionStatus, ServiceClient
from service.cli.failures import CommandError

FIRST_PAUSE = 0.05  # Seconds; doubled up to LAST_PAUSE, so that a short wait is short and a long one is cheap.
LAST_PAUSE = 0.5
FINISHED_A_SECOND = 5_000  # More than any worker does: a look that must find work left would only cost the worker time.
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
    pause = FIRST_PAUSE
    moved, finished = time.monotonic(), -1
    while True:
        status = await client.collection_status(collection)
        watch(status)
        if status.finished != finished:
            moved, finished = time.monotonic(), status.finished
        if status.settled and not (quiet and status.waiting_jobs and time.monotonic() - moved < QUIET_AT_MOST):
            return status
        if time.monotonic() - moved > stalled:
            raise CommandError(
                f"Nothing has moved for {stalled:.0f} s: {status.pending} documents are pending and "
                f"{status.processing} processing, {status.dead_jobs} jobs are dead. "
                "Does a worker run? `service jobs list` shows the dead ones."
            )
        left = status.pending + status.processing
        await asyncio.sleep(max(pause, min(left / FINISHED_A_SECOND, 1.0)))
        pause = min(pause * 2, last_pause)
