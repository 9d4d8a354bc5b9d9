"""Indexes whose concurrent building was interrupted: every write keeps them up, and no search uses them."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.owner import as_owner
from service.db.roles import identifier

# What owner jobs build they mend themselves. Whoever builds one, or has it built by REINDEX, holds this lock on its table until
# the index is valid; `pg_stat_progress_create_index` hides from the owner what other roles build.
UNFINISHED = text(
    """
    select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid
    where c.relnamespace = 'public'::regnamespace and not (i.indisvalid and i.indisready) and c.relkind = 'i'
      and c.relname not like 'documents_attribute_%' and c.relname not like 'embeddings_p_%'
      and not exists (
        select from pg_locks l where l.locktype = 'relation' and l.relation = i.indrelid
          and l.database = (select oid from pg_database where datname = current_database())
          and l.mode = 'ShareUpdateExclusiveLock' and l.granted and l.pid <> pg_backend_pid())
    order by c.relname
    """
)


async def unfinished_indexes(connection: AsyncConnection) -> list[str]:
    """Invalid, and being built by nobody."""
    return list((await connection.execute(UNFINISHED)).scalars())


async def drop_unfinished_indexes(direct_url: str) -> None:
    """Not while another deployer migrates: what is invalid now may be whole when it is dropped."""
    async with as_owner(direct_url, autocommit=True) as connection:
        if not (await connection.execute(text("select pg_try_advisory_lock(hashtext('alembic'))"))).scalar_one():
            return
        await connection.execute(text("set lock_timeout = '800ms'"))
        for name in await unfinished_indexes(connection):
            await connection.execute(text(f"drop index concurrently if exists {identifier(name)}"))
