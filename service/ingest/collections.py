"""Collections come, declare their attributes, and go."""

from collections.abc import Mapping
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
    """Merges declarations; each new one gets an index, built by an owner's worker while everything goes on.

    A list gets none: GIN finds its members, and as a whole it may be too long for an index entry.
    """
    async with primary.begin(tenant_id) as connection:
        collection = await lock_collection(connection, tenant_id, name)
        declared = declaring(collection.attributes, changes)
        if declared == collection.attributes:
            return collection
        changed = await set_attributes(connection, collection, declared)
        for key in sorted(
            key for key, type_ in declared.items() if collection.attributes.get(key) != type_ and type_ != "string[]"
        ):
            await enqueue(
                connection,
                INDEX_ATTRIBUTE,
                tenant_id=tenant_id,
                collection_id=collection.id,
                payload={"key": key},
                dedupe_key=f"{INDEX_ATTRIBUTE}:{key}",
            )
        return changed


async def delete_collection(name: str, *, tenant_id: UUID, primary: Primary) -> None:
    """Out of reach and its name free from the commit on; a job removes the rows and blobs."""
    async with primary.begin(tenant_id) as connection:
        collection = await lock_collection(connection, tenant_id, name)
        await mark_deleted(connection, collection)
        await enqueue(connection, DELETE_COLLECTION, tenant_id=tenant_id, collection_id=collection.id)


async def resolve_external_id(name: str, external_id: str, *, tenant_id: UUID, primary: Primary) -> UUID:
    """Raises NotFoundError."""
    async with primary.begin(tenant_id) as connection:
        collection = await find_collection(connection, tenant_id, name)
        return await find_document_id(connection, collection, external_id)
