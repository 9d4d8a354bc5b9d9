"""Whether a walk through the pages shows every document once, while writers write."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import quote

import numpy as np
import orjson
import typer
from rich.console import Console
from rich.progress import Progress

from service.cli.address import find_address
from service.cli.client import Json, ServiceClient, open_client
from service.cli.failures import CommandError, ProblemError
from service.cli.figures.figure import Figure, report
from service.cli.figures.known import Known, filled
from service.cli.figures.texts import made_up_documents
from service.cli.figures.vectors import open_own_embedder
from service.cli.uploads import in_parallel
from service.embeddings.base import Matrix

TOPICS = 12
# Of a topic: ten pages that nobody touches, and all together fewer than a window holds.
STILL, MOVING = 100, 20
PAGE, PAGES = 10, 10
CONCURRENCY, WRITERS, AT_ONCE = 8, 2, 10
SURE = 50  # What is among the first so many right before and right after a walk was among the first hundred during it.


@dataclass
class Tally:
    walks: int = 0
    pages: int = 0
    duplicates: int = 0
    gaps: int = 0
    written: int = 0
    deleted: int = 0
    short: int = 0
    examples: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class World:
    """`still` documents are never touched; `moving` ones are written and deleted all the time."""

    client: ServiceClient
    known: Known
    moving: list[Json]
    vectors: Matrix
    topics: int
    chance: random.Random
    tally: Tally

    def still(self, topic: int | None = None) -> set[str]:
        """The names of the documents that nobody touches, of one topic or of all."""
        return {each["external_id"] for each in self.known.documents if topic in (None, each["attributes"]["topic"])}


def walks(
    *,
    walks: Annotated[int, typer.Option(min=1, help="How many, of ten pages each.")] = 1_000,
) -> None:
    """Print duplicates and gaps in walks of ten pages while other documents are written and deleted.

    Half of the walks go through one topic, of which all documents are in the window: each that nobody touches must appear
    once. The other half go through the whole collection: what is among the first fifty right before and right after must
    appear in its hundred hits. No document may appear twice.
    """
    report(measure(walks, console=Console(stderr=True)))


async def measure(count: int, *, console: Console, topics: int = TOPICS) -> Figure:
    tally = Tally()
    async with opened_world(tally, topics=topics) as world:
        stop = asyncio.Event()
        writing = [asyncio.create_task(write(world, stop)) for _ in range(WRITERS)]
        try:
            with Progress(console=console, transient=True) as progress:
                task = progress.add_task("Walking", total=count)

                async def walk(number: int) -> None:
                    await (walk_topic if number % 2 else walk_all)(world, number)
                    progress.advance(task)

                await in_parallel(range(count), walk, concurrency=CONCURRENCY)
        finally:
            stop.set()
            await asyncio.gather(*writing)
    if tally.short:
        raise CommandError(f"{tally.short} walks ended before their tenth page: no figure.")
    if tally.written < count or not tally.deleted:
        raise CommandError("The writers wrote less than once a walk: no figure.")
    for example in tally.examples:
        console.print(example, markup=False)
    return Figure(
        what=f"{tally.walks:,} walks of {PAGES} pages, {tally.pages:,} pages, while {tally.written:,} documents "
        f"were written and {tally.deleted:,} deleted",
        goal="0 duplicates, 0 gaps",
        measured=f"{tally.duplicates} duplicates, {tally.gaps} gaps",
        met=not tally.duplicates and not tally.gaps,
    )


@asynccontextmanager
async def opened_world(tally: Tally, *, topics: int) -> AsyncIterator[World]:
    still = STILL * topics
    documents = made_up_documents(still + MOVING * topics, words=40)
    for number, document in enumerate(documents):
        document["attributes"] = {"topic": number % topics}
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(open_client(find_address(os.environ)))
        embedder = await stack.enter_async_context(open_own_embedder())
        vectors = np.random.default_rng(7).standard_normal((len(documents), embedder.dimension), np.float32)
        known = Known("walks", documents[:still], vectors[:still], {"topic": "integer"})
        await stack.enter_async_context(filled(client, [known], keep=False))
        chance = random.Random(7)  # noqa: S311  (repeatable, not secret)
        yield World(client, known, documents[still:], vectors[still:], topics, chance, tally)


async def write(world: World, stop: asyncio.Event) -> None:
    """Put and delete moving documents, with other words each time."""
    while not stop.is_set():
        chosen = world.chance.sample(range(len(world.moving)), AT_ONCE)
        lines = [orjson.dumps(rewritten(world, place), option=orjson.OPT_SERIALIZE_NUMPY) for place in chosen]
        await world.client.send_batch(world.known.name, b"\n".join(lines) + b"\n")
        world.tally.written += len(lines)
        for place in world.chance.sample(range(len(world.moving)), AT_ONCE // 2):
            name = quote(world.moving[place]["external_id"], safe="")
            path = f"/v1/collections/{world.known.name}/documents/{name}"
            with suppress(ProblemError):  # It is not there, or has been deleted already.
                await world.client.request("DELETE", path, headers={"If-Match": "*"})
                world.tally.deleted += 1
        await asyncio.sleep(0.05)


def rewritten(world: World, place: int) -> Json:
    """A document of the same name with the text of another and a vector of its own."""
    other = world.chance.randrange(len(world.moving))
    return world.moving[place] | {"text": world.moving[other]["text"], "vector": world.vectors[other]}


async def walk_topic(world: World, number: int) -> None:
    """To the end: all documents of a topic are within the window."""
    topic = number // 2 % world.topics
    request = {"query": question_of(world, number), "filter": {"attributes.topic": topic}, "limit": PAGE}
    seen, pages = await pages_of(world, request, most=None)
    note(world, number, seen=seen, pages=pages, wanted=world.still(topic))


async def walk_all(world: World, number: int) -> None:
    request: Json = {"query": question_of(world, number)}
    before = await first_of(world, request)
    seen, pages = await pages_of(world, request | {"limit": PAGE}, most=PAGES)
    after = await first_of(world, request)
    note(world, number, seen=seen, pages=pages, wanted=before & after & world.still())


def question_of(world: World, number: int) -> str:
    title: str = world.known.documents[number * 7 % len(world.known.documents)]["title"]
    return title


async def first_of(world: World, request: Json) -> set[str]:
    answer = await world.client.search(world.known.name, request | {"limit": SURE})
    return {hit["external_id"] for hit in answer["hits"]}


async def pages_of(world: World, request: Json, *, most: int | None) -> tuple[list[str], int]:
    """The documents of the pages, in order, and how many pages they were."""
    seen: list[str] = []
    pages, cursor = 0, None
    while most is None or pages < most:
        answer = await world.client.search(world.known.name, request | ({"cursor": cursor} if cursor else {}))
        seen += [hit["external_id"] for hit in answer["hits"]]
        pages += 1
        cursor = answer["next_cursor"]
        if cursor is None:
            break
    return seen, pages


def note(world: World, number: int, *, seen: list[str], pages: int, wanted: set[str]) -> None:
    tally = world.tally
    twice = [name for name, times in Counter(seen).items() if times > 1]
    missing = sorted(wanted - set(seen))
    tally.walks += 1
    tally.pages += pages
    tally.short += pages < PAGES
    tally.duplicates += len(twice)
    tally.gaps += len(missing)
    if twice or missing:
        tally.examples.append(f"walk {number}: twice {twice[:3]}, missing {missing[:3]}")
