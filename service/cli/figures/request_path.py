"""What the path of a request adds to its statement, with the question's vector remembered and without."""

import os
import statistics
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import typer
from rich.console import Console

from service.cli.address import find_address
from service.cli.client import Json
from service.cli.figures.corpus import judged_texts
from service.cli.figures.figure import Figure, open_own_collection, report
from service.cli.figures.plain_client import PlainClient
from service.cli.figures.search_latency import Parts, open_parts
from service.cli.figures.sending import send_documents
from service.cli.judged import neutral
from service.cli.own_settings import own_settings
from service.cli.settle import wait_until_settled
from service.domain.queries import Query, Words
from service.embeddings.base import Vector
from service.search.running import run

CACHED, TAIL, UNCACHED = 1.25, 1.5, 1.15
LAST = 0.99


@dataclass
class Round:
    """Seconds."""

    cached: list[float] = field(default_factory=list)
    uncached: list[float] = field(default_factory=list)
    statement: list[float] = field(default_factory=list)
    embedding: list[float] = field(default_factory=list)


def request_path(
    *,
    collection: Annotated[str, typer.Option(help="A judged folder of DATA.")] = "cranfield",
    queries: Annotated[int, typer.Option(min=1, help="How many of its questions.")] = 100,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is asked, every way.")] = 7,
) -> None:
    """Print hybrid p50 and p99 through HTTP over the same prepared SQL through raw asyncpg, and uncached over its parts.

    One at a time, in turn. Cached: the service remembers the question's vector. Uncached: with a word that nobody has asked
    before, over the p50 of an embedding in this process and that of the SQL. Set EMBEDDING_MODEL as the service has it.
    """
    documents, questions = judged_texts(collection, console=Console(stderr=True))
    report(measure(documents, [neutral(question) for question in questions[:queries]], rounds=rounds))


async def measure(documents: Sequence[Json], questions: Sequence[str], *, rounds: int) -> list[Figure]:
    async with open_own_collection("request-path") as (client, name):
        await send_documents(client, name, documents)
        await wait_until_settled(client, name, quiet=True)
        async with open_parts(name, settings=own_settings(os.environ)) as parts:
            with PlainClient(find_address(os.environ), name) as http:
                measured = [await one_round(questions, parts, http) for _ in range(rounds + 1)][1:]
    # Two halves of the same times say how far apart equal things come out.
    halves = [statistics.median(middle(measured, "statement", half)) for half in (0, 1)]
    Console(stderr=True).print(f"A/A: the p50 of the SQL in odd rounds over even ones is {halves[1] / halves[0]:.2f}")
    cached, uncached, sql, embedding = (
        sorted(second for each in measured for second in getattr(each, kind))
        for kind in ("cached", "uncached", "statement", "embedding")
    )
    whole, parts_of_it = statistics.median(uncached), statistics.median(embedding) + statistics.median(sql)
    what = f"{len(documents):,} documents, concurrency 1"
    return [
        ratio(f"hybrid p50, embedding cached, over the same SQL by raw asyncpg, {what}", cached, sql, 0.5, CACHED),
        ratio("the same, p99", cached, sql, LAST, TAIL),
        Figure(
            what="uncached p50 over (embedding p50 + SQL p50)",
            goal=f"≤ {UNCACHED}",
            measured=f"{whole / parts_of_it:.2f} ({whole * 1e3:.2f} ms over {parts_of_it * 1e3:.2f} ms)",
            met=whole / parts_of_it <= UNCACHED,
        ),
    ]


def middle(rounds: Sequence[Round], kind: str, half: int) -> list[float]:
    return [second for each in rounds[half::2] for second in getattr(each, kind)] or [1.0]


def ratio(what: str, over: Sequence[float], under: Sequence[float], share: float, goal: float) -> Figure:
    """Of two sorted lists."""
    above, below = (times[min(int(len(times) * share), len(times) - 1)] for times in (over, under))
    measured = f"{above / below:.2f} ({above * 1e3:.2f} ms over {below * 1e3:.2f} ms)"
    return Figure(what, f"≤ {goal}", measured, met=above / below <= goal)


async def one_round(questions: Sequence[str], parts: Parts, http: PlainClient) -> Round:
    """Each question every way, the order turned with each: whoever comes second finds the pages in the caches."""
    times = Round()
    for number, question in enumerate(questions):
        new = f"{question} {uuid.uuid4().hex[:12]}"
        begun = time.perf_counter()
        vector = await parts.tools.embedder.embed_query(new)
        times.embedding.append(time.perf_counter() - begun)
        known = await parts.tools.embedder.embed_query(question)
        for turn in range(3):
            match (number + turn) % 3:
                case 0:
                    http.search({"query": question})
                    times.cached.append(http.seconds[-1])
                case 1:
                    times.statement.append(await statement(question, known, parts))
                case _:
                    http.search({"query": f"{question} {uuid.uuid4().hex[:12]}"})
                    times.uncached.append(http.seconds[-1])
        del vector
    return times


async def statement(question: str, vector: Vector, parts: Parts) -> float:
    await run(Query(question), Words.parse(question), vector, parts.collection, tools=parts.tools)
    return parts.reader.seconds[-1]
