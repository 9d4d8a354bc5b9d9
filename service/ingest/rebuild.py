"""A collection's lexical statistics made anew from its texts, whatever was in them before."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from service.db import jobs, terms
from service.db.primary import Primary
from service.db.terms import Recount

IN_ANY_CASE, EXACTLY = -1.0, 0.0  # how far the average may be off before all weights are written again
HELD_SECONDS = 0.2  # Somebody else, such as the worker, writes the last rows: a batch takes that long.
TAKEN_OVER_SECONDS = 60.0  # A worker finishes what a rebuild that was broken off has begun.


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was there before and is now, and how many chunks had words that were not those of their texts."""

    before: Recount
    now: Recount
    rewritten: int
    mended: int

    @property
    def terms(self) -> int:
        return self.before.terms + self.now.terms if self.mended else self.before.terms


async def rebuild_statistics(
    tenant_id: UUID, collection_id: UUID, *, primary: Primary, watch: Callable[[int, int], None]
) -> Rebuilt:
    """Counts, opens an epoch of the exact average length, and writes all weights from the texts, in short transactions.

    Safe to repeat, to break off, and while workers write: searches go on over weights of both epochs. Where chunks turn
    out to have had other words than were counted, it counts and writes once more. `watch` is told (written, of how many).
    """
    before = now = await recount(tenant_id, collection_id, primary=primary, drift=IN_ANY_CASE)
    rewritten, mended = await rewrite(tenant_id, collection_id, before.chunks, primary=primary, watch=watch)
    if mended:
        now = await recount(tenant_id, collection_id, primary=primary, drift=EXACTLY)
        more, _ = await rewrite(tenant_id, collection_id, now.chunks, primary=primary, watch=watch)
        rewritten += more
    return Rebuilt(before, now, rewritten, mended)


async def recount(tenant_id: UUID, collection_id: UUID, *, primary: Primary, drift: float) -> Recount:
    async with primary.begin(tenant_id) as connection:
        counted = await terms.refresh_statistics(connection, collection_id, drift=drift)
        await jobs.enqueue(  # After the count, as the statistics job does, or the two could wait for each other.
            connection,
            jobs.REWRITE_WEIGHTS,
            tenant_id=tenant_id,
            collection_id=collection_id,
            dedupe_key=f"{jobs.REWRITE_WEIGHTS}:{collection_id}",
            delay_seconds=TAKEN_OVER_SECONDS,
        )
    return counted


async def rewrite(
    tenant_id: UUID, collection_id: UUID, chunks: int, *, primary: Primary, watch: Callable[[int, int], None]
) -> tuple[int, int]:
    """How many chunks were written, and how many of them had other words than their texts."""
    rewritten = mended = 0
    while True:
        async with primary.begin(tenant_id) as connection:
            batch = await terms.rewrite_weights(connection, collection_id)
            behind = bool(batch.chunks) or await terms.is_behind(connection, collection_id)
        rewritten, mended = rewritten + batch.chunks, mended + batch.mended
        watch(rewritten, max(chunks, rewritten))
        if not behind:
            return rewritten, mended
        if not batch.chunks:
            await asyncio.sleep(HELD_SECONDS)
