"""The worker: claims jobs under a lease, keeps it while working, and ends or returns every job it took.

Lanes of one process: three for small documents, one for files, one for upkeep; with `--owner` one for DDL.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from service.db import indexing, jobs
from service.db.jobs import Job, ReturnedJob
from service.db.primary import Primary, act_for
from service.domain.errors import ServiceError, UnavailableError
from service.ingest import upkeep
from service.ingest.index import index_batch
from service.ingest.report import attempting, named
from service.ingest.tools import Tools
from service.ingest.watch import BUSY, OUTAGE_SECONDS, Watch, pause

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

FILES = 4  # in one claim; an extractor has two children, so two more are being fetched and embedded
REAP_SECONDS = 5.0
LAST_BEAT_SECONDS = 2.0

Work = Callable[[Sequence[Job]], Awaitable[None]]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Lane:
    """Kinds of jobs, and the most in one claim."""

    kinds: Sequence[str]
    most: int


@dataclass(frozen=True, slots=True)
class Schedule:
    poll_seconds: float
    lease_seconds: float
    batch: int = 128
    # One reads, one embeds, one writes, and the embedder never waits; without embedding, Postgres writes on as many cores.
    text_lanes: int = 3
    patience_seconds: float = 5.0  # for what is in hand when the worker is told to stop

    def lanes(self, *, owner: bool) -> list[Lane]:
        lanes = [
            *(Lane((jobs.INDEX_TEXT,), self.batch) for _ in range(self.text_lanes)),
            Lane((jobs.INDEX_FILE,), FILES),
            Lane(jobs.MAINTENANCE_KINDS, 1),
        ]
        return [*lanes, Lane(jobs.OWNER_KINDS, 1)] if owner else lanes


async def run_worker(tools: Tools, *, schedule: Schedule, stop: asyncio.Event, direct_url: str | None = None) -> None:
    """Works until `stop` is set, then finishes what is in hand or gives it back.

    With `direct_url` it also runs the owner's DDL jobs.
    """

    async def work(claimed: Sequence[Job]) -> None:
        with attempting(claimed, telemetry=tools.telemetry):
            await run_jobs(claimed, tools=tools, direct_url=direct_url)

    async with asyncio.TaskGroup() as group:
        lanes = schedule.lanes(owner=direct_url is not None)
        watch = Watch(tools.primary, kinds={kind for lane in lanes for kind in lane.kinds}, urgent=(jobs.INDEX_TEXT,))
        working = [
            group.create_task(reap(tools.primary, schedule=schedule, stop=stop)),
            group.create_task(watch.run(poll_seconds=schedule.poll_seconds, stop=stop)),
        ]
        for lane in lanes:
            worked = work_lane(lane, work, primary=tools.primary, schedule=schedule, watch=watch, stop=stop)
            working.append(group.create_task(worked))
        await stop.wait()
        _, late = await asyncio.wait(working, timeout=schedule.patience_seconds)
        for task in late:
            task.cancel()


async def work_lane(
    lane: Lane, work: Work, *, primary: Primary, schedule: Schedule, watch: Watch, stop: asyncio.Event
) -> None:
    while not stop.is_set():
        try:
            async with primary.begin() as connection:
                claimed = await jobs.claim(
                    connection, kinds=lane.kinds, limit=lane.most, lease_seconds=schedule.lease_seconds
                )
            if claimed:
                await under_lease(claimed, work, primary=primary, lease_seconds=schedule.lease_seconds)
            else:
                await watch.until_due(lane.kinds)
        except BUSY as error:
            log.warning("worker waits", kinds=lane.kinds, reason=str(error))
            await pause(stop, OUTAGE_SECONDS)
        except Exception:
            log.exception("worker lane stumbled", kinds=lane.kinds)
            await pause(stop, OUTAGE_SECONDS)


async def under_lease(claimed: Sequence[Job], work: Work, *, primary: Primary, lease_seconds: float) -> None:
    """Runs `work` with a heartbeat; when the worker must stop, what is unfinished goes back unspent."""
    over = asyncio.Event()
    heart = asyncio.create_task(beat(claimed, primary=primary, lease_seconds=lease_seconds, over=over))
    try:
        for part in parted(claimed):
            await attempt(part, work, primary=primary)
    except asyncio.CancelledError:
        with suppress(*BUSY):
            await asyncio.shield(give_back(claimed, primary=primary))
        raise
    finally:
        over.set()  # A beat that is under way ends by itself: broken off, it would leave its connection behind.
        await asyncio.wait([heart], timeout=LAST_BEAT_SECONDS)
        heart.cancel()


def parted(claimed: Sequence[Job]) -> Iterator[Sequence[Job]]:
    """What failed before is tried alone: one bad document must not use up the attempts of its neighbours."""
    if fresh := [job for job in claimed if job.attempt == 1]:
        yield fresh
    yield from ([job] for job in claimed if job.attempt > 1)


async def attempt(claimed: Sequence[Job], work: Work, *, primary: Primary) -> None:
    """What `work` raises sends the jobs back with a backoff."""
    try:
        await work(claimed)
    except Exception as error:
        # Not OverloadedError: what is too much for the database in every attempt must end.
        outage = isinstance(error, UnavailableError)
        reason = str(error) if isinstance(error, ServiceError) else type(error).__name__
        line = {"kind": claimed[0].kind, "count": len(claimed), "reason": reason, **named(claimed)}
        log.warning("jobs failed", **line, exc_info=not outage)
        async with primary.begin() as connection:
            await bury(connection, await jobs.fail(connection, claimed, error=reason, outage=outage))


async def beat(claimed: Sequence[Job], *, primary: Primary, lease_seconds: float, over: asyncio.Event) -> None:
    """Extends the lease; a beat that fails is only missed, because the fence decides and not the heart."""
    while True:
        await pause(over, lease_seconds / 3)
        if over.is_set():
            return
        try:
            async with primary.begin() as connection:
                await jobs.extend(connection, claimed, lease_seconds=lease_seconds)
        except Exception as error:  # noqa: BLE001  whatever it is, the next beat may succeed
            log.warning("heartbeat missed", reason=type(error).__name__)


async def give_back(claimed: Sequence[Job], *, primary: Primary) -> None:
    async with primary.begin() as connection:
        await jobs.release(connection, claimed)


async def reap(primary: Primary, *, schedule: Schedule, stop: asyncio.Event) -> None:
    """Takes the jobs of workers that went silent."""
    while not stop.is_set():
        try:
            async with primary.begin() as connection:
                await bury(connection, await jobs.expire(connection))
        except BUSY:
            pass  # the lanes say so
        except Exception:
            log.exception("reaping failed")
        await pause(stop, min(REAP_SECONDS, schedule.lease_seconds))


async def bury(connection: "AsyncConnection", returned: Sequence[ReturnedJob]) -> None:
    """A document whose every attempt failed must not stay `pending`: together with its job's death it is `failed`."""
    for job in returned:
        if job.state == "dead" and job.kind in jobs.INDEX_KINDS and job.document_id is not None:
            log.error("document given up", document_id=str(job.document_id), job_id=str(job.id))
            await act_for(connection, job.tenant_id)
            await indexing.mark_failed(
                connection,
                job.document_id,
                jobs.version_of(job),
                code="timeout",
                message="indexing did not finish in any attempt; retry it",
            )


async def run_jobs(claimed: Sequence[Job], *, tools: Tools, direct_url: str | None) -> None:
    if claimed[0].kind in jobs.INDEX_KINDS:
        await index_batch(claimed, tools=tools)
        return
    for job in claimed:
        await upkeep.run(job, tools=tools, direct_url=direct_url)
