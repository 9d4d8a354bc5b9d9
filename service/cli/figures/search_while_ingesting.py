"""What searches notice of an ingest that takes all it can get."""

import asyncio
import os
import statistics
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from itertools import cycle
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from service.cli.address import find_address
from service.cli.client import Json, ServiceClient
from service.cli.failures import CommandError
from service.cli.figures.corpus import corpus, judged_texts
from service.cli.figures.figure import Figure, open_own_collection, own_collection, report
from service.cli.figures.search_latency import Times, connect, time_search
from service.cli.figures.sending import send_documents
from service.cli.settle import wait_until_settled

GOAL = 2.0
BACKLOG = 500  # Documents that wait at least: with fewer a worker might fall idle.
WARM_UP_SECONDS = 2.0


def search_while_ingesting(
    *,
    collection: Annotated[str, typer.Option(help="A judged folder of DATA, which is searched.")] = "cranfield",
    ingested: Annotated[str, typer.Option(help="A folder of DATA whose documents come meanwhile.")] = "scifact_train",
    seconds: Annotated[float, typer.Option(min=1, help="Of each turn of searches.")] = 15,
    rounds: Annotated[int, typer.Option(min=1, help="How often idle and ingesting take turns.")] = 5,
) -> None:
    """Print the p99 of searches while documents are ingested at full rate over that of an idle service.

    One search at a time, no question asked twice, hybrid, in turns: idle, ingesting, idle, … Documents go into another
    collection of the same service, and some hundreds always wait. The ratio of the idle turns' p99 is the noise.
    """
    console = Console(stderr=True)
    searched, questions = judged_texts(collection, console=console)
    documents = corpus(ingested, None, console=console)
    report(measure(searched, questions, documents, seconds=seconds, rounds=rounds))


async def measure(
    searched: Sequence[Json], questions: Sequence[str], documents: Sequence[Json], *, seconds: float, rounds: int
) -> Figure:
    asked = (f"{question} {uuid.uuid4().hex[:12]}" for question in cycle(questions))
    idle: list[Sequence[float]] = []
    busy: list[Sequence[float]] = []
    done = spent = 0.0
    async with open_own_collection("searched") as (client, name):
        await send_documents(client, name, searched)
        await wait_until_settled(client, name, quiet=True)
        await asyncio.to_thread(search_for, WARM_UP_SECONDS, name, asked)
        for _ in range(rounds):
            idle.append(await asyncio.to_thread(search_for, seconds, name, asked))
            async with full_ingest(client, documents) as target:
                await asyncio.to_thread(search_for, WARM_UP_SECONDS, name, asked)
                before, begun = (await client.collection_status(target)).indexed, time.perf_counter()
                busy.append(await asyncio.to_thread(search_for, seconds, name, asked))
                done += (await client.collection_status(target)).indexed - before
                spent += time.perf_counter() - begun
    alone, beside = [p99(turn) for turn in idle], [p99(turn) for turn in busy]
    ratio = statistics.median(beside) / statistics.median(alone)
    medians = [statistics.median([each for turn in turns for each in turn]) for turns in (idle, busy)]
    return Figure(
        what=f"search p99 while ingesting {done / spent:,.0f} documents/s over idle, {rounds} turns of {seconds:g} s each;"
        f" p99 of idle turns {min(alone) * 1e3:.1f} to {max(alone) * 1e3:.1f} ms",
        goal=f"≤ {GOAL:g}",
        measured=f"{ratio:.2f} ({statistics.median(beside) * 1e3:.1f} over {statistics.median(alone) * 1e3:.1f} ms;"
        f" p50 {medians[1] * 1e3:.1f} over {medians[0] * 1e3:.1f} ms)",
        met=ratio <= GOAL,
    )


def p99(seconds: Sequence[float]) -> float:
    return float(np.percentile(seconds, 99))


def search_for(seconds: float, name: str, asked: Iterator[str]) -> list[float]:
    """One after the other."""
    times, place, end = Times(), find_address(os.environ), time.perf_counter() + seconds
    with closing(connect(place)) as connection:
        while time.perf_counter() < end:
            time_search(connection, name, next(asked), api_key=place.api_key, times=times)
    return times.http


@asynccontextmanager
async def full_ingest(client: ServiceClient, documents: Sequence[Json]) -> AsyncIterator[str]:
    """Documents wait as long as the body runs; afterwards the service is idle again. Yields their collection."""
    async with own_collection(client, "ingested") as target:
        await send_documents(client, target, documents[: 2 * BACKLOG])
        feeding = asyncio.create_task(feed(client, target, documents))
        try:
            yield target
            if feeding.done():
                feeding.result()
            if (await client.collection_status(target)).pending == 0:
                raise CommandError("The documents ran out, so nothing was ingested at full rate: no figure.")
        finally:
            feeding.cancel()
            await asyncio.wait([feeding])
    await asyncio.sleep(WARM_UP_SECONDS)  # What was waiting is overtaken by the collection's end; its rows go now.


async def feed(client: ServiceClient, target: str, documents: Sequence[Json]) -> None:
    for turn in cycle(range(len(documents) // BACKLOG)):
        while (await client.collection_status(target)).pending > BACKLOG:  # noqa: ASYNC110  no event crosses HTTP
            await asyncio.sleep(0.25)
        again = uuid.uuid4().hex[:8]
        part = documents[turn * BACKLOG : (turn + 1) * BACKLOG]
        await send_documents(client, target, [{**each, "external_id": f"{again}-{at}"} for at, each in enumerate(part)])
