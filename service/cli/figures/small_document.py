"""How soon one small document can be searched on a service that does nothing else."""

import asyncio
import statistics
import time
from typing import Annotated

import typer

from service.cli.failures import CommandError
from service.cli.figures.figure import Figure, open_own_collection, report
from service.cli.figures.texts import made_up_documents

GOAL = 0.5  # Seconds.


def small_document(
    *,
    repeats: Annotated[int, typer.Option(min=1)] = 30,
    pause: Annotated[float, typer.Option(min=0, help="Seconds between two documents.")] = 0.5,
) -> None:
    """Print the p50 of POST with ?wait=10 of one small JSON document on an idle service."""
    report(measure(repeats=repeats, pause=pause))


async def measure(*, repeats: int, pause: float) -> Figure:
    seconds = []
    async with open_own_collection("small-document") as (client, name):
        first, *documents = made_up_documents(repeats + 1, words=60)
        await client.post_document(name, first, wait=10)  # Connections and caches are not what is measured.
        for document in documents:
            await asyncio.sleep(pause)
            begun = time.perf_counter()
            answer = await client.post_document(name, document, wait=10)
            seconds.append(time.perf_counter() - begun)
            if answer["status"] != "indexed":
                raise CommandError(f"A document was {answer['status']} after ten seconds.")
    p50 = statistics.median(seconds)
    return Figure(
        what=f"one small JSON document on an idle service, ?wait=10, p50 of {repeats}",
        goal=f"≤ {GOAL} s",
        measured=f"{p50:.3f} s (from {min(seconds):.3f} to {max(seconds):.3f})",
        met=p50 <= GOAL,
    )
