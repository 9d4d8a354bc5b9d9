"""How much of the embedder's own speed is left when documents go the whole way: HTTP, rows, chunks, terms, vectors."""

import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Annotated

import typer
from rich.console import Console

from service.cli.bulk import CONCURRENCY as BULK_CONCURRENCY
from service.cli.bulk import bulk_load, settle_bulk
from service.cli.client import Json, ServiceClient
from service.cli.failures import CommandError
from service.cli.figures.corpus import corpus
from service.cli.figures.figure import Figure, open_own_collection, own_collection, report
from service.cli.figures.sending import CONCURRENCY, send_documents
from service.cli.figures.vectors import open_own_embedder
from service.cli.settle import wait_until_settled
from service.domain.texts import ExtractedText
from service.embeddings.base import Embedder
from service.ingest.chunk import split_into_chunks
from service.ingest.index import passages as passages_to_embed

LIVE_GOAL, BULK_GOAL = 0.85, 0.95
WARM_UP = 200  # Documents that go before, so that both sides have loaded all they need.


def ingest_rate(
    *,
    collection: Annotated[str, typer.Option(help="A folder of DATA whose corpus is ingested.")] = "scifact_train",
    documents: Annotated[int, typer.Option(min=WARM_UP, help="How many documents of it.")] = 3_000,
    rounds: Annotated[int, typer.Option(min=1, help="How often ingest and embed are repeated.")] = 1,
    bulk: Annotated[
        bool, typer.Option("--bulk", help="As `service ingest --bulk` does, until its index is built.")
    ] = False,
) -> None:
    """Print the ingest rate through HTTP until settled over the embedding-only rate of the same chunks.

    Embedding alone is timed in this process, with the embedder that the variables EMBEDDING_… name, right before and
    right after each ingest, so that a machine that changes its speed changes it for both; the ratio of two such
    neighbours is printed as the noise. Start the service with the same variables, on a machine that does nothing else.
    """
    report(measure(corpus(collection, documents, console=Console(stderr=True)), rounds=rounds, bulk=bulk))


async def measure(documents: Sequence[Json], *, rounds: int, bulk: bool = False) -> Figure:
    async with open_own_embedder() as embedder, open_own_collection("warm-up") as (client, warm):
        passages = [text for document in documents for text in passages_of(document, embedder)]
        await ingest(client, warm, documents[:WARM_UP], bulk=False)
        await seconds_to_embed(passages, embedder)  # Kernels are made for each new shape: half of a first pass's time.
        alone, ingesting = [await seconds_to_embed(passages, embedder)], []
        for _ in range(rounds):
            async with own_collection(client, "ingest-rate") as name:
                ingesting.append(await ingest(client, name, documents, bulk=bulk))
                await check_chunks(client, name, expected=len(passages))
            alone.append(await seconds_to_embed(passages, embedder))
    ratios = [(alone[at] + alone[at + 1]) / 2 / seconds for at, seconds in enumerate(ingesting)]
    noise = [alone[at] / alone[at + 1] for at in range(rounds)]
    ratio, goal = statistics.median(ratios), BULK_GOAL if bulk else LIVE_GOAL
    rates = [len(passages) / statistics.median(seconds) for seconds in (ingesting, alone)]
    return Figure(
        what=f"ingest rate{' with --bulk' if bulk else ''} over the embedding-only rate, {len(documents):,} documents,"
        f" {len(passages):,} chunks, median of {rounds}; A/A of embedding {min(noise):.2f} to {max(noise):.2f}",
        goal=f"≥ {goal}",
        measured=f"{ratio:.3f} ({rates[0]:,.0f} of {rates[1]:,.0f} chunks/s; from {min(ratios):.3f} to {max(ratios):.3f})",
        met=ratio >= goal,
    )


async def ingest(client: ServiceClient, name: str, documents: Sequence[Json], *, bulk: bool) -> float:
    """Seconds from the first byte sent until all of it can be searched, and by the index."""
    begun = time.perf_counter()
    async with AsyncExitStack() as stack:
        if bulk and await stack.enter_async_context(bulk_load(client, name)) != "deferred":
            raise CommandError("The index was not put off: this database keeps more vectors than EXACT_CHUNKS.")
        await send_documents(client, name, documents, concurrency=BULK_CONCURRENCY if bulk else CONCURRENCY)
        await (settle_bulk if bulk else wait_until_settled)(client, name, last_pause=0.1)
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
