"""Which collection a name means: asked of the primary once, then remembered for a few seconds."""

import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from uuid import UUID

from service.db.attribute_indexes import unbuilt_indexes
from service.db.collections import find_collection
from service.db.graphs import find_graph_size
from service.db.primary import Primary
from service.domain.documents import Collection

REMEMBERED_SECONDS = 5.0  # What changes meanwhile, a deletion or a declaration, the statement notices.
REMEMBERED_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Entry:
    collection: Collection
    until: float


class Catalog:
    """A search must not cost a second round trip, so a name is looked up at most every few seconds."""

    def __init__(self, primary: Primary) -> None:
        self.primary = primary
        self.entries: OrderedDict[tuple[UUID, str], Entry] = OrderedDict()

    async def find(self, tenant_id: UUID, name: str) -> Collection:
        """Raises NotFoundError."""
        entry = self.entries.get((tenant_id, name))
        if entry is not None and entry.until > time.monotonic():
            return entry.collection
        async with self.primary.begin(tenant_id) as connection:
            collection = await find_collection(connection, tenant_id, name)
            collection = replace(
                collection,
                unbuilt=await unbuilt_indexes(connection, collection.attributes),
                graph_size=await find_graph_size(connection, collection.profile_id),
            )
        self.entries[tenant_id, name] = Entry(collection, time.monotonic() + REMEMBERED_SECONDS)
        if len(self.entries) > REMEMBERED_MOST:
            self.entries.popitem(last=False)
        return collection

    def forget(self, tenant_id: UUID, name: str, collection: Collection) -> None:
        """Unless somebody has looked again already, and found what is remembered now."""
        entry = self.entries.get((tenant_id, name))
        if entry is not None and entry.collection is collection:
            del self.entries[tenant_id, name]
