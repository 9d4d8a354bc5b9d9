"""The start-up self-test of a door: what stands between it and Postgres, and whether PG_STATEMENT_MODE says the same.

Three clients take turns, never two at once, so that a pool of a single connection is tested as well as any. Each keeps a
statement of its own under one name: a pooler that hands connections on after every transaction and does not track
statements then misses one, meets another's, or answers with another's. Where nothing is missed, the server's process ids
tell whether connections are handed on at all.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Literal, TypeAlias

import asyncpg

from service.db.addresses import Address, asyncpg_tls
from service.db.primary import LOGIN_REFUSED, NO_ANSWER, REFUSED, no_answer
from service.domain.errors import ServiceError, UnavailableError
from service.domain.ids import new_id

# "session": no pooler, or one that keeps a server connection for as long as its client.
Pooling = Literal["session", "tracked", "untracked"]
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

CLIENTS = 3
# Neither back and forth nor round and round: whichever connection a pooler takes next, somebody gets another's.
TURNS = (0, 0, 1, 2, 2, 1, 0, 2, 0, 1, 1, 2, 0)
TIMEOUT_SECONDS = 10.0
TENANT = "select pg_backend_pid(), coalesce(current_setting('app.tenant_id', true), '')"
MISSED = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
)


class WrongPoolerError(ServiceError):
    """A pooler that the service would get wrong answers or errors through; the message says which setting to change."""


@dataclass(frozen=True, slots=True)
class Door:
    """`variable` names the address in messages; `unprepared` is whether its driver can do without tracking on a tracker."""

    variable: str
    address: Address
    unprepared: bool


async def check_pooler(door: Door, *, tracked: bool) -> Pooling:
    """Raises WrongPoolerError when the service cannot work through this door, UnavailableError when nobody answers."""
    pooling = await find_pooling(door)
    if tracked and pooling == "untracked":
        raise WrongPoolerError(
            f"PG_STATEMENT_MODE is tracked, but the pooler of {door.variable} does not track prepared statements:"
            " set PG_STATEMENT_MODE=untracked, or use PgBouncer 1.21 or newer with max_prepared_statements above 0"
        )
    if not tracked and pooling == "tracked" and not door.unprepared:
        raise WrongPoolerError(
            f"PG_STATEMENT_MODE is untracked, but the pooler of {door.variable} tracks prepared statements, and psqlpy"
            " cannot do without there: set PG_STATEMENT_MODE=tracked, or SEARCH_DRIVER=asyncpg"
        )
    return pooling


async def find_pooling(door: Door) -> Pooling:
    """Raises WrongPoolerError for a pooler that no setting makes usable, UnavailableError when nobody answers."""
    try:
        async with AsyncExitStack() as stack:
            clients = [await opened(door.address, stack) for _ in range(CLIENTS)]
            await check_transactions(clients, door)
            name = f"selftest_{new_id().hex}"  # unlike any other process's, which may share the pool
            try:
                return await taking_turns(clients, name)
            except MISSED:
                return "untracked"
    except asyncpg.PostgresError as error:
        raise UnavailableError(LOGIN_REFUSED if (error.sqlstate or "").startswith(REFUSED) else NO_ANSWER) from error
    except LOST as error:
        raise UnavailableError(no_answer(error)) from error


async def opened(address: Address, stack: AsyncExitStack) -> Connection:
    client = await asyncpg.connect(
        user=address.user,
        password=address.password,
        host=address.host,
        port=address.port,
        database=address.database,
        ssl=asyncpg_tls(address),
        timeout=TIMEOUT_SECONDS,
        command_timeout=TIMEOUT_SECONDS,
        statement_cache_size=0,
    )
    stack.callback(client.terminate)  # a polite end would first ask an untracked pooler to forget its statements
    return client


async def check_transactions(clients: Sequence[Connection], door: Door) -> None:
    """A transaction stays on one connection, and what it sets for itself alone is gone with it."""
    token = str(new_id())
    for client in clients:
        try:
            async with client.transaction():
                first, leftover = await client.fetchrow(TENANT)
                await client.execute("select set_config('app.tenant_id', $1, true)", token)
                second, tenant = await client.fetchrow(TENANT)
        except (asyncpg.ProtocolViolationError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError) as error:
            # PgBouncer says so and hangs up; what other poolers do, the comparison below finds.
            if "statement pooling" not in str(error):
                raise
            first, leftover, second, tenant = 0, "", 1, ""
        if first != second or tenant != token:
            raise WrongPoolerError(
                f"the pooler of {door.variable} is in statement mode, where a transaction's statements are scattered over"
                " connections: set its pool_mode to transaction, or use an address without a pooler"
            )
        if leftover:
            raise WrongPoolerError(
                f"the pooler of {door.variable} hands out connections on which somebody has set app.tenant_id for the"
                " session: find the client that sets it without `local`, and have the pooler reconnect (RECONNECT)"
            )


async def taking_turns(clients: Sequence[Connection], name: str) -> Pooling:
    """Raises one of MISSED where prepared statements get lost."""
    servers: list[set[int]] = [set() for _ in clients]
    statements = []
    for number, client in enumerate(clients):
        statements.append(await client.prepare(f"select {number} as mine, pg_backend_pid()", name=name))
        # At once: asyncpg ends a Parse with Flush, and until the next Sync a pooler keeps the connection for this client.
        await statements[number].fetchrow()
    for turn in TURNS:
        mine, server = await statements[turn].fetchrow()
        if mine != turn:
            return "untracked"
        servers[turn].add(server)
    kept = all(len(seen) == 1 for seen in servers)
    return "session" if kept and len(set.union(*servers)) == len(clients) else "tracked"
