"""The writing door: SQLAlchemy on asyncpg, as the application role."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from uuid import UUID

import asyncpg
import orjson
from sqlalchemy import URL, bindparam, event, func, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from service.db.addresses import Address, asyncpg_tls
from service.domain.errors import OverloadedError, UnavailableError
from service.telemetry.loads import PoolLoad

SET_TENANT = select(func.set_config("app.tenant_id", bindparam("tenant_id"), True))  # noqa: FBT003  SQL's is_local
# SQLSTATE classes: connection lost, server stopping or starting, out of resources, closed database, a standby;
DISCONNECTED = ("08", "57P", "53", "55000", "25006")
# deadlock and serialization failure, lock timeout, statement timeout; wrong name or password, no such database.
CONTENDED = ("40", "55P03", "57014")
REFUSED = ("28", "3D")
IDLE_SECONDS = 5.0  # A connection unused for longer is asked for a sign of life before it is given out.
HANDING_BACK_SECONDS = 5.0
NO_ANSWER = "the database does not answer"
WRONG_TLS = "the database refuses TLS, or does not prove who it is, as DATABASE_TLS and DATABASE_CA_FILE ask it to"
LOGIN_REFUSED = "the database refuses the login: a wrong role, password or database name"


@asynccontextmanager
async def answering() -> AsyncIterator[None]:
    """Turns what is no fault of a statement into UnavailableError and OverloadedError, in words for a client."""
    try:
        yield
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None) or ""
        if state.startswith(REFUSED):
            raise UnavailableError(LOGIN_REFUSED) from error
        if state.startswith(CONTENDED):
            raise OverloadedError("another change is in the way; try again shortly") from error
        lost = isinstance(error, InterfaceError | OperationalError) and not cannot_encode(error)
        if lost or error.connection_invalidated or state.startswith(DISCONNECTED):
            raise UnavailableError(NO_ANSWER) from error
        raise
    except (OSError, TimeoutError) as error:
        raise UnavailableError(no_answer(error)) from error


def no_answer(error: Exception) -> str:
    return WRONG_TLS if isinstance(error, ssl.SSLError) or "rejected SSL upgrade" in str(error) else NO_ANSWER


def cannot_encode(error: DBAPIError) -> bool:
    """The driver refuses a value before it is sent, and says so with the class that it has for lost connections."""
    return isinstance(error.orig and error.orig.__cause__, asyncpg.DataError)


async def act_for(connection: AsyncConnection, tenant_id: UUID | None) -> None:
    """From here to the end of the transaction, only this tenant's rows are seen."""
    await connection.execute(SET_TENANT, {"tenant_id": "" if tenant_id is None else str(tenant_id)})


def note_use(_connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
    record.info["used"] = time.monotonic()


def refuse_lost(connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
    """What SQLAlchemy's pre-ping does, at three round trips a checkout, done only where it can tell something new.

    A server that stops closes its sockets, which costs nothing to see; a network that fell silent takes a while to matter.
    """
    driver = connection.driver_connection
    if isinstance(driver, asyncpg.Connection) and driver.is_closed():
        raise DisconnectionError
    if time.monotonic() - record.info.get("used", time.monotonic()) > IDLE_SECONDS:
        try:
            connection.ping()
        except Exception as error:
            raise DisconnectionError from error


class Primary:
    """All writes and all transactions. One per process."""

    def __init__(self, address: Address, *, pool_size: int = 10, tracked: bool = True) -> None:
        # Behind a pooler that does not track prepared statements, neither cache may be used.
        caches = {} if tracked else {"statement_cache_size": 0, "prepared_statement_cache_size": 0}
        self.engine: AsyncEngine = create_async_engine(
            URL.create(
                "postgresql+asyncpg", address.user, address.password, address.host, address.port, address.database
            ),
            pool_size=pool_size,
            max_overflow=0,
            pool_use_lifo=True,  # So that those beyond the present need fall idle.
            # Postgres writes 1e20 as an integer of 21 digits; orjson reads those beyond 64 bits as floats again.
            json_deserializer=orjson.loads,
            connect_args={"timeout": 10, "ssl": asyncpg_tls(address), **caches},
        )

        self._size, self._asked, self._refused, self._closed = pool_size, 0, 0, False
        event.listen(self.engine.sync_engine, "checkin", note_use)
        event.listen(self.engine.sync_engine, "checkout", refuse_lost)

    @asynccontextmanager
    async def look(self) -> AsyncIterator[AsyncConnection]:
        """For a single statement on tables that belong to nobody: no transaction around it, one round trip in all."""
        with self._asking():
            async with answering(), self.engine.connect() as connection:
                yield await connection.execution_options(isolation_level="AUTOCOMMIT")

    @asynccontextmanager
    async def begin(self, tenant_id: UUID | None = None) -> AsyncIterator[AsyncConnection]:
        """A transaction that sees the rows of one tenant; without one, only tables that belong to nobody.

        Raises UnavailableError when the database cannot be reached, OverloadedError when others are in the way.
        """
        with self._asking():
            async with answering(), self.engine.begin() as connection:
                if tenant_id is not None:
                    await act_for(connection, tenant_id)
                yield connection

    @contextmanager
    def _asking(self) -> Iterator[None]:
        if self._closed:  # The engine would open a new pool, which nobody closes.
            raise UnavailableError("the door to the database is closed: this process is stopping")
        self._asked += 1
        try:
            yield
        except PoolTimeoutError as error:
            self._refused += 1
            raise OverloadedError("every connection to the database is in use; try again shortly") from error
        finally:
            self._asked -= 1

    def load(self) -> PoolLoad:
        in_use = self.engine.pool.checkedout()  # type: ignore[attr-defined]  # a QueuePool has it, Pool does not
        return PoolLoad(self._size, in_use, max(self._asked - in_use, 0), self._refused)

    async def close(self) -> None:
        """Waits for what a cancelled task is handing back: a pool takes it even after its end, and never closes it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(HANDING_BACK_SECONDS):
                while self.load().in_use:  # noqa: ASYNC110  the pool tells nobody
                    await asyncio.sleep(0.01)
        self._closed = True
        await self.engine.dispose()
