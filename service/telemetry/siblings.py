"""The metrics of all processes behind one port: whichever is asked tells those of all, each series with its `worker`.

A scrape reaches any of them. Sums would hide one that is stuck, and prometheus-client's multiprocess mode leaves out what is
read when asked (pools, the embedder, the process itself).
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

PATIENCE_SECONDS = 2.0  # One that is starting, ending or stuck must not fail the scrape of the others.


@dataclass(frozen=True, slots=True)
class Seat:
    """Which of how many, and the folder where each has a socket."""

    number: int
    count: int
    folder: Path

    def socket_of(self, number: int) -> Path:
        return self.folder / f"{number}.metrics"


@dataclass(frozen=True, slots=True)
class Families(Collector):
    """What was collected, as a registry takes it."""

    found: Iterable[Metric]

    def collect(self) -> Iterator[Metric]:
        yield from self.found


@dataclass(frozen=True, slots=True)
class Siblings:
    seat: Seat
    registry: CollectorRegistry

    async def collected(self) -> Families:
        """Of every worker that answers in time."""
        others = [number for number in range(self.seat.count) if number != self.seat.number]
        told = await asyncio.gather(*map(self._ask, others))
        return await asyncio.to_thread(
            merged, {self.seat.number: written(self.registry), **dict(zip(others, told, strict=True))}
        )

    async def _ask(self, number: int) -> bytes:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self.seat.socket_of(number))
                try:
                    return await reader.read()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return b"[]"

    async def answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Whoever connects is told everything."""
        try:
            writer.write(await asyncio.to_thread(written, self.registry))
            await writer.drain()
        except OSError:  # It did not wait.
            pass
        finally:
            writer.close()


@asynccontextmanager
async def among_siblings(seat: Seat, registry: CollectorRegistry) -> AsyncIterator[Siblings]:
    """Answers them meanwhile."""
    siblings = Siblings(seat, registry)
    place = seat.socket_of(seat.number)
    place.unlink(missing_ok=True)  # of one that was killed
    server = await asyncio.start_unix_server(siblings.answer, place)
    try:
        yield siblings
    finally:
        server.close()


def written(registry: CollectorRegistry) -> bytes:
    return orjson.dumps(
        [
            [each.name, each.documentation, each.type, each.unit, [[s.name, s.labels, s.value] for s in each.samples]]
            for each in registry.collect()
        ]
    )


def merged(told: dict[int, bytes]) -> Families:
    """One family for each name, with the samples of all."""
    families: dict[str, Metric] = {}
    for number, text in told.items():
        for name, documentation, kind, unit, samples in orjson.loads(text or b"[]"):
            family = families.setdefault(name, Metric(name, documentation, kind, unit))
            for sample, labels, value in samples:
                family.add_sample(sample, {**labels, "worker": str(number)}, float("nan") if value is None else value)
    return Families(families.values())
