"""A bulk load as a client does it: begun before the first document, ended when all can be searched."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from service.cli.client import CollectionStatus, ServiceClient
from service.cli.failures import CommandError
from service.cli.settle import LAST_PAUSE, wait_until_settled
from service.domain.bulk import BulkLoad

CONCURRENCY = 8  # Requests at the same time: the next batch is there before the last one is stored.
PREPARED_SECONDS = 10.0  # Without a worker of the owner nobody ever decides.
BUILT_SECONDS = 3_600.0
PAUSE = 0.05


@asynccontextmanager
async def bulk_load(client: ServiceClient, collection: str, *, wait: bool = True) -> AsyncIterator[BulkLoad]:
    """Yields whether the index is `deferred` or stays `live`. The body waits until its documents are settled; from then on,
    this waits for the index, if it shall `wait` at all. Whoever is killed leaves a load that ends by itself.
    """
    await client.bulk_load(collection, "PUT")
    standing = await _until(client, collection, lambda now: now != "preparing", seconds=PREPARED_SECONDS)
    try:
        yield standing
    except BaseException:
        with suppress(CommandError):
            await client.bulk_load(collection, "DELETE")
        raise
    await client.bulk_load(collection, "DELETE")
    if wait and standing == "deferred" and await _until(client, collection, _is_live, seconds=BUILT_SECONDS) != "live":
        raise CommandError(
            "The index of vectors is not built yet; searches are exact, and slower. Does `worker --owner` run?"
        )


async def settle_bulk(
    client: ServiceClient,
    collection: str,
    *,
    watch: Callable[[CollectionStatus], None] = lambda _status: None,
    last_pause: float = LAST_PAUSE,
) -> None:
    """Waits until all can be searched, and ends the load as soon as nothing waits to be indexed: the index is built while the
    words are counted.
    """
    indexed = asyncio.Event()

    def see(status: CollectionStatus) -> None:
        watch(status)
        if not (status.pending or status.processing):
            indexed.set()

    async def end() -> None:
        await indexed.wait()
        await client.bulk_load(collection, "DELETE")

    ending = asyncio.create_task(end())
    try:
        await wait_until_settled(client, collection, watch=see, last_pause=last_pause)
        await ending
    finally:
        ending.cancel()


def _is_live(standing: BulkLoad) -> bool:
    return standing == "live"


async def _until(
    client: ServiceClient, collection: str, done: Callable[[BulkLoad], bool], *, seconds: float
) -> BulkLoad:
    begun, pause = time.monotonic(), PAUSE
    while True:
        standing = await client.bulk_load(collection, "GET")
        if done(standing) or time.monotonic() - begun > seconds:
            return standing
        await asyncio.sleep(pause)
        pause = min(pause * 1.2, 1.0)
