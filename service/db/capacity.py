"""Whether the pools of all processes fit into the server together: beyond its limit, connections fail under load only."""

from contextlib import AsyncExitStack

import asyncpg

from service.db.pooling import LOST, Door, Pooling, opened
from service.db.primary import NO_ANSWER
from service.domain.errors import ServiceError, UnavailableError

# What an ordinary role may open, its own limit and the database's included; -1 is none.
ROOM = """
    select least(
        current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
            - coalesce(current_setting('reserved_connections', true), '0')::int,
        (select nullif(rolconnlimit, -1) from pg_roles where rolname = current_user),
        (select nullif(datconnlimit, -1) from pg_database where datname = current_database())
    )
"""


class TooManyConnectionsError(ServiceError):
    """More connections may be opened than the server lets in; the message names the settings."""


async def check_room(door: Door, *, pooling: Pooling, wanted: int, because: str) -> None:
    """A pooler in transaction mode has connections of its own, and lets clients wait.

    Raises TooManyConnectionsError and UnavailableError.
    """
    if pooling != "session":
        return
    try:
        async with AsyncExitStack() as stack:
            room = await (await opened(door.address, stack)).fetchval(ROOM)
    except (asyncpg.PostgresError, *LOST) as error:
        raise UnavailableError(NO_ANSWER) from error
    if wanted > room:
        raise TooManyConnectionsError(
            f"{door.variable}: {because} may open {wanted} connections, and the server lets this role open {room}:"
            " lower SERVE_WORKERS or the pool sizes, or put a pooler in transaction mode before it"
        )
