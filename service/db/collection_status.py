"""How far a collection is: its documents by status, its jobs, and whether search has seen it all."""

from sqlalchemy import and_, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.documents import is_running
from service.db.jobs import INDEX_KINDS, REFRESH_STATISTICS
from service.db.tables import document_versions, documents, jobs
from service.domain.documents import Collection, CollectionStatus


async def find_collection_status(connection: AsyncConnection, collection: Collection) -> CollectionStatus:
    """Documents are counted before jobs: whatever finishes in between leaves its statistics job to be seen."""
    v, j = document_versions.c, jobs.c
    # First: whatever is added from now on is counted as unfinished below, and not as indexed.
    everything = select(func.count()).where(documents.c.collection_id == collection.id)
    total = (await connection.execute(everything)).scalar_one()
    # Spelled and not bound, so that the partial index of unfinished versions is used: the indexed ones are not read.
    indexed = literal("indexed", literal_execute=True)
    unfinished = (
        select(v.status, is_running.label("is_running"), func.count().label("n"))
        .select_from(documents)
        .join(document_versions, and_(v.document_id == documents.c.id, v.number == documents.c.version))
        .where(v.collection_id == collection.id, v.status != indexed)
        .group_by(v.status, is_running)
    )
    counts = {"pending": 0, "processing": 0, "failed": 0}
    for row in await connection.execute(unfinished):
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
