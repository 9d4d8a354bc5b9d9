"""Indexes whose concurrent building was interrupted: every write keeps them up, and no search uses them."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.owner import as_owner
from service.db.roles import identifier

# What owner jobs build they mend themselves.
UNFINISHED = text(
    """
    select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid
    where c.relnamespace = 'public'::regnamespace and not (i.indisvalid and i.indisready) and c.relkind = 'i'
      and c.relname not like 'documents_attribute_%' and c.relname not like 'embeddings_p_%'
      and not exists (select from pg_stat_progress_create_index p where p.index_relid = c.oid)
    order by c.relname
    """
)


async def unfinished_indexes(connection: AsyncConnection) -> list[str]:
    """Invalid, and being built by nobody."""
    return list((await connection.execute(UNFINISHED)).scalars())


async def drop_indexes(direct_url: str, names: Sequence[str]) -> None:
    async with as_owner(direct_url, autocommit=True) as connection:
        await connection.execute(text("set lock_timeout = '800ms'"))
        for name in names:
            await connection.execute(text(f"drop index concurrently if exists {identifier(name)}"))
