"""What a search through HTTP costs beyond its two necessary parts: embedding the question, and running the statement."""

import os
import statistics
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPSConnection
from typing import Annotated
from urllib.parse import urlsplit

import orjson
import typer
from rich.console import Console

from service.cli.address import Address as Place
from service.cli.address import find_address
from service.cli.client import Json
from service.cli.failures import CommandError
from service.cli.figures.corpus import judged_texts
from service.cli.figures.figure import Figure, open_own_collection, report
from service.cli.figures.sending import send_documents
from service.cli.own_settings import own_settings
from service.cli.settle import wait_until_settled
from service.db.addresses import Address
from service.db.keys import tenant_of_key
from service.db.profiles import find_profile
from service.db.read_held import HeldReader, open_held_reader
from service.db.retrieval import Statements
from service.domain.documents import Collection
from service.domain.errors import ServiceError
from service.domain.queries import Query, Words
from service.resources import open_own_embedder, open_primary
from service.search.catalog import Catalog
from service.search.running import run
from service.search.tools import Searching
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
    settings = own_settings(os.environ)
    async with open_own_collection("search-latency") as (client, name):
        await send_documents(client, name, documents)
        await wait_until_settled(client, name, quiet=True)
        # A word of its own makes each a question that nobody has asked before.
        asked = [f"{questions[number % len(questions)]} {uuid.uuid4().hex[:12]}" for number in range(WARM_UP + count)]
        async with open_parts(name, settings=settings) as parts:
            await time_all(name, asked[:WARM_UP], parts=parts)
            times = await time_all(name, asked[WARM_UP:], parts=parts)
    http, embedding, statement = map(statistics.median, (times.http, times.embedding, times.statement))
    ratio = http / (embedding + statement)
    return Figure(
        what=f"search p50 over (embedding p50 + the same SQL), concurrency 1, {len(documents):,} documents",
        goal=f"≤ {GOAL}",
        measured=f"{ratio:.2f} ({http * 1e3:.2f} ms over {embedding * 1e3:.2f} + {statement * 1e3:.2f} ms)",
        met=ratio <= GOAL,
    )


async def time_all(name: str, questions: Sequence[str], *, parts: "Parts") -> Times:
    times, place = Times(), find_address(os.environ)
    with closing(connect(place)) as connection:
        for number, question in enumerate(questions):
            # Whoever comes second finds the pages of the tables in memory, so they take turns.
            for turn in ("http", "parts") if number % 2 else ("parts", "http"):
                if turn == "http":
                    time_search(connection, name, question, api_key=place.api_key, times=times)
                else:
                    await time_parts(question, parts, times=times)
    return times


def connect(place: Place) -> HTTPConnection:
    url = urlsplit(place.url)
    kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
    return kind(str(url.hostname), url.port, timeout=60)


def time_search(connection: HTTPConnection, name: str, question: str, *, api_key: str, times: Times) -> None:
    """Blocks, with the standard library's client: httpx takes some 3 ms a request for itself, and is not what is timed."""
    body = orjson.dumps({"query": question})
    headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
    begun = time.perf_counter()
    connection.request("POST", f"/v1/collections/{name}/search", body, headers)
    response = connection.getresponse()
    answer = response.read()
    times.http.append(time.perf_counter() - begun)
    if response.status != HTTPStatus.OK:
        raise CommandError(f"A search was answered with {response.status}: {answer.decode(errors='replace')[:200]}")


@dataclass(frozen=True)
class Parts:
    """What the service has, opened in this process: its embedder, its statement, the collection's row."""

    tools: Searching
    collection: Collection
    reader: HeldReader


async def time_parts(question: str, parts: Parts, *, times: Times) -> None:
    begun = time.perf_counter()
    vector = await parts.tools.embedder.embed_query(question)
    times.embedding.append(time.perf_counter() - begun)
    await run(Query(question), Words.parse(question), vector, parts.collection, tools=parts.tools)
    times.statement.append(parts.reader.seconds[-1])


@asynccontextmanager
async def open_parts(name: str, *, settings: Settings, api_key: str | None = None) -> AsyncIterator[Parts]:
    """`api_key` is of the collection's tenant; by default the one that the environment names."""
    primary = open_primary(settings)
    embedder = open_own_embedder(settings)
    address = Address.parse(
        settings.search_database_url.get_secret_value(), tls=settings.database_tls, ca_file=settings.database_ca_file
    )
    try:
        async with primary.begin() as connection:
            tenant_id = await tenant_of_key(connection, api_key or find_address(os.environ).api_key)
            profile = await find_profile(connection, embedder.name)
        if tenant_id is None:
            raise CommandError("The database at DATABASE_URL does not know the key: it is another service's.")
        collection = await Catalog(primary).find(tenant_id, name)
        async with open_held_reader(address) as reader:
            tools = Searching(
                reader=reader,
                statements=Statements(),
                embedder=embedder,
                profile=profile,
                exact_chunks=settings.exact_chunks,
                lexical_budget=settings.lexical_budget,
            )
            yield Parts(tools, collection, reader)
    except ServiceError as error:
        raise CommandError(f"{error}.") from None
    finally:
        await embedder.close()
        await primary.close()
