"""Collections come, declare their attributes, and go."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING
from uuid import UUID

from service.db.collections import (
    find_collection,
    insert_collection,
    known_languages,
    lock_collection,
    mark_deleted,
    set_attributes,
)
from service.db.documents import find_document_id
from service.db.jobs import DELETE_COLLECTION, INDEX_ATTRIBUTE, enqueue
from service.db.primary import Primary
from service.domain.attributes import declaring
from service.domain.documents import Collection
from service.domain.errors import InvalidError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection


async def create_collection(
    name: str, language: str, *, tenant_id: UUID, profile_id: UUID, primary: Primary
) -> Collection:
    """Raises CollectionExistsError, and InvalidError for a language that Postgres does not know."""
    async with primary.begin(tenant_id) as connection:
        if not await known_languages(connection, [language]):
            raise InvalidError("no such text-search configuration", field="language")
        return await insert_collection(connection, tenant_id, name=name, language=language, profile_id=profile_id)


async def declare_attributes(
    name: str, changes: Mapping[str, object], *, tenant_id: UUID, primary: Primary
) -> Collection:
    """Merges declarations. An owner's worker builds the index of each new one while everything goes on, and drops that
    of one that nobody declares any more.
    """
    async with primary.begin(tenant_id) as connection:
        collection = await lock_collection(connection, tenant_id, name)
        declared = declaring(collection.attributes, changes)
        if declared == collection.attributes:
            return collection
        changed = await set_attributes(connection, collection, declared)
        await settle_indexes(connection, collection, set(declared.items()) ^ set(collection.attributes.items()))
        return changed


async def settle_indexes(
    connection: "AsyncConnection", collection: Collection, changed: Iterable[tuple[str, str]]
) -> None:
    """Of attributes whose declaration is new or gone: the job looks which of the two holds once it runs."""
    for key in sorted({key for key, _ in changed}):
        await enqueue(
            connection,
            INDEX_ATTRIBUTE,
            tenant_id=collection.tenant_id,
            collection_id=collection.id,
            payload={"key": key},
            dedupe_key=f"{INDEX_ATTRIBUTE}:{key}",
        )


async def delete_collection(name: str, *, tenant_id: UUID, primary: Primary) -> None:
    """Out of reach and its name free from the commit on; a job removes the rows and blobs."""
    async with primary.begin(tenant_id) as connection:
        collection = await lock_collection(connection, tenant_id, name)
        await mark_deleted(connection, collection)
        await enqueue(connection, DELETE_COLLECTION, tenant_id=tenant_id, collection_id=collection.id)
        await settle_indexes(connection, collection, collection.attributes.items())


async def resolve_external_id(name: str, external_id: str, *, tenant_id: UUID, primary: Primary) -> UUID:
    """Raises NotFoundError."""
    async with primary.begin(tenant_id) as connection:
        collection = await find_collection(connection, tenant_id, name)
        return await find_document_id(connection, collection, external_id)
