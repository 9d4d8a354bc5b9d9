"""A page of a list of documents: no question, but a filter and an order."""

from dataclasses import dataclass

from service.db.listing import find_documents, find_ids, knows, read_ids
from service.db.primary import Primary
from service.db.read_pool import Reader
from service.domain.documents import Collection, Document, Status
from service.domain.filters import Filter
from service.domain.sorting import Position, Sort


@dataclass(frozen=True, slots=True)
class Listing:
    """Filter and order look at the fields that search serves, whatever the status of a newer version is."""

    filter: Filter | None
    sort: Sort | None
    status: Status | None


async def list_page(
    listing: Listing, collection: Collection, *, after: Position | None, limit: int, primary: Primary, reader: Reader
) -> tuple[list[Document], Position | None]:
    """At most `limit` documents, and where the next page begins after.

    A page is found first and then shown: a document that is deleted in between leaves it shorter.
    """
    wanted, sort, more = listing.filter, listing.sort, limit + 1
    found: list[Position] | None = None
    if wanted is not None and knows(sort, listing.status):
        found = await read_ids(collection, wanted, sort, after=after, limit=more, reader=reader)
    async with primary.begin(collection.tenant_id) as connection:
        if found is None:
            found = await find_ids(connection, collection, wanted, sort, status=listing.status, after=after, limit=more)
        documents = await find_documents(connection, collection, [each.id for each in found[:limit]])
    return documents, found[limit - 1] if len(found) > limit else None
