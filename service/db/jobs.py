"""The queue: one table, SKIP LOCKED, leases. A job is enqueued in the transaction of what it is about; no LISTEN/NOTIFY."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Select,
    Text,
    Update,
    Uuid,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.tables import collections, jobs
from service.domain.ids import new_id

INDEX_TEXT, INDEX_FILE = "index_text", "index_file"  # apart, so that a slow file never delays small documents
INDEX_KINDS = (INDEX_TEXT, INDEX_FILE)  # payload {"version": n}, and the request that made it: `telemetry.logs.origin`
DELETE_BLOBS = "delete_blobs"  # payload {"keys": [...]}
DELETE_COLLECTION = "delete_collection"
REFRESH_STATISTICS = "refresh_statistics"  # deduplicated per collection, see `statistics_key`
REWRITE_WEIGHTS = "rewrite_weights"
INDEX_ATTRIBUTE = "index_attribute"  # payload {"key": ...}
MAINTENANCE_KINDS = (DELETE_BLOBS, DELETE_COLLECTION, REFRESH_STATISTICS, REWRITE_WEIGHTS)
DEFER_GRAPH = "defer_graph"
BUILD_GRAPH = "build_graph"  # payload {"profile": ...}, and what its looks have noted
OWNER_KINDS = (INDEX_ATTRIBUTE, DEFER_GRAPH, BUILD_GRAPH)  # DDL: only `worker --owner` runs these

# A random share of min(base * 2^attempt, cap), so that jobs which failed together do not return together. Ten attempts
# last four minutes on average.
BACKOFF_BASE_SECONDS, BACKOFF_CAP_SECONDS = 0.5, 300.0

# A newer job of the same key may already wait, and two queued ones would collide: what comes back has no key.
UNLEASED = {"dedupe_key": None, "lease_until": None, "lease_token": None}

# Spelled: with a bound 'queued' a cached plan no longer sees that the partial index fits.
QUEUED, RUNNING = (jobs.c.state == literal_column(f"'{state}'") for state in ("queued", "running"))


@dataclass(frozen=True, slots=True)
class Job:
    id: UUID
    kind: str
    tenant_id: UUID | None
    collection_id: UUID | None
    document_id: UUID | None
    payload: Mapping[str, object]
    attempt: int
    lease_token: UUID


@dataclass(frozen=True, slots=True)
class JobSummary:
    id: UUID
    kind: str
    state: str
    attempt: int
    run_at: datetime
    collection_id: UUID | None
    document_id: UUID | None
    last_error: str | None


def version_of(job: "Job | ReturnedJob") -> int:
    """The version that an index job is about."""
    return int(str(job.payload["version"]))


def statistics_key(collection_id: UUID) -> str:
    return f"{REFRESH_STATISTICS}:{collection_id}"


async def enqueue(
    connection: AsyncConnection,
    kind: str,
    *,
    tenant_id: UUID | None,
    collection_id: UUID | None = None,
    document_id: UUID | None = None,
    payload: Mapping[str, object] | None = None,
    dedupe_key: str | None = None,
    delay_seconds: float = 0,
) -> None:
    """Adds a job; with a `dedupe_key` and such a job waiting already, that one runs at the earlier of the two times.

    The waiting job stays locked until the caller commits: begun before that, it would not see what the caller changed.
    """
    statement = insert(jobs).values(
        id=new_id(),
        kind=kind,
        tenant_id=tenant_id,
        collection_id=collection_id,
        document_id=document_id,
        payload=dict(payload or {}),
        dedupe_key=dedupe_key,
        run_at=func.now() + timedelta(seconds=delay_seconds),
    )
    earlier = {"run_at": func.least(jobs.c.run_at, statement.excluded.run_at)}
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["dedupe_key"], index_where=QUEUED, set_=earlier)
    )


async def awaited_collections(connection: AsyncConnection, collection_ids: Collection[UUID]) -> set[UUID]:
    """Those of the collections that have texts waiting to be indexed."""
    waiting = exists().where(QUEUED, jobs.c.kind == INDEX_TEXT, jobs.c.collection_id == collections.c.id)
    statement = select(collections.c.id).where(collections.c.id.in_(collection_ids), waiting)
    return set((await connection.execute(statement)).scalars())


# Not named `kind`: within the subquery that would be the table's own column, and every kind were due.
ASKED = func.unnest(bindparam("kinds", type_=ARRAY(Text))).column_valued("asked")
DUE_KINDS = select(ASKED).where(exists().where(QUEUED, jobs.c.run_at <= func.now(), jobs.c.kind == ASKED))


async def due_kinds(connection: AsyncConnection, kinds: Collection[str]) -> set[str]:
    """Those of the kinds of which a job could be claimed now: an idle worker asks this, for all its lanes at once."""
    return set((await connection.execute(DUE_KINDS, {"kinds": list(kinds)})).scalars())


def documents_in_hand(collection_id: UUID | ColumnElement[UUID]) -> Select[tuple[UUID | None]]:
    """Those of a collection that workers read, embed or write just now: some hundreds at most."""
    j = jobs.c
    return select(j.document_id).where(
        j.collection_id == collection_id, j.kind.in_(INDEX_KINDS), j.state == "running", j.document_id.is_not(None)
    )


async def claim(connection: AsyncConnection, *, kinds: Sequence[str], limit: int, lease_seconds: float) -> list[Job]:
    """Leases the oldest due jobs of these kinds, in one statement: no transaction stays open while they are worked on."""
    picked = (
        select(jobs.c.id)
        .where(QUEUED, jobs.c.run_at <= func.now(), jobs.c.kind.in_(kinds))
        .order_by(jobs.c.run_at, jobs.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("picked")
    )
    statement = (
        update(jobs)
        .where(jobs.c.id == picked.c.id)
        .values(
            state="running",
            attempt=jobs.c.attempt + 1,
            lease_until=func.now() + timedelta(seconds=lease_seconds),
            lease_token=new_id(),
        )
        .returning(
            jobs.c.id,
            jobs.c.kind,
            jobs.c.tenant_id,
            jobs.c.collection_id,
            jobs.c.document_id,
            jobs.c.payload,
            jobs.c.attempt,
            jobs.c.lease_token,
        )
    )
    rows = (await connection.execute(statement)).mappings()
    return sorted((Job(**row) for row in rows), key=lambda job: job.id)  # `update` returns them in any order


def held(claimed: Sequence[Job]) -> ColumnElement[bool]:
    """What fences every write of a worker: these jobs, still under the lease they were claimed with."""
    ids, tokens = [job.id for job in claimed], list({job.lease_token for job in claimed})
    return (
        (jobs.c.id == func.any(literal(ids, ARRAY(Uuid))))
        & (jobs.c.lease_token == func.any(literal(tokens, ARRAY(Uuid))))
        & RUNNING
    )


async def extend(connection: AsyncConnection, claimed: Sequence[Job], *, lease_seconds: float) -> set[UUID]:
    """The heartbeat. Returns the jobs that are still ours."""
    lease_until = func.now() + timedelta(seconds=lease_seconds)
    statement = update(jobs).where(held(claimed)).values(lease_until=lease_until).returning(jobs.c.id)
    return set((await connection.execute(statement)).scalars())


async def finish(connection: AsyncConnection, claimed: Sequence[Job]) -> set[UUID]:
    """Removes the jobs, in the transaction of their results. What is not returned was lost to another worker."""
    return set((await connection.execute(delete(jobs).where(held(claimed)).returning(jobs.c.id))).scalars())


async def release(connection: AsyncConnection, claimed: Sequence[Job]) -> None:
    """Gives the jobs back at once and unspent: the worker is stopping."""
    await connection.execute(
        update(jobs)
        .where(held(claimed))
        .values(state="queued", attempt=jobs.c.attempt - 1, run_at=func.now(), **UNLEASED)
    )


async def put_off(connection: AsyncConnection, job: Job, *, seconds: float, noted: Mapping[str, object]) -> None:
    """Not its time yet: unspent, and with what it has to remember."""
    payload = jobs.c.payload.concat(literal(dict(noted), jobs.c.payload.type))
    later = func.now() + timedelta(seconds=seconds)
    values = {"state": "queued", "attempt": jobs.c.attempt - 1, "run_at": later, "payload": payload}
    await connection.execute(update(jobs).where(held([job])).values(**values, **UNLEASED))


def back_off(condition: ColumnElement[bool], error: str, *, outage: bool = False) -> Update:
    """Into the queue again after a wait, or dead once every attempt is used; an outage uses up half of them at most."""
    j = jobs.c
    longest = func.least(BACKOFF_BASE_SECONDS * func.power(2, j.attempt), BACKOFF_CAP_SECONDS)
    spent: dict[str, object] = {"state": case((j.attempt >= j.max_attempts, "dead"), else_="queued")}
    if outage:
        spent = {"state": "queued", "attempt": func.least(j.attempt, func.greatest(j.max_attempts // 2, 1))}
    return (
        update(jobs)
        .where(condition)
        .values(
            run_at=func.now() + func.random() * longest * timedelta(seconds=1),
            last_error=error,
            **spent,
            **UNLEASED,
        )
    )


RETURNED = (jobs.c.id, jobs.c.kind, jobs.c.tenant_id, jobs.c.document_id, jobs.c.payload, jobs.c.state)


@dataclass(frozen=True, slots=True)
class ReturnedJob:
    id: UUID
    kind: str
    tenant_id: UUID | None
    document_id: UUID | None
    payload: Mapping[str, object]
    state: str


async def fail(
    connection: AsyncConnection, claimed: Sequence[Job], *, error: str, outage: bool = False
) -> list[ReturnedJob]:
    """`outage`: it is not the jobs' doing, so it never kills them."""
    statement = back_off(held(claimed), error, outage=outage).returning(*RETURNED)
    return [ReturnedJob(**row) for row in (await connection.execute(statement)).mappings()]


async def expire(connection: AsyncConnection) -> list[ReturnedJob]:
    """Takes jobs from workers that went silent. The attempt is spent: a document that kills its worker must end."""
    silent = RUNNING & (jobs.c.lease_until < func.now())
    statement = back_off(silent, "the worker went silent").returning(*RETURNED)
    return [ReturnedJob(**row) for row in (await connection.execute(statement)).mappings()]


async def release_all(connection: AsyncConnection) -> None:
    """Gives every job back whose worker is known to be gone, without waiting for its lease to end."""
    again = {"state": "queued", "run_at": func.now(), "lease_until": None, "lease_token": None, "dedupe_key": None}
    await connection.execute(update(jobs).where(RUNNING).values(again))


async def summaries(connection: AsyncConnection, *, state: str | None, limit: int) -> list[JobSummary]:
    statement = select(
        jobs.c.id,
        jobs.c.kind,
        jobs.c.state,
        jobs.c.attempt,
        jobs.c.run_at,
        jobs.c.collection_id,
        jobs.c.document_id,
        jobs.c.last_error,
    ).order_by(jobs.c.run_at)
    if state is not None:
        statement = statement.where(jobs.c.state == state)
    return [JobSummary(**row) for row in (await connection.execute(statement.limit(limit))).mappings()]


async def dead(connection: AsyncConnection, ids: Sequence[UUID] | None) -> list[ReturnedJob]:
    """The dead jobs among these, or all of them."""
    statement = select(*RETURNED).where(jobs.c.state == "dead").order_by(jobs.c.id)
    if ids is not None:
        statement = statement.where(jobs.c.id.in_(ids))
    return [ReturnedJob(**row) for row in (await connection.execute(statement)).mappings()]


async def revive(connection: AsyncConnection, job_id: UUID) -> bool:
    """Queues a dead job again, with all its attempts; False when it is dead no more."""
    again = {"state": "queued", "attempt": 0, "run_at": func.now()}
    statement = update(jobs).where(jobs.c.id == job_id, jobs.c.state == "dead").values(again).returning(jobs.c.id)
    return (await connection.execute(statement)).scalar() is not None
