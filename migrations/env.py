"""Runs the migrations on the direct URL, as the owner, one transaction each, one deployer at a time."""

import asyncio
import os
from pathlib import Path

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.schema import SchemaItem

from service.db.addresses import with_tls
from service.db.owner import OWNER, open_direct
from service.db.tables import metadata

# Made at run time by owner jobs, one per profile and per declared attribute: no migration knows them.
RUNTIME_PREFIXES = ("embeddings_p_", "documents_attribute_")


def belongs_to_history(_: SchemaItem, name: str | None, *__: object) -> bool:
    return not (name or "").startswith(RUNTIME_PREFIXES)


def migrate(connection: Connection) -> None:
    # Another deployer's migrations may take minutes; afterwards there is nothing left to do here.
    connection.execute(text("set lock_timeout = 0"))
    connection.execute(text("set statement_timeout = '15min'"))
    connection.execute(text("select pg_advisory_lock(hashtext('alembic'))"))
    connection.execute(text("set lock_timeout = '2s'"))
    connection.execute(text("set statement_timeout = '60s'"))
    connection.execute(text(f"set role {OWNER}"))
    # Without this commit SQLAlchemy's own transaction stays open around Alembic's: the upgrade exits 0 and persists nothing.
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transaction_per_migration=True,
        compare_type=True,
        include_object=belongs_to_history,
    )
    with context.begin_transaction():
        context.run_migrations()


def url_of_environment() -> str | None:
    """For the command `alembic`; `service migrate` hands its address on."""
    url, tls, ca_file = (os.environ.get(name) for name in ("DATABASE_DIRECT_URL", "DATABASE_TLS", "DATABASE_CA_FILE"))
    return url and with_tls(url, tls or None, Path(ca_file) if ca_file else None)  # type: ignore[arg-type]  # a KeyError says so


async def migrate_online() -> None:
    url = context.config.attributes.get("url") or url_of_environment()
    if not url:
        raise SystemExit("DATABASE_DIRECT_URL is not set: migrations run as the migrator, without a pooler")
    engine = open_direct(url)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(migrate)
    finally:
        await engine.dispose()


if context.is_offline_mode():
    context.configure(
        dialect_name="postgresql",
        dialect_opts={"paramstyle": "named"},  # another one doubles every percent sign of the script
        target_metadata=metadata,
        transaction_per_migration=True,
        literal_binds=True,
    )
    context.execute(f"set role {OWNER}")
    with context.begin_transaction():
        context.run_migrations()
else:
    asyncio.run(migrate_online())
