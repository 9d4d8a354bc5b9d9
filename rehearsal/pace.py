"""A rate at which the machine is about half busy, so that a disturbance shows and the load itself is none."""

import asyncio
import os
import time
from contextlib import suppress

import psutil

from rehearsal.actions import World
from rehearsal.load import clients_at

CORES = min(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
HALF = 0.5 * CORES  # seconds of processors, for each second
TRIAL_RATE, TRIAL_SECONDS = 15.0, 5.0
SLOWEST, FASTEST = 8.0, 60.0


async def find_rate(world: World) -> tuple[float, float]:
    """Arrivals a second, and the share of two cores that they are expected to take. Also warms everything up."""
    begun, used = time.monotonic(), used_seconds()
    async with clients_at(TRIAL_RATE, world):
        await asyncio.sleep(TRIAL_SECONDS)
    busy = (used_seconds() - used) / (time.monotonic() - begun)
    rate = min(FASTEST, max(SLOWEST, TRIAL_RATE * HALF / busy))
    return rate, busy * rate / TRIAL_RATE / CORES


def used_seconds() -> float:
    """Of processors, by this process and all that it started: Postgres, the store, the pooler, the releases."""
    here = psutil.Process()
    total = 0.0
    for process in [here, *here.children(recursive=True)]:
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total
