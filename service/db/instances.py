"""Instances announce their release, so that a migration can ask who still runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, Double, Select, cast, delete, extract, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.primary import Primary
from service.db.tables import applied_migrations, instances, release_floor
from service.domain.errors import ServiceError
from service.domain.ids import new_id
from service.domain.releases import ALIVE_SECONDS, Kind, ReleaseRefusedError, order
from service.release import NEEDS, RELEASE

BEAT_SECONDS = 5.0
LAST_BEAT_SECONDS = 2.0
FORGOTTEN_SECONDS = 3600.0  # What was killed announces no end; its row has been of no use for long.
UNKNOWN_TO_OLDER = {"42P01", "42501"}  # no such table, or none that this role may read: a schema from before 0.2.0

log = structlog.get_logger(__name__)


@asynccontextmanager
async def announced(primary: Primary, kind: Kind, *, release: str = RELEASE, needs: str = NEEDS) -> AsyncIterator[None]:
    """From here to its end, this process is among the instances. Raises ReleaseRefusedError."""
    instance_id = new_id()
    async with primary.begin() as connection:
        await check_needs(connection, release, needs)
        # Waits for a migration at its gate; whoever comes after it reads what it left.
        await connection.execute(insert(instances).values(id=instance_id, kind=kind, release=release))
        await check_floor(connection, release)
        await connection.execute(delete(instances).where(silence() > FORGOTTEN_SECONDS))
    stop = asyncio.Event()
    beating = asyncio.create_task(beat(primary, instance_id, kind, release, stop=stop))
    try:
        yield
    finally:
        stop.set()  # A beat that is under way ends by itself: broken off, it would leave its connection behind.
        await asyncio.wait([beating], timeout=LAST_BEAT_SECONDS)
        beating.cancel()
        with suppress(ServiceError):  # What stays is silent, and counts as gone soon.
            async with primary.begin() as connection:
                await connection.execute(delete(instances).where(instances.c.id == instance_id))


async def check_needs(connection: AsyncConnection, release: str, needs: str) -> None:
    try:
        found = await connection.execute(
            select(applied_migrations.c.revision).where(applied_migrations.c.revision == needs)
        )
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) not in UNKNOWN_TO_OLDER:
            raise
        revision = None
    else:
        revision = found.scalar_one_or_none()
    if revision is None:
        raise ReleaseRefusedError(
            f"release {release} needs migration {needs}, which this database has not seen: run `service migrate` with this"
            " release; what it cannot do yet, it says"
        )


async def check_floor(connection: AsyncConnection, release: str) -> None:
    floor = (await connection.execute(select(release_floor.c.release))).scalar_one_or_none()
    if floor is not None and order(release) < order(floor):
        raise ReleaseRefusedError(
            f"the schema of this database needs release {floor} or newer, and this is {release}: what it writes or reads is gone"
        )


async def beat(primary: Primary, instance_id: UUID, kind: Kind, release: str, *, stop: asyncio.Event) -> None:
    """Also puts the row back where a long silence was taken for an end; the schema may have moved on meanwhile."""
    while True:
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), BEAT_SECONDS)
        if stop.is_set():
            return
        try:
            async with primary.begin() as connection:
                seen = update(instances).where(instances.c.id == instance_id).values(seen_at=func.now())
                if not (await connection.execute(seen)).rowcount:
                    await connection.execute(insert(instances).values(id=instance_id, kind=kind, release=release))
                    await check_floor(connection, release)
        except ServiceError as error:
            log.warning("not announced", reason=str(error))


async def forget_instances(connection: AsyncConnection) -> None:
    """For whoever knows that none runs; as the owner, and also on a schema from before instances were listed."""
    if (await connection.execute(text("select to_regclass('instances') is not null"))).scalar_one():
        await connection.execute(delete(instances))


def silence() -> ColumnElement[float]:
    """In seconds."""
    return cast(extract("epoch", func.now() - instances.c.seen_at), Double)


def living() -> Select[tuple[str, str, datetime, float]]:
    """Instances that were seen lately, those of the oldest start first."""
    return (
        select(instances.c.kind, instances.c.release, instances.c.started_at, silence().label("silent_for"))
        .where(silence() <= ALIVE_SECONDS)
        .order_by(instances.c.started_at)
    )
