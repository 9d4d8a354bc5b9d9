"""The HNSW index of a profile: put off for a bulk load, built in parallel after it. Without it searches scan, and are exact."""

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import exists, func, literal, or_, select, table, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db import jobs
from service.db.jobs import BUILD_GRAPH, DEFER_GRAPH, INDEX_KINDS, Job
from service.db.owner import as_owner
from service.db.tables import jobs as queue
from service.domain.bulk import BulkLoad

if TYPE_CHECKING:
    from service.db.profiles import EmbeddingProfile

PATIENCE = "1s"  # With whoever holds the partition, because searches wait behind the drop: the job comes back.
FIRST_LOOK_SECONDS = 10.0  # A client has as long to send its first batch.
LOOK_SECONDS = 2.0
IDLE_LOOKS = 5  # Without anything waiting: the client is gone, or slower than the index is.
LONGEST = timedelta(hours=6)  # An index that never comes is worse than a slow load.
# Neighbours that each vector keeps, and that are looked at for it. pgvector's own are 16 and 64. With 12 a vector is written
# in .7 of the time, and `roles.EF_SEARCH` makes up for what a walk would miss: docs/decisions/0027-walk-or-scan.md
M, EF_CONSTRUCTION = 12, 100
VECTOR_OVERHEAD = 512  # Bytes of the graph that a vector takes while it is built, beside itself; less with M of 12.
MEMORY_SHARE = 4  # Of what Postgres believes to be its memory, one in so many may go into a build.
# Else a table of 17 MB, which is 20,000 vectors, is scanned by two processes, and one of 2 GB by six.
SCANNED_ALONE = "1MB"
PARALLEL = 4

INDEX_IS_VALID = text(
    """
    select i.indisvalid from pg_index i join pg_class c on c.oid = i.indexrelid
    where c.relname = :name and c.relnamespace = 'public'::regnamespace
    """
)
GRAPH_SIZE = text(
    """
    select greatest(c.reltuples, 1)::bigint from pg_index i join pg_class c on c.oid = i.indexrelid
    where c.relname = :name and c.relnamespace = 'public'::regnamespace and i.indisvalid
    """
)
MEMORY = text(
    """
    select pg_size_bytes(current_setting('maintenance_work_mem')) as granted,
           pg_size_bytes(current_setting('effective_cache_size')) as believed
    """
)


def partition_name(profile_id: UUID) -> str:
    return f"embeddings_p_{profile_id.hex}"


def graph_name(profile_id: UUID) -> str:
    return f"{partition_name(profile_id)}_hnsw"


def graph_ddl(profile: "EmbeddingProfile", *, concurrently: bool) -> str:
    """DDL binds no parameters; a uuid and an int need no quoting rules."""
    how = "index concurrently" if concurrently else "index"
    n = int(profile.dimension)
    return (
        f"create {how} if not exists {graph_name(profile.id)} on {partition_name(profile.id)}"
        f" using hnsw ((embedding::halfvec({n})) halfvec_ip_ops)"
        f" with (m = {M}, ef_construction = {EF_CONSTRUCTION})"
    )


async def is_whole(connection: AsyncConnection, profile_id: UUID) -> bool:
    return bool((await connection.execute(INDEX_IS_VALID, {"name": graph_name(profile_id)})).scalar())


async def find_graph_size(connection: AsyncConnection, profile_id: UUID) -> int:
    """Of how many vectors the planner believes it to be, 1 where it has never counted; 0 where there is no whole graph."""
    return int((await connection.execute(GRAPH_SIZE, {"name": graph_name(profile_id)})).scalar() or 0)


async def find_bulk_load(connection: AsyncConnection, collection_id: UUID, profile_id: UUID) -> BulkLoad:
    """How a load of this collection stands: the answer to its client."""
    if await _waits(connection, collection_id, DEFER_GRAPH):
        return "preparing"
    return "live" if await is_whole(connection, profile_id) else "deferred"


async def is_awaited(connection: AsyncConnection, profile_id: UUID) -> bool:
    """Whether a job will build the index, so that nobody else needs to."""
    j = queue.c
    waiting = (j.kind == BUILD_GRAPH) & (j.state != "dead") & (j.payload["profile"].astext == str(profile_id))
    return bool((await connection.execute(select(exists().where(waiting)))).scalar())


async def end_bulk_load(connection: AsyncConnection, collection_id: UUID) -> None:
    """The next look at what waits is due now, and the last one."""
    j = queue.c
    mine = (j.collection_id == collection_id) & (j.kind == BUILD_GRAPH) & (j.state != "dead")
    ended = j.payload.concat(func.jsonb_build_object("ended", literal(value=True)))
    await connection.execute(update(queue).where(mine).values(payload=ended, run_at=func.now()))


async def defer_graph(direct_url: str, job: Job, profile: "EmbeddingProfile", *, exact_chunks: int) -> bool:
    """Drops the index where no search can be using it, and queues its return, in one transaction; whether it did.

    A partition of at most `exact_chunks` vectors has no collection with more, and such collections are scanned. A larger one
    is left alone: other tenants' searches walk its graph.
    """
    async with as_owner(direct_url) as connection:
        if not await jobs.finish(connection, [job]):
            return False
        await connection.execute(select(func.set_config("lock_timeout", PATIENCE, literal(value=True))))
        some = select(literal(1)).select_from(table(partition_name(profile.id))).limit(exact_chunks + 1)
        if (await connection.execute(select(func.count()).select_from(some.subquery()))).scalar_one() > exact_chunks:
            return False
        if job.collection_id is not None and not await _waits(connection, job.collection_id, BUILD_GRAPH):
            await jobs.enqueue(
                connection,
                BUILD_GRAPH,
                tenant_id=job.tenant_id,
                collection_id=job.collection_id,
                payload={"profile": str(profile.id)},
                delay_seconds=FIRST_LOOK_SECONDS,
            )
        await connection.execute(text(f"drop index if exists {graph_name(profile.id)}"))
        return True


async def build_graph(direct_url: str, job: Job, profile: "EmbeddingProfile") -> bool:
    """Builds the index once the load has ended or fallen silent, else looks again; whether the index is whole.

    Repairs the invalid leftover of a build that was interrupted.
    """
    async with as_owner(direct_url, autocommit=True) as connection:
        if not await is_whole(connection, profile.id):
            if await _goes_on(connection, job):
                return False
            await _build(connection, profile)
        await jobs.finish(connection, [job])
    return True


async def _goes_on(connection: AsyncConnection, job: Job) -> bool:
    """Puts the job off while texts of its collection wait, or have waited a moment ago."""
    j = queue.c
    row = (
        await connection.execute(
            select(j.payload, (j.created_at + LONGEST < func.now()).label("is_late")).where(j.id == job.id)
        )
    ).one_or_none()
    if row is None or row.is_late or job.collection_id is None:
        return False
    waits = await _waits(connection, job.collection_id, *INDEX_KINDS)
    idle = 0 if waits else int(row.payload.get("idle", 0)) + 1
    if not waits and (row.payload.get("ended") or idle > IDLE_LOOKS):
        return False
    await jobs.put_off(connection, job, seconds=LOOK_SECONDS, noted={"idle": idle})
    return True


async def _waits(connection: AsyncConnection, collection_id: UUID, *kinds: str) -> bool:
    j = queue.c
    alive = or_(j.state == "queued", j.state == "running")
    found = exists().where(j.collection_id == collection_id, alive, j.kind.in_(kinds))
    return bool((await connection.execute(select(found))).scalar())


async def _build(connection: AsyncConnection, profile: "EmbeddingProfile") -> None:
    """Concurrently: everybody writes and searches meanwhile. In memory, or it would take many times as long."""
    await connection.execute(text("set statement_timeout = 0"))
    await connection.execute(text("select pg_advisory_lock(hashtext('graphs'))"))  # Two on a table wait for each other.
    if await is_whole(connection, profile.id):
        return
    await connection.execute(text(f"drop index concurrently if exists {graph_name(profile.id)}"))
    size = select(func.pg_relation_size(literal(partition_name(profile.id))))
    memory = (await connection.execute(MEMORY)).one()
    vectors = (await connection.execute(size)).scalar_one() / (2 * profile.dimension)
    needed = int(vectors * (2 * profile.dimension + VECTOR_OVERHEAD) * 1.2)
    granted = max(memory.granted, min(needed, memory.believed // MEMORY_SHARE))
    await _set(connection, "maintenance_work_mem", f"{granted // 1024}kB")
    await _set(connection, "max_parallel_maintenance_workers", str(PARALLEL))
    await _set(connection, "min_parallel_table_scan_size", SCANNED_ALONE)
    await connection.execute(text(graph_ddl(profile, concurrently=True)))


async def _set(connection: AsyncConnection, name: str, value: str) -> None:
    await connection.execute(select(func.set_config(name, value, literal(value=False))))
