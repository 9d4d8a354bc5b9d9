"""From an address to a session: the service started where it is ours, the collection made, the load generator beside it."""

import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.dataset import Dataset
from bench.failures import BenchError
from bench.filling import client_of, make_collection
from bench.generator import open_generator
from bench.pace import Pace
from bench.place import Place, own_service
from bench.quality import Lexemes, Quality
from bench.session import Session
from service.cli.client import ServiceClient

MARK = "made by python -m bench, which deletes this folder when it starts again\n"


@dataclass(frozen=True, slots=True)
class Target:
    """A service somewhere, or None for one of our own."""

    url: str
    key: str


@asynccontextmanager
async def opened_place(target: Target | None, folder: Path) -> AsyncIterator[Place]:
    if target is not None:
        yield Place(target.url.rstrip("/"), target.key)
        return
    async with own_service(empty(folder)) as place:
        yield place


def empty(folder: Path) -> Path:
    """A folder of ours, with nothing of an earlier run; raises BenchError for one that somebody else has filled."""
    mark = folder / "BENCH"
    if folder.exists() and any(folder.iterdir()):
        if not mark.exists():
            raise BenchError(f"{folder} is not empty, and not of an earlier benchmark: name another with --folder.")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(MARK)
    return folder


@asynccontextmanager
async def opened_session(
    place: Place, dataset: Dataset, lexemes: Lexemes, pace: Pace
) -> AsyncIterator[tuple[Session, ServiceClient]]:
    """With an empty collection that is gone afterwards."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory(prefix="bench-decks-") as decks:
        async with (
            client_of(place) as client,
            open_generator(place.url, place.key) as generator,
            httpx.AsyncClient(trust_env=False, timeout=5) as metrics,
        ):
            await make_collection(client, name)
            try:
                quality = Quality(dataset, lexemes, len(dataset))
                yield Session(place, generator, dataset, quality, name, pace, Path(decks), metrics), client
            finally:
                await client.delete_collection(name)
