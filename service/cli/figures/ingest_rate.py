"""How much of the embedder's own speed is left when documents go the whole way: HTTP, rows, chunks, terms, vectors."""

import os
import time
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console

from service.cli.client import Json, ServiceClient
from service.cli.failures import CommandError
from service.cli.figures.corpus import corpus
from service.cli.figures.figure import Figure, open_own_collection, own_collection, report
from service.cli.figures.sending import send_documents
from service.cli.settle import wait_until_settled
from service.domain.texts import ExtractedText
from service.embeddings.base import Embedder
from service.embeddings.loading import open_embedder
from service.ingest.chunk import split_into_chunks
from service.ingest.index import passages as passages_to_embed

GOAL = 0.85
WARM_UP = 200  # Documents that go before, so that both sides have loaded all they need.
MODEL = "all-MiniLM-L6-v2"  # As the setting EMBEDDING_MODEL has it.


def ingest_rate(
    *,
    collection: Annotated[str, typer.Option(help="A folder of DATA whose corpus is ingested.")] = "scifact_train",
    documents: Annotated[int, typer.Option(min=WARM_UP, help="How many documents of it.")] = 3_000,
    rounds: Annotated[int, typer.Option(min=1, help="How often embed, ingest, embed is repeated.")] = 1,
) -> None:
    """Print the ingest rate through HTTP until settled over the embedding-only rate of the same chunks.

    Embedding alone is timed in this process, with the embedder that EMBEDDING_MODEL and EMBEDDING_THREADS name, right
    before and right after each ingest, so that a machine that changes its speed changes it for both. Start the
    service with the same two variables, on a machine that does nothing else.
    """
    report(measure(corpus(collection, documents, console=Console(stderr=True)), rounds=rounds))


async def measure(documents: Sequence[Json], *, rounds: int) -> Figure:
    threads = os.environ.get("EMBEDDING_THREADS")
    embedder = open_embedder(os.environ.get("EMBEDDING_MODEL", MODEL), threads=int(threads) if threads else None)
    passages = [text for document in documents for text in passages_of(document, embedder)]
    ingesting = embedding = 0.0
    async with open_own_collection("warm-up") as (client, warm):
        await ingest(client, warm, documents[:WARM_UP])
        await embedder.embed_passages(passages[:WARM_UP])
        for _ in range(rounds):
            before = await seconds_to_embed(passages, embedder)
            async with own_collection(client, "ingest-rate") as name:
                ingesting += await ingest(client, name, documents)
                await check_chunks(client, name, expected=len(passages))
            embedding += (before + await seconds_to_embed(passages, embedder)) / 2
    await embedder.close()
    ratio, chunks = embedding / ingesting, rounds * len(passages)
    return Figure(
        what=f"ingest rate over the embedding-only rate, {len(documents):,} documents, {len(passages):,} chunks",
        goal=f"≥ {GOAL}",
        measured=f"{ratio:.3f} ({chunks / ingesting:,.0f} of {chunks / embedding:,.0f} chunks/s)",
        met=ratio >= GOAL,
    )


async def ingest(client: ServiceClient, name: str, documents: Sequence[Json]) -> float:
    """Seconds from the first byte sent until all of it can be searched."""
    begun = time.perf_counter()
    await send_documents(client, name, documents)
    await wait_until_settled(client, name, last_pause=0.1)
    return time.perf_counter() - begun


async def seconds_to_embed(passages: Sequence[str], embedder: Embedder) -> float:
    begun = time.perf_counter()
    await embedder.embed_passages(passages)
    return time.perf_counter() - begun


async def check_chunks(client: ServiceClient, name: str, *, expected: int) -> None:
    """Rates are of the same texts only if the service cut them alike."""
    chunks = 0
    async for document in client.list_documents(name):
        chunks += document["chunk_count"]
    if chunks != expected:
        raise CommandError(f"The service made {chunks} chunks where this process makes {expected}: no figure.")


def passages_of(document: Json, embedder: Embedder) -> list[str]:
    """What the worker embeds for a document: its title before each of its chunks."""
    title = document.get("title")
    chunks = split_into_chunks(ExtractedText(document["text"], "text/plain"), title=title, tokens=embedder)
    return passages_to_embed(title, chunks, embedder)
