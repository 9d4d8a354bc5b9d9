"""Runs the migrations on the direct URL, as the owner, one transaction each, one deployer at a time."""

import asyncio
import os
import re
import time
from pathlib import Path

from alembic import context
from alembic.runtime.migration import MigrationInfo
from sqlalchemy import Connection, text
from sqlalchemy.schema import SchemaItem

from service.db.addresses import with_tls
from service.db.owner import OWNER, open_direct
from service.db.tables import metadata

# Made at run time by owner jobs, one per profile and per declared attribute: no migration knows them.
RUNTIME_PREFIXES = ("embeddings_p_", "documents_attribute_")

PATIENCE, PAUSE_SECONDS = 3_000, 0.3


def belongs_to_history(_: SchemaItem, name: str | None, *__: object) -> bool:
    return not (name or "").startswith(RUNTIME_PREFIXES)


def wait_for_other_deployers(connection: Connection) -> None:
    """Their migrations may take minutes; afterwards there is nothing left to do here.

    Asked again and again: who waits inside the database holds a snapshot, and an index that is built concurrently waits for
    everybody's snapshot.
    """
    for _ in range(PATIENCE):
        if connection.execute(text("select pg_try_advisory_lock(hashtext('alembic'))")).scalar_one():
            return
        connection.rollback()
        time.sleep(PAUSE_SECONDS)
    raise SystemExit("another deployer has been migrating this database for 15 minutes")


def note_applied(*, step: MigrationInfo, **_: object) -> None:
    """What ran is listed by name: unlike `alembic_version`, which holds the heads, it can be read without the scripts."""
    revision = step.up_revision_id
    if not re.fullmatch(r"\w+", revision or ""):
        raise ValueError(revision)
    change = (
        f"insert into applied_migrations (revision) values ('{revision}') on conflict do nothing"
        if step.is_upgrade
        else f"delete from applied_migrations where revision = '{revision}'"
    )
    # The first migrations are older than the list.
    context.execute(f"do $$ begin if to_regclass('applied_migrations') is not null then {change}; end if; end $$")


def migrate(connection: Connection) -> None:
    wait_for_other_deployers(connection)
    connection.execute(text("set lock_timeout = '800ms'"))  # Readers wait behind a waiting ALTER: less than a second.
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
        on_version_apply=note_applied,  # type: ignore[arg-type]  # Alembic calls it by keyword
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
        on_version_apply=note_applied,  # type: ignore[arg-type]  # Alembic calls it by keyword
    )
    context.execute(f"set role {OWNER}")
    with context.begin_transaction():
        context.run_migrations()
else:
    asyncio.run(migrate_online())
