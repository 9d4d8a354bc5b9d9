"""A collection of which everything is known here: every exact answer can be computed, with NumPy and no index."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import Self

import numpy as np
import orjson
from numpy.typing import NDArray

from service.cli.client import Json, ServiceClient
from service.cli.failures import CommandError
from service.cli.figures.vectors import as_kept
from service.cli.settle import wait_until_settled
from service.cli.uploads import in_parallel
from service.embeddings.base import Matrix, Vector

Mask = NDArray[np.bool_]

TOP = 10
TIE = 1e-6  # Of two cosines so close either may stand before the other: sums of halves, added in another order.
BATCH = 200
CONCURRENCY = 4


@dataclass(frozen=True)
class Known:
    """`sent[i]` is the vector that goes with `documents[i]`, which makes it one chunk."""

    purpose: str
    documents: Sequence[Json]
    sent: Matrix
    declared: dict[str, str]

    @cached_property
    def kept(self) -> Matrix:
        return as_kept(self.sent)

    @cached_property
    def places(self) -> dict[str, int]:
        return {document["external_id"]: place for place, document in enumerate(self.documents)}

    @cached_property
    def name(self) -> str:
        """Of what is in it, so that a collection that was kept is known again, and no other is taken for it."""
        digest = hashlib.sha256(self.sent.tobytes())
        digest.update(orjson.dumps([list(self.documents), self.declared], option=orjson.OPT_SORT_KEYS))
        return f"bench-{self.purpose}-{digest.hexdigest()[:8]}"

    def cosines(self, vector: Vector) -> Vector:
        """Of every document with a question, both in half precision."""
        return np.asarray(self.kept @ as_kept(vector), np.float32)


@dataclass(frozen=True)
class Outcome:
    """What ten hits are worth. `exist` is how many there were to find, `wrong` how many may not be among them."""

    exist: int
    right: int
    wrong: int
    missing: int

    @classmethod
    def of(cls, hits: Sequence[str], *, cosines: Vector, matches: Mask, places: dict[str, int]) -> Self:
        """A hit is right when it matches and is as near as the tenth of the exact answer; a second time, it is wrong."""
        near = cosines[matches]
        exist = min(TOP, len(near))
        least = np.partition(near, -exist)[-exist] - TIE if exist else np.inf
        found = [places.get(hit, -1) for hit in dict.fromkeys(hits)]
        allowed = [place for place in found if place >= 0 and matches[place]]
        right = sum(bool(cosines[place] >= least) for place in allowed)
        return cls(exist, min(right, exist), len(hits) - len(allowed), max(exist - len(hits), 0))

    @property
    def recall(self) -> float:
        return self.right / self.exist if self.exist else float("nan")


@asynccontextmanager
async def filled(client: ServiceClient, collections: Sequence[Known], *, keep: bool) -> AsyncIterator[None]:
    """All of them searchable, their attributes declared and indexed; gone afterwards unless they are kept."""
    async with AsyncExitStack() as last:
        for known in collections:
            await client.create_collection(known.name, language="english")
            if not keep:
                last.push_async_callback(client.delete_collection, known.name)
            await fill(client, known)
        yield


async def fill(client: ServiceClient, known: Known) -> None:
    """Unless a run before has."""
    if known.declared:
        await client.declare_attributes(known.name, known.declared)
    if (await client.collection_status(known.name)).indexed < len(known.documents):
        await in_parallel(
            range(0, len(known.documents), BATCH),
            lambda start: send_from(client, known, start),
            concurrency=CONCURRENCY,
        )
    status = await wait_until_settled(client, known.name, quiet=True)
    if status.indexed != len(known.documents) or status.dead_jobs:
        raise CommandError(
            f"Of {len(known.documents)} documents {status.indexed} were indexed, and {status.dead_jobs} jobs are dead: "
            "no figure would be true."
        )


async def send_from(client: ServiceClient, known: Known, start: int) -> None:
    part = range(start, min(start + BATCH, len(known.documents)))
    lines = [
        orjson.dumps(known.documents[place] | {"vector": known.sent[place]}, option=orjson.OPT_SERIALIZE_NUMPY)
        for place in part
    ]
    for answer in await client.send_batch(known.name, b"\n".join(lines) + b"\n"):
        if answer["status"] >= HTTPStatus.BAD_REQUEST:
            raise CommandError(f"A document was refused: {answer}.")
