"""The expression indexes of declared attributes: built, repaired and dropped by the owner while everything goes on."""

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from sqlalchemy import exists, func, literal, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db import roles
from service.db.owner import as_owner
from service.db.tables import collections

PATIENCE = "5s"  # With whoever writes for longer: the job comes back, and replaces what was begun.
LIST = "string[]"  # It needs none: GIN finds its members, and as a whole it may be too long for an index entry.

VALID = text(
    """
    select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid
    where c.relname = any(:names) and c.relnamespace = 'public'::regnamespace and i.indisvalid
    """
)


def attribute_index_name(key: str) -> str:
    """Keys are any text; a name is at most 63 bytes."""
    return "documents_attribute_" + hashlib.sha256(key.encode()).hexdigest()[:16]


async def settle_index(direct_url: str, key: str) -> None:
    """Builds the index where some collection declares the attribute, drops it where none does any more."""
    async with changing_indexes(direct_url) as connection:
        if await is_declared(connection, key):
            await build_index(connection, key)
        else:
            await drop_index(connection, key)


@asynccontextmanager
async def changing_indexes(direct_url: str, *, patience: str = PATIENCE) -> AsyncIterator[AsyncConnection]:
    """As the owner, one at a time: two concurrent builds on a table wait for each other."""
    async with as_owner(direct_url, autocommit=True) as connection:
        await connection.execute(select(func.set_config("lock_timeout", patience, literal(value=False))))
        await connection.execute(text("set statement_timeout = 0"))
        await connection.execute(text("select pg_advisory_lock(hashtext('documents_attribute'))"))
        yield connection


async def is_declared(connection: AsyncConnection, key: str) -> bool:
    """By any collection of any tenant: the owner sees them all, and one index serves them all."""
    c = collections.c
    declared = exists().where(c.deleted_at.is_(None), c.attributes.has_key(key), c.attributes[key].astext != LIST)
    return bool((await connection.execute(select(declared))).scalar_one())


async def build_index(connection: AsyncConnection, key: str) -> None:
    """Repairs the invalid leftover of a build that was interrupted. The expression is the one that `filters.indexed` writes."""
    if await valid_indexes(connection, [key]):
        return
    await drop_index(connection, key)
    # DDL binds nothing, and in `text()` a colon in a key would be a parameter.
    path = " -> ".join(["attributes", *map(roles.literal, key.split("."))])
    name = attribute_index_name(key)
    await connection.exec_driver_sql(
        f"create index concurrently {name} on documents (collection_id, indexed_value({path}))"
    )


async def drop_index(connection: AsyncConnection, key: str) -> None:
    await connection.execute(text(f"drop index concurrently if exists {attribute_index_name(key)}"))


async def valid_indexes(connection: AsyncConnection, keys: Sequence[str]) -> set[str]:
    """Those of the attributes whose index is whole."""
    names = {attribute_index_name(key): key for key in keys}
    found = await connection.execute(VALID, {"names": list(names)})
    return {names[name] for name in found.scalars()}


async def unbuilt_indexes(connection: AsyncConnection, declared: Mapping[str, str]) -> frozenset[str]:
    """The declared attributes that still wait for their index."""
    wanted = [key for key, type_ in declared.items() if type_ != LIST]
    if not wanted:
        return frozenset()
    return frozenset(wanted) - await valid_indexes(connection, wanted)
