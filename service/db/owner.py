"""The owner's door: the direct URL, one connection, for migrations and for DDL at run time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import URL, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from service.db.addresses import Address, asyncpg_tls
from service.db.primary import answering
from service.domain.errors import ServiceError

OWNER = "hybrid_owner"


class WrongRoleError(ServiceError):
    """A login role that could see or change more than its part, or less."""


def open_direct(direct_url: str, **options: str) -> AsyncEngine:
    """Of connections that end with their use. Raises BadAddressError."""
    address = Address.direct(direct_url)
    return create_async_engine(
        URL.create("postgresql+asyncpg", address.user, address.password, address.host, address.port, address.database),
        poolclass=NullPool,
        connect_args={"ssl": asyncpg_tls(address)},
        **options,
    )


@asynccontextmanager
async def as_owner(direct_url: str, *, autocommit: bool = False) -> AsyncIterator[AsyncConnection]:
    """A connection of the migrator that has become the owner; a transaction, or each statement for itself.

    Raises UnavailableError, and WrongRoleError when the role of the URL may not become the owner.
    """
    options = {"isolation_level": "AUTOCOMMIT"} if autocommit else {}
    engine = open_direct(direct_url, **options)
    try:
        async with answering(), engine.begin() as connection:
            await become_owner(connection)
            yield connection
    finally:
        await engine.dispose()


async def become_owner(connection: AsyncConnection) -> None:
    try:
        await connection.execute(text(f"set role {OWNER}"))
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) not in {"42501", "22023"}:
            raise
        raise WrongRoleError(
            f"the role of DATABASE_DIRECT_URL cannot become {OWNER}; log in as the migrator (see `service roles`)"
        ) from error
