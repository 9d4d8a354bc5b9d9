"""The sweeper: objects that no version names and no deletion is waiting for, left behind by uploads that died before their commit.

It lists this database's own prefix only, judges nothing that is young (an object is put before the row that names it), and
leaves keys alone that this service did not make or whose tenant this database does not know.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from uuid import UUID

from service.blobs import Blobs, StoredBlob, tenant_of_blob_key
from service.db.primary import Primary
from service.db.upkeep import unnamed_keys

BATCH = 10_000  # keys in one question to the database, which reads all versions of the tenant for it


@dataclass(slots=True)
class Swept:
    """`foreign`: of another make or prefix. Bytes are those of the orphans."""

    listed: int = 0
    foreign: int = 0
    young: int = 0
    orphans: int = 0
    bytes: int = 0


async def sweep(*, primary: Primary, blobs: Blobs, older_than: timedelta, dry_run: bool) -> Swept:
    """Deletes orphans, or only counts them. Raises UnavailableError; what was done until then stays done."""
    swept, before = Swept(), datetime.now(UTC) - older_than
    async for tenant_id, batch in judged(blobs, before=before, swept=swept):
        async with primary.begin(tenant_id) as connection:
            orphans = set(await unnamed_keys(connection, [blob.key for blob in batch]))
        if not dry_run:
            await blobs.delete(sorted(orphans))
        swept.orphans += len(orphans)
        swept.bytes += sum(blob.size for blob in batch if blob.key in orphans)
    return swept


async def judged(blobs: Blobs, *, before: datetime, swept: Swept) -> AsyncIterator[tuple[UUID, Sequence[StoredBlob]]]:
    """Old objects of one tenant at a time, counted as they pass."""
    batch: list[tuple[UUID, StoredBlob]] = []
    async for blob in blobs.list_blobs(blobs.prefix):
        swept.listed += 1
        tenant_id = tenant_of_blob_key(blob.key, prefix=blobs.prefix)
        if tenant_id is None:
            swept.foreign += 1
        elif blob.modified_at > before:
            swept.young += 1
        else:
            batch.append((tenant_id, blob))
        if len(batch) == BATCH:
            for part in by_tenant(batch):
                yield part
            batch = []
    for part in by_tenant(batch):
        yield part


def by_tenant(batch: Sequence[tuple[UUID, StoredBlob]]) -> list[tuple[UUID, list[StoredBlob]]]:
    """A listing is in the order of keys, which begin with the tenant."""
    return [(tenant_id, [blob for _, blob in pairs]) for tenant_id, pairs in groupby(batch, key=lambda pair: pair[0])]
