"""What a name means is remembered for some seconds; an answer that this may have spoilt is looked for once more."""

from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from service.domain.documents import Collection
from service.domain.errors import InvalidError, NotFoundError
from service.search.catalog import Catalog
from service.search.running import CollectionChangedError

T = TypeVar("T")


async def with_collection(
    name: str, tenant_id: UUID, ask: Callable[[Collection], Awaitable[T]], *, catalog: Catalog
) -> T:
    """Asks again where the collection was deleted, made anew or declared anew since its name was looked up."""
    collection = await catalog.find(tenant_id, name)
    try:
        return await ask(collection)
    except (NotFoundError, InvalidError, CollectionChangedError):
        catalog.forget(tenant_id, name, collection)
        newer = await catalog.find(tenant_id, name)
        if newer == collection:
            raise
    return await ask(newer)
