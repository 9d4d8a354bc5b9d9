"""Rows a second with vectors given, from the first byte sent until all of it is found, into collections of their own."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from statistics import median
from typing import Protocol

from bench.dataset import Dataset
from bench.peers.rounds import interleaved, median_ratio, spread
from bench.peers.verdicts import Goal, Row

ROWS = 4_000  # Of a round.
GOAL = Goal("≥", 2)


class Filled(Protocol):
    name: str

    async def new_collection(self) -> str: ...
    async def drop(self, collection: str) -> None: ...
    def batches(self, collection: str, places: Sequence[int]) -> list[bytes]: ...
    async def send(self, collection: str, requests: Sequence[bytes], *, documents: int) -> float: ...


async def ingest(ours: Filled, theirs: Filled, dataset: Dataset, *, rounds: int) -> Row:
    count = min(ROWS, len(dataset))
    sides: dict[str, Callable[[], Awaitable[float]]] = {
        side.name: partial(rate_of, side, count=count) for side in (ours, theirs)
    }
    rates = await interleaved(sides, rounds=rounds)
    ratio = median_ratio(rates[ours.name], rates[theirs.name])
    least, most = spread(rates[ours.name], rates[theirs.name])
    shown = "; ".join(f"{name} {median(rates[name]):,.0f} rows/s" for name in rates)
    return Row(
        f"ingest with vectors given, rows/s over {theirs.name}'s, {count:,} rows a round",
        ratio,
        f"{ratio:.2f} (rounds {least:.2f} to {most:.2f}; {shown})",
        goal=GOAL,
        details={"rows_per_second": rates},
    )


async def rate_of(side: Filled, *, count: int) -> float:
    """Requests are made before the clock runs; the collection is dropped when it has stopped."""
    collection = await side.new_collection()
    requests = side.batches(collection, range(count))
    seconds = await side.send(collection, requests, documents=count)
    await side.drop(collection)
    return count / seconds
