"""Commit tokens: where the log of the primary ends now."""

from sqlalchemy import text

from service.db.primary import Primary
from service.domain.commits import CommitToken

# Of all that was written, also of what is not flushed yet: under synchronous_commit = off a commit is seen before it is flushed.
END = text(
    """
    select system_identifier as system, (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint as position
    from pg_control_system()
    """
)


async def commit_token(primary: Primary) -> CommitToken:
    """Behind every commit that has been answered when this is asked. Raises UnavailableError and OverloadedError."""
    async with primary.look() as connection:
        row = (await connection.execute(END)).one()
    return CommitToken(row.system % 2**64, row.position)
