"""Which driver searches should read through: both, and a bare connection, with the same statements in turn."""

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from service.cli.client import Json
from service.cli.figures.corpus import judged_texts
from service.cli.figures.figure import Figure, open_own_collection, report
from service.cli.figures.search_latency import open_parts
from service.cli.figures.sending import send_documents
from service.cli.judged import neutral
from service.cli.own_settings import own_settings
from service.cli.settle import wait_until_settled
from service.db.read_pool import Reader
from service.domain.queries import Query, Words
from service.resources import address_of, open_search_door
from service.search.running import run
from service.settings import Settings

CONCURRENCY = (1, 8, 32)
GOAL = 1.0
Driver = Literal["asyncpg", "psqlpy"]
DRIVERS: tuple[Driver, ...] = ("asyncpg", "psqlpy")


@dataclass
class Cost:
    """Of each round: seconds a search at the median, searches a second, this process' processor seconds a search."""

    took: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def drivers(
    *,
    collection: Annotated[str, typer.Option(help="A judged folder of DATA.")] = "cranfield",
    queries: Annotated[int, typer.Option(min=1, help="How many of its questions.")] = 100,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is asked through each driver.")] = 5,
) -> None:
    """Print what a hybrid search costs through psqlpy and through asyncpg, at concurrency 1, 8 and 32, in turn.

    In this process, without HTTP, with vectors that are there. The figure is of the driver that SEARCH_DRIVER has by default:
    its processor time a search over the other's, the worst of the three.
    """
    documents, questions = judged_texts(collection, console=Console(stderr=True))
    report(measure(documents, [neutral(question) for question in questions[:queries]], rounds=rounds))


async def measure(documents: Sequence[Json], questions: Sequence[str], *, rounds: int) -> Figure:
    settings = own_settings(os.environ)
    costs: dict[tuple[str, int], Cost] = {}
    async with AsyncExitStack() as stack:
        client, name = await stack.enter_async_context(open_own_collection("drivers"))
        await send_documents(client, name, documents)
        await wait_until_settled(client, name, quiet=True)
        parts = await stack.enter_async_context(open_parts(name, settings=settings))
        vectors = {question: await parts.tools.embedder.embed_query(question) for question in questions}

        def asking(reader: Reader) -> Callable[[str], Awaitable[object]]:
            tools = replace(parts.tools, reader=reader)
            return lambda asked: run(Query(asked), Words.parse(asked), vectors[asked], parts.collection, tools=tools)

        address = address_of(settings.search_database_url, settings)
        readers = {
            driver: open_search_door(address, settings.model_copy(update={"search_driver": driver}))
            for driver in DRIVERS
        }
        for reader in readers.values():
            stack.push_async_callback(reader.close)
        for number in range(rounds + 1):
            for many in CONCURRENCY:
                for driver in DRIVERS if number % 2 else reversed(DRIVERS):
                    # In the first round connections and statements are made.
                    cost = costs.setdefault((driver, many), Cost()) if number else Cost()
                    await one_round(asking(readers[driver]), questions, many, cost)
    Console().print(table(costs))
    return figure(costs)


async def one_round(ask: Callable[[str], Awaitable[object]], questions: Sequence[str], many: int, cost: Cost) -> None:
    took: list[float] = []
    waiting = iter(list(questions) * (1 if many == 1 else 2))

    async def caller() -> None:
        for question in waiting:
            begun = time.perf_counter()
            await ask(question)
            took.append(time.perf_counter() - begun)

    begun, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(many)))
    cost.cpu.append((time.process_time() - cpu) / len(took))
    cost.rate.append(len(took) / (time.perf_counter() - begun))
    cost.took.append(statistics.median(took))


def table(costs: dict[tuple[str, int], Cost]) -> Table:
    shown = Table("driver", "concurrency", "p50 ms", "searches/s", "CPU ms a search")
    for (driver, many), cost in sorted(costs.items(), key=lambda item: (item[0][1], item[0][0])):
        took, rate, cpu = map(statistics.median, (cost.took, cost.rate, cost.cpu))
        shown.add_row(driver, str(many), f"{took * 1e3:.2f}", f"{rate:.0f}", f"{cpu * 1e3:.2f}")
    return shown


def figure(costs: dict[tuple[str, int], Cost]) -> Figure:
    chosen = Settings.model_fields["search_driver"].default
    other = next(driver for driver in DRIVERS if driver != chosen)
    spent = {key: statistics.median(cost.cpu) for key, cost in costs.items()}
    worst, many = max((spent[chosen, many] / spent[other, many], many) for many in CONCURRENCY)
    return Figure(
        what=f"CPU of a search in this process through {chosen}, the default, over {other}; the worst of concurrency 1, 8, 32",
        goal=f"≤ {GOAL:.0f}",
        measured=f"{worst:.2f} (at {many})",
        met=worst <= GOAL,
    )
