"""Collections: every statement on tenants' rows finds its collection here, by tenant, and never a deleted one."""

from collections.abc import Iterable, Mapping
from uuid import UUID

from sqlalchemy import ARRAY, Row, Select, Text, column, func, literal, select, table, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.tables import collections
from service.domain.documents import Collection
from service.domain.errors import CollectionExistsError, NotFoundError
from service.domain.ids import new_id
from service.domain.names import COLLECTION_NAME

COLUMNS = (
    collections.c.id,
    collections.c.tenant_id,
    collections.c.name,
    collections.c.language,
    collections.c.attributes,
    collections.c.profile_id,
    collections.c.chunk_count,
    collections.c.created_at,
    collections.c.updated_at,
)
pg_ts_config = table("pg_ts_config", column("oid"), column("cfgname", Text), schema="pg_catalog")


def live_collections(tenant_id: UUID) -> Select[tuple[object, ...]]:
    """The scope of everything: the tenant's collections that are not deleted."""
    return select(*COLUMNS).where(collections.c.tenant_id == tenant_id, collections.c.deleted_at.is_(None))


def read_collection(row: Row[tuple[object, ...]]) -> Collection:
    return Collection(**row._mapping)  # noqa: SLF001  SQLAlchemy's public name


async def find_collection(connection: AsyncConnection, tenant_id: UUID, name: str) -> Collection:
    """Raises NotFoundError."""
    return await one_collection(connection, name, live_collections(tenant_id))


async def find_collection_by_id(connection: AsyncConnection, tenant_id: UUID, collection_id: UUID) -> Collection:
    """Raises NotFoundError."""
    statement = live_collections(tenant_id).where(collections.c.id == collection_id)
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise NotFoundError("no such collection")
    return read_collection(row)


async def lock_collection(connection: AsyncConnection, tenant_id: UUID, name: str) -> Collection:
    """The same, held against other changes until the transaction ends. Raises NotFoundError."""
    return await one_collection(connection, name, live_collections(tenant_id).with_for_update())


async def one_collection(connection: AsyncConnection, name: str, scope: Select[tuple[object, ...]]) -> Collection:
    # What no collection is called is not even asked: a NUL would be an error of the database.
    if not COLLECTION_NAME.fullmatch(name):
        raise NotFoundError("no such collection")
    row = (await connection.execute(scope.where(collections.c.name == name))).one_or_none()
    if row is None:
        raise NotFoundError("no such collection")
    return read_collection(row)


async def list_collections(
    connection: AsyncConnection, tenant_id: UUID, *, limit: int, before: UUID | None
) -> list[Collection]:
    statement = live_collections(tenant_id).order_by(collections.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(collections.c.id < before)
    return [read_collection(row) for row in await connection.execute(statement)]


async def insert_collection(
    connection: AsyncConnection, tenant_id: UUID, *, name: str, language: str, profile_id: UUID
) -> Collection:
    """Raises CollectionExistsError."""
    statement = (
        insert(collections)
        .values(id=new_id(), tenant_id=tenant_id, name=name, language=language, profile_id=profile_id)
        .on_conflict_do_nothing(
            index_elements=[collections.c.tenant_id, collections.c.name], index_where=collections.c.deleted_at.is_(None)
        )
        .returning(*COLUMNS)
    )
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise CollectionExistsError(f"the collection {name} exists")
    return read_collection(row)


async def set_attributes(
    connection: AsyncConnection, collection: Collection, attributes: Mapping[str, str]
) -> Collection:
    statement = (
        update(collections)
        .where(collections.c.tenant_id == collection.tenant_id, collections.c.id == collection.id)
        .values(attributes=dict(attributes), updated_at=func.now())
        .returning(*COLUMNS)
    )
    return read_collection((await connection.execute(statement)).one())


async def mark_deleted(connection: AsyncConnection, collection: Collection) -> None:
    """From the commit on it is found nowhere and its name is free; the rows go later."""
    statement = update(collections).where(
        collections.c.tenant_id == collection.tenant_id, collections.c.id == collection.id
    )
    await connection.execute(statement.values(deleted_at=func.now()))


async def known_languages(connection: AsyncConnection, names: Iterable[str]) -> set[str]:
    """Those of the names that are text-search configurations."""
    wanted = sorted(set(names))
    if not wanted:
        return set()
    statement = select(pg_ts_config.c.cfgname).where(
        func.pg_ts_config_is_visible(pg_ts_config.c.oid),
        pg_ts_config.c.cfgname == func.any(literal(wanted, ARRAY(Text))),
    )
    return set((await connection.execute(statement)).scalars())
