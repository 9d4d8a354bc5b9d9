"""What a hundred times as many chunks cost a search: the same questions of a small and a large collection, in turn."""

import asyncio
import os
import re
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from service.cli.address import find_address
from service.cli.client import open_client
from service.cli.failures import CommandError
from service.cli.figures.corpus import corpus
from service.cli.figures.figure import Figure, data_folder, report
from service.cli.figures.filtered import MADE_UP, MOST, SOURCE
from service.cli.figures.plain_client import PlainClient
from service.cli.figures.recombined import Recombined
from service.cli.figures.search_latency import Parts, open_parts
from service.cli.figures.vectors import (
    VectorsOption,
    cached_vectors,
    folder_of_vectors,
    open_own_embedder,
    whole_passages,
)
from service.cli.own_settings import own_settings
from service.db import bulk_rows
from service.db.bulk_rows import ChunkDraft
from service.domain.queries import Query, Words
from service.embeddings.base import Vector
from service.search.running import run

GOAL = 4.0
AT_ONCE = 4_000  # Chunks of one transaction.
TOLD = re.compile(r"actual time|^ *Buffers|^Planning Time|^Execution Time")  # Of a plan of three hundred lines.
LOADING = 4  # Transactions under way: making terms is work of the database, on a core each.
WARM_UP = (
    2  # Rounds before the first that counts: pages and vectors are in memory then, and every statement is prepared.
)


@dataclass
class Sized:
    """A collection and what its searches took, in seconds."""

    name: str
    chunks: int
    parts: Parts
    http: list[float] = field(default_factory=list)
    statement: list[float] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")


def growth(
    *,
    chunks: Annotated[int, typer.Option(min=1_000, help="Of the large collection.")] = 1_000_000,
    small: Annotated[int, typer.Option(min=100, help="Chunks of the small one.")] = 10_000,
    questions: Annotated[int, typer.Option(min=2, help="Half are whole titles, half three words.")] = 100,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is asked of each.")] = 5,
    vectors: VectorsOption = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the collections for the next run.")] = False,
) -> None:
    """Print hybrid p50 of a large collection over that of a small one, both in the same tables, embeddings cached.

    Needs a service with a database that has no documents, such as `DATA_DIR=/somewhere/else PORT=8100 service run`, and
    5 GB of disk for a million chunks. They are made of the arXiv abstracts of DATA, sentences of two mixed, with vectors
    between theirs; questions are real, and embedded by the service. Set EMBEDDING_MODEL as the service has it.
    """
    sized = {"small": small, "large": chunks}
    report(measure(sized, count=questions, rounds=rounds, vectors=folder_of_vectors(vectors), keep=keep))


async def measure(sized: dict[str, int], *, count: int, rounds: int, vectors: Path, keep: bool) -> Figure:
    console = Console(stderr=True)
    source = await recombined(vectors, console=console)
    settings = own_settings(os.environ)
    if settings.database_direct_url is None:
        raise CommandError("DATABASE_DIRECT_URL: rows are copied in as the owner, and no other role may.")
    url = settings.database_direct_url.get_secret_value()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(open_client(find_address(os.environ)))
        there = [f"bench-growth-{n}" for n in sized.values()]
        for name in there:
            await client.create_collection(name, language="english")
        both = [
            Sized(name, n, await stack.enter_async_context(open_parts(name, settings=settings)))
            for name, n in zip(there, sized.values(), strict=True)
        ]
        own = [each.parts.collection.id for each in both]
        if await bulk_rows.count_documents(url, besides=own):
            raise CommandError(
                "The database has other documents: this needs one of its own, whose indexes it may drop."
            )
        there_already = await bulk_rows.count_documents(url)
        if there_already not in {0, sum(sized.values())}:
            raise CommandError(
                f"A run before this one was broken off ({there_already:,} documents): begin with an empty database."
            )
        try:
            if not there_already:
                await load(both, source, url, console=console)
            console.print(table_of_sizes(await bulk_rows.sizes(url), sum(each.chunks for each in both)))
            asked = source.questions(count, seed=11)
            await time_all(both, asked, rounds=rounds)
            console.print(table_of_times(both))
            console.print("\n".join(await plan_of_slowest(both[-1])), highlight=False, markup=False, soft_wrap=True)
        finally:
            if not keep:
                await bulk_rows.empty(url, of=own)
                for each in both:
                    await client.delete_collection(each.name)
    few, many = (statistics.median(each.http) for each in both)
    return Figure(
        what=f"hybrid p50, {both[1].chunks:,} chunks over {both[0].chunks:,}, through HTTP, embedding cached",
        goal=f"≤ {GOAL:.0f}",
        measured=f"{many / few:.2f} ({many * 1e3:.2f} ms over {few * 1e3:.2f} ms)",
        met=many / few <= GOAL,
    )


async def recombined(folder: Path, *, console: Console) -> Recombined:
    documents = corpus(SOURCE, MOST if data_folder(SOURCE) else MADE_UP, console=console)
    async with open_own_embedder() as embedder:
        passages = whole_passages(documents, embedder)
        vectors = await cached_vectors(passages, embedder=embedder, folder=folder, console=console)
    return Recombined(documents, vectors)


async def load(both: Sequence[Sized], source: Recombined, url: str, *, console: Console) -> None:
    begun = time.perf_counter()
    profile = both[0].parts.tools.profile
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Copying chunks", total=sum(each.chunks for each in both))
        async with bulk_rows.indexes_built_later(url, profile):
            for seed, each in enumerate(both):
                batches = batched(source.drafts(each.chunks, seed=seed))
                collection_id = each.parts.collection.id

                async def copy(drafts: Sequence[ChunkDraft], collection_id: UUID = collection_id) -> None:
                    await bulk_rows.copy_chunks(url, drafts, collection_id=collection_id, profile=profile)
                    progress.advance(task, len(drafts))

                await copy(next(batches))  # The first decides the average length of all.
                under_way: set[asyncio.Task[None]] = set()
                for drafts in batches:
                    under_way.add(asyncio.create_task(copy(drafts)))
                    if len(under_way) == LOADING:
                        done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                        for each_done in done:
                            each_done.result()
                await asyncio.gather(*under_way)
            console.print(f"Copied in {time.perf_counter() - begun:.0f} s; now the indexes.")
    console.print(f"Indexed after {time.perf_counter() - begun:.0f} s; now the statistics.")
    await bulk_rows.settle(url, [each.parts.collection.id for each in both])
    console.print(f"Ready after {time.perf_counter() - begun:.0f} s.")


def batched(drafts: Iterator[ChunkDraft]) -> Iterator[list[ChunkDraft]]:
    while batch := list(islice(drafts, AT_ONCE)):
        yield batch


async def time_all(both: Sequence[Sized], questions: Sequence[str], *, rounds: int) -> None:
    """Whoever comes second would find the other's pages in the processor's caches, so they take turns."""
    embedder = both[0].parts.tools.embedder
    vectors = {question: await embedder.embed_query(question) for question in questions}
    place = find_address(os.environ)
    with PlainClient(place, both[0].name) as first, PlainClient(place, both[1].name) as second:
        for number in range(WARM_UP + rounds):
            for turn, question in enumerate(questions):
                pairs = list(zip(both, (first, second), strict=True))
                for each, client in pairs if turn % 2 else reversed(pairs):
                    client.search({"query": question})
                    took = await time_statement(each, question, vectors[question])
                    if number >= WARM_UP:
                        each.http.append(client.seconds[-1])
                        each.statement.append(took)
                        each.slowest = max(each.slowest, (took, question))


async def time_statement(each: Sized, question: str, vector: Vector) -> float:
    await run(Query(question), Words.parse(question), vector, each.parts.collection, tools=each.parts.tools)
    return each.parts.reader.seconds[-1]


async def plan_of_slowest(each: Sized) -> list[str]:
    took, question = each.slowest
    vector = await each.parts.tools.embedder.embed_query(question)
    await time_statement(each, question, vector)
    plan = await each.parts.reader.plan_of_last()
    told = [line for line in plan if TOLD.search(line)]
    return [f"The slowest of {each.name}, {took * 1e3:.1f} ms: {question!r}", *told]


def table_of_times(both: Sequence[Sized]) -> Table:
    table = Table("chunks", "HTTP p50", "p95", "titles", "three words", "SQL p50", "p95")
    for each in both:
        # Questions alternate, and their number is even or the last is a title more.
        ways = (each.http[0::2], each.http[1::2])
        table.add_row(
            f"{each.chunks:,}",
            *(f"{value * 1e3:.2f}" for value in (*quantiles(each.http), *map(statistics.median, ways))),
            *(f"{value * 1e3:.2f}" for value in quantiles(each.statement)),
        )
    return table


def quantiles(seconds: Sequence[float]) -> tuple[float, float]:
    return statistics.median(seconds), sorted(seconds)[int(len(seconds) * 0.95)]


def table_of_sizes(sizes: dict[str, int], chunks: int) -> Table:
    table = Table("table or index", "MB", "bytes a chunk")
    for name, size in sizes.items():
        if size * 1000 > sum(sizes.values()):
            table.add_row(name, f"{size / 2**20:,.0f}", f"{size / chunks:,.0f}")
    table.add_row("all", f"{sum(sizes.values()) / 2**20:,.0f}", f"{sum(sizes.values()) / chunks:,.0f}")
    return table
