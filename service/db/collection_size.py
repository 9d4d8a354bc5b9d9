"""How many chunks a collection has, as its statistics last counted them; asked through the reading door."""

from uuid import UUID

from sqlalchemy import select

from service.db.read_pool import Reader
from service.db.retrieval import SearchDialect, Statement, scoped


def size_statement() -> Statement:
    """Of the scoped collection, so that a foreign one has no row."""
    compiled = select(scoped().c.chunk_count).compile(dialect=SearchDialect())  # type: ignore[no-untyped-call]
    return Statement(str(compiled), tuple(compiled.positiontup or ()), prepared=True)


COLLECTION_SIZE = size_statement()


async def count_chunks(collection_id: UUID, *, tenant_id: UUID, reader: Reader) -> int:
    """0 for a collection that the tenant does not have."""
    settings = {"app.tenant_id": str(tenant_id)}
    rows = await reader.fetch(COLLECTION_SIZE, {"collection": collection_id}, settings=settings)
    return next((int(str(row[0])) for row in rows), 0)
