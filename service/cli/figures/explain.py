"""Whether what each leg gave sums to the score, in every way of asking."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from service.cli.address import find_address
from service.cli.client import Json, open_client
from service.cli.failures import CommandError
from service.cli.figures.corpus import judged_texts
from service.cli.figures.figure import Figure, report
from service.cli.figures.known import Known, filled
from service.cli.figures.vectors import open_own_embedder
from service.cli.judged import neutral
from service.cli.uploads import in_parallel

GOAL = 1e-9
CONCURRENCY = 4
WAYS: Sequence[Json] = (
    {},
    {"mode": "lexical"},
    {"mode": "semantic"},
    {"group_by": None, "limit": 100},
    {"fusion": {"alpha": 0.0}},
    {"fusion": {"alpha": 0.25, "window": 20}},
    {"fusion": {"alpha": 1.0}},
    {"fusion": {"method": "rrf"}},
    {"fusion": {"method": "rrf", "k": 5, "weights": {"lexical": 2, "semantic": 0.3}}},
)


def explain(
    *,
    collection: Annotated[str, typer.Option(help="A judged folder of DATA.")] = "cranfield",
    queries: Annotated[int, typer.Option(min=1, help="How many of its questions.")] = 225,
) -> None:
    """Print the largest difference between a chunk's score and the sum of its contributions, asked in nine ways."""
    report(measure(collection, count=queries, console=Console(stderr=True)))


async def measure(collection: str, *, count: int, console: Console) -> Figure:
    documents, questions = judged_texts(collection, console=console)
    asked = [(neutral(question), way) for question in questions[:count] for way in WAYS]
    differences: list[float] = []
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(open_client(find_address(os.environ)))
        embedder = await stack.enter_async_context(open_own_embedder())
        vectors = np.random.default_rng(7).standard_normal((len(documents), embedder.dimension), np.float32)
        known = Known("explain", documents, vectors, {})
        await stack.enter_async_context(filled(client, [known], keep=False))

        async def ask(question: tuple[str, Json]) -> None:
            text, way = question
            answer = await client.search(known.name, {"query": text, "include": ["explain"], "limit": 20} | way)
            differences.extend(differences_of(answer))

        await in_parallel(asked, ask, concurrency=CONCURRENCY)
    if not differences:
        raise CommandError("No search found anything: no figure.")
    worst = max(differences)
    return Figure(
        what=f"a chunk's score minus the sum of its contributions, {len(differences):,} chunks, asked in {len(WAYS)} ways",
        goal=f"≤ {GOAL:g}",
        measured=f"at most {worst:.1e}",
        met=worst <= GOAL,
    )


def differences_of(answer: Json) -> Iterator[float]:
    """Of every chunk; infinite where a chunk is not explained, and of every hit from its best chunk's score."""
    for hit in answer["hits"]:
        yield abs(hit["score"] - max(chunk["score"] for chunk in hit["chunks"]))
        for chunk in hit["chunks"]:
            explanation = chunk.get("explain")
            if not explanation:
                yield math.inf
                continue
            total = sum(explanation[leg]["contribution"] for leg in ("lexical", "semantic"))
            yield abs(chunk["score"] - total)
