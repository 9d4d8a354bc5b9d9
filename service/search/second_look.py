"""What a name means is remembered for some seconds; an answer that this may have spoilt is looked for once more."""

from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from service.db.read_pool import Reader
from service.db.read_replica import read_from, turn
from service.domain.documents import Collection
from service.domain.errors import InProgressError, InvalidError, NotFoundError
from service.search.catalog import Catalog
from service.search.running import CollectionChangedError

T = TypeVar("T")


async def with_collection(
    name: str, tenant_id: UUID, ask: Callable[[Collection], Awaitable[T]], *, catalog: Catalog, reader: Reader
) -> T:
    """Asks again where the collection was deleted, made anew or declared anew since its name was looked up.

    The catalog is of the primary: what it knows and a replica does not, the replica has yet to learn.
    """
    collection = await catalog.find(tenant_id, name)
    began = read_from(reader)
    try:
        return await ask(collection)
    except (NotFoundError, InvalidError, CollectionChangedError, InProgressError) as error:
        catalog.forget(tenant_id, name, collection)
        newer = await catalog.find(tenant_id, name)
        if began == "replica" and not isinstance(error, InvalidError):
            turn(reader)
        elif newer == collection:
            raise
    return await ask(newer)
