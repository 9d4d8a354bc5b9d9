"""Documents into a collection through the service's batches, timed until the last of them can be searched."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson

from bench.dataset import Dataset
from bench.failures import BenchError
from bench.place import Place
from service.cli.address import Address
from service.cli.client import ServiceClient, open_client
from service.cli.failures import CommandError
from service.cli.settle import wait_until_settled
from service.cli.uploads import in_parallel

BATCH = 200
AT_ONCE = 4
LANGUAGE = "english"


@dataclass(frozen=True, slots=True)
class Filled:
    """How long it took; `vectors` says whether they were given or computed by the service."""

    documents: int
    vectors: bool
    accepted_seconds: float
    searchable_seconds: float

    @property
    def per_second(self) -> float:
        return self.documents / self.searchable_seconds


@asynccontextmanager
async def client_of(place: Place) -> AsyncIterator[ServiceClient]:
    try:
        async with open_client(Address(place.url, place.key)) as client:
            yield client
    except CommandError as error:
        raise BenchError(str(error)) from None


def document(dataset: Dataset, number: int, *, vector: bool) -> dict[str, Any]:
    written: dict[str, Any] = {
        "external_id": dataset.ids[number],
        "title": dataset.titles[number],
        "text": dataset.texts[number],
        "attributes": {"u": int(dataset.uniform[number])},
    }
    return written | {"vector": dataset.vectors[number]} if vector else written


async def make_collection(client: ServiceClient, name: str) -> None:
    await client.create_collection(name, language=LANGUAGE)
    await client.declare_attributes(name, {"u": "integer"})


async def fill(client: ServiceClient, name: str, dataset: Dataset, numbers: range, *, vectors: bool) -> Filled:
    """Those of `numbers` on top of what is there; raises BenchError when one is refused or fails."""
    before = (await client.collection_status(name)).indexed
    batches = list(_batches(dataset, numbers, vectors=vectors))
    begun = time.perf_counter()

    async def send(body: bytes) -> None:
        for answer in await client.send_batch(name, body):
            if answer["status"] >= HTTPStatus.BAD_REQUEST:
                raise BenchError(f"A document was refused: {answer}.")

    await in_parallel(batches, send, concurrency=AT_ONCE)
    accepted = time.perf_counter() - begun
    status = await wait_until_settled(client, name, last_pause=0.1)
    searchable = time.perf_counter() - begun
    if status.indexed - before != len(numbers) or status.dead_jobs:
        raise BenchError(
            f"Of {len(numbers)} documents {status.indexed - before} were indexed: no figure would be true."
        )
    await wait_until_settled(client, name, quiet=True)
    return Filled(len(numbers), vectors, accepted, searchable)


def _batches(dataset: Dataset, numbers: range, *, vectors: bool) -> Iterator[bytes]:
    for start in range(0, len(numbers), BATCH):
        yield b"\n".join(
            orjson.dumps(document(dataset, number, vector=vectors), option=orjson.OPT_SERIALIZE_NUMPY)
            for number in numbers[start : start + BATCH]
        )
