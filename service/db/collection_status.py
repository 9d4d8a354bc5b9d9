"""How far a collection is: its documents by status, its jobs, and whether search has seen it all."""

from uuid import UUID

from sqlalchemy import Select, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.jobs import INDEX_KINDS, REFRESH_STATISTICS, documents_in_hand
from service.db.tables import document_versions, documents, jobs
from service.domain.documents import Collection, CollectionStatus


def unfinished_versions(collection_id: UUID) -> Select[tuple[str, bool, int]]:
    """How many newest versions are not indexed, by status and whether a worker has one in hand.

    Each is looked up by its key, and no join is left to the planner: of a collection that is being loaded it knows nothing
    yet, believes in one row on either side, and compares every version with every document.
    """
    v = document_versions.c
    # Spelled and not bound, so that the partial index of unfinished versions is used: the indexed ones are not read.
    indexed = literal("indexed", literal_execute=True)
    unfinished = (
        select(v.document_id, v.number, v.status)
        .where(v.collection_id == collection_id, v.status != indexed)
        .cte("unfinished")
        .prefix_with("MATERIALIZED")
    )
    u = unfinished.c
    newest = select(documents.c.version).where(documents.c.id == u.document_id).scalar_subquery()
    is_running = u.document_id.in_(documents_in_hand(collection_id)).label("is_running")
    return (
        select(u.status, is_running, func.count().label("n")).where(u.number == newest).group_by(u.status, is_running)
    )


async def find_collection_status(connection: AsyncConnection, collection: Collection) -> CollectionStatus:
    """Documents are counted before jobs: whatever finishes in between leaves its statistics job to be seen."""
    j = jobs.c
    # First: whatever is added from now on is counted as unfinished below, and not as indexed.
    everything = select(func.count()).where(documents.c.collection_id == collection.id)
    total = (await connection.execute(everything)).scalar_one()
    counts = {"pending": 0, "processing": 0, "failed": 0}
    for row in await connection.execute(unfinished_versions(collection.id)):
        counts["processing" if row.status == "pending" and row.is_running else row.status] += row.n
    due = j.run_at <= func.now()
    of_collection = (
        await connection.execute(
            select(
                func.count().filter(j.state == "queued", due).label("queued"),
                func.count().filter(j.state == "running").label("running"),
                func.count().filter(j.state == "dead").label("dead"),
                func.count()
                .filter(j.kind.in_((*INDEX_KINDS, REFRESH_STATISTICS)), j.state != "dead")
                .label("unsettling"),
            ).where(j.collection_id == collection.id)
        )
    ).one()
    return CollectionStatus(
        documents={
            "pending": counts["pending"],
            "processing": counts["processing"],
            "indexed": max(total - sum(counts.values()), 0),
            "failed": counts["failed"],
        },
        jobs={"queued": of_collection.queued, "running": of_collection.running, "dead": of_collection.dead},
        settled=counts["pending"] == counts["processing"] == 0 and of_collection.unsettling == 0,
    )
