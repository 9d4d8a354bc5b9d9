"""What a search through HTTP costs beyond its two necessary parts: embedding the question, and running the statement."""

import os
import statistics
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated

import typer
from rich.console import Console

from service.cli.address import find_address
from service.cli.client import Json, ServiceClient
from service.cli.failures import CommandError
from service.cli.figures.corpus import judged_texts
from service.cli.figures.database import database_settings
from service.cli.figures.figure import Figure, open_own_collection, report
from service.cli.figures.sending import send_documents
from service.cli.settle import wait_until_settled
from service.db.addresses import Address
from service.db.collections import find_collection
from service.db.keys import tenant_of_key
from service.db.profiles import find_profile
from service.db.read_held import HeldReader, open_held_reader
from service.db.retrieval import Statements
from service.domain.documents import Collection
from service.domain.errors import ServiceError
from service.domain.queries import Query, Words
from service.embeddings.loading import open_embedder
from service.resources import open_primary
from service.search.search import Searching, run
from service.settings import Settings

GOAL = 1.3
WARM_UP = 20  # Searches before the first that counts.


@dataclass
class Times:
    http: list[float] = field(default_factory=list)
    embedding: list[float] = field(default_factory=list)
    statement: list[float] = field(default_factory=list)


def search_latency(
    *,
    collection: Annotated[str, typer.Option(help="A judged folder of DATA.")] = "cranfield",
    queries: Annotated[int, typer.Option(min=1, help="How many searches count.")] = 200,
) -> None:
    """Print the p50 of hybrid searches through HTTP over embedding p50 + the p50 of the same SQL, one at a time.

    No question is asked twice, so nothing is cached. The parts are timed in this process, in turn with the searches:
    the embedder of EMBEDDING_MODEL, and the statement on a held connection to SEARCH_DATABASE_URL, else to the database
    that `make run` started here. Set EMBEDDING_MODEL as the service has it.
    """
    documents, questions = judged_texts(collection, console=Console(stderr=True))
    report(measure(documents, questions, count=queries))


async def measure(documents: Sequence[Json], questions: Sequence[str], *, count: int) -> Figure:
    times, settings = Times(), database_settings(os.environ)
    async with open_own_collection("search-latency") as (client, name):
        await send_documents(client, name, documents)
        await wait_until_settled(client, name)
        async with open_parts(name, settings=settings) as (tools, collection, reader):
            for number in range(WARM_UP + count):
                # A word of its own makes it a question that nobody has asked before.
                question = f"{questions[number % len(questions)]} {uuid.uuid4().hex[:12]}"
                if number == WARM_UP:
                    times = Times()
                # Whoever comes second finds the pages of the tables in memory, so they take turns.
                for part in ("http", "parts") if number % 2 else ("parts", "http"):
                    if part == "http":
                        await time_search(client, name, question, times=times)
                    else:
                        await time_parts(question, collection, tools=tools, reader=reader, times=times)
    http, embedding, statement = map(statistics.median, (times.http, times.embedding, times.statement))
    ratio = http / (embedding + statement)
    return Figure(
        what=f"search p50 over (embedding p50 + the same SQL), concurrency 1, {len(documents):,} documents",
        goal=f"≤ {GOAL}",
        measured=f"{ratio:.2f} ({http * 1e3:.2f} ms over {embedding * 1e3:.2f} + {statement * 1e3:.2f} ms)",
        met=ratio <= GOAL,
    )


async def time_search(client: ServiceClient, name: str, question: str, *, times: Times) -> None:
    begun = time.perf_counter()
    await client.search(name, {"query": question})
    times.http.append(time.perf_counter() - begun)


async def time_parts(
    question: str, collection: Collection, *, tools: Searching, reader: HeldReader, times: Times
) -> None:
    begun = time.perf_counter()
    vector = await tools.embedder.embed_query(question)
    times.embedding.append(time.perf_counter() - begun)
    await run(Query(question), Words.parse(question), vector, collection, tools=tools)
    times.statement.append(reader.seconds[-1])


@asynccontextmanager
async def open_parts(name: str, *, settings: Settings) -> AsyncIterator[tuple[Searching, Collection, HeldReader]]:
    """What the service has, opened in this process: its embedder, its statement, the collection's row."""
    primary = open_primary(settings)
    embedder = open_embedder(settings.embedding_model, threads=settings.embedding_threads)
    address = Address.parse(
        settings.search_database_url.get_secret_value(), tls=settings.database_tls, ca_file=settings.database_ca_file
    )
    try:
        async with primary.begin() as connection:
            tenant_id = await tenant_of_key(connection, find_address(os.environ).api_key)
            profile = await find_profile(connection, embedder.name)
        if tenant_id is None:
            raise CommandError("The database at DATABASE_URL does not know the key: it is another service's.")
        async with primary.begin(tenant_id) as connection:
            collection = await find_collection(connection, tenant_id, name)
        async with open_held_reader(address) as reader:
            tools = Searching(
                reader=reader,
                statements=Statements(),
                embedder=embedder,
                profile=profile,
                exact_chunks=settings.exact_chunks,
                lexical_budget=settings.lexical_budget,
            )
            yield tools, collection, reader
    except ServiceError as error:
        raise CommandError(f"{error}.") from None
    finally:
        await embedder.close()
        await primary.close()
