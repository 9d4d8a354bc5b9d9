"""What a filter costs: the median of filtered semantic searches over that of the same searches without one."""

import asyncio
import os
import random
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from service.cli.address import Address, find_address
from service.cli.client import open_client
from service.cli.failures import CommandError
from service.cli.figures.figure import Figure, report
from service.cli.figures.filtered import BESIDE, Question, filtered
from service.cli.figures.filtered_recall import Where, request
from service.cli.figures.known import Known, filled
from service.cli.figures.points import Filters
from service.cli.figures.search_latency import connect
from service.cli.figures.vectors import VectorsOption, folder_of_vectors

GOAL = 4.0
WARM_UP = 10  # Rounds before the first that counts: every connection of the read pool prepares every statement once.
UNFILTERED: Where = ("none", "no filter")
STATEMENT = re.compile(r"\bstatement;(?:[^,]*;)?\s*dur=([0-9.]+)")


@dataclass
class Times:
    """Milliseconds: the whole request, and the statement where the service says it."""

    whole: list[float] = field(default_factory=list)
    statement: list[float] = field(default_factory=list)


def filtered_latency(
    *,
    documents: Annotated[int | None, typer.Option(min=1, help="How many of the abstracts; all by default.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each kind of search is asked.")] = 100,
    vectors: VectorsOption = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the collections for the next run.")] = False,
) -> None:
    """Print the worst p50 of filtered semantic searches over the unfiltered p50, end to end, one at a time.

    On the collections of `filtered-recall`, whose attributes are declared. The vector is in the request, so nothing is
    embedded. In every round one question is asked without a filter and with each, in an order that is drawn anew.
    """
    folder = folder_of_vectors(vectors)
    report(measure(documents=documents, rounds=rounds, vectors=folder, keep=keep))


async def measure(
    *,
    documents: int | None,
    rounds: int,
    vectors: Path,
    keep: bool,
    beside: Sequence[int] = BESIDE,
    warm_up: int = WARM_UP,
) -> Figure:
    console = Console(stderr=True)
    made = await filtered(
        documents=documents, questions=rounds + warm_up, beside=beside, vectors=vectors, console=console
    )
    place = find_address(os.environ)
    async with open_client(place) as client, filled(client, [made.large, *made.beside], keep=keep):
        asked = [made.questions[number % len(made.questions)] for number in range(rounds + warm_up)]
        times = await asyncio.to_thread(time_all, made.large, asked, place=place, warm_up=warm_up, console=console)
    slowest, ratio = worst(times)
    slow, plain = (statistics.median(times[where].whole) for where in (slowest, UNFILTERED))
    Console().print(table(times))
    return Figure(
        what=f"worst filtered p50 over unfiltered p50, semantic, {len(made.large.documents):,} documents, vectors given",
        goal=f"≤ {GOAL:.0f}",
        measured=f"{ratio:.2f} ({' '.join(slowest)}: {slow:.2f} ms over {plain:.2f} ms)",
        met=ratio <= GOAL,
    )


def time_all(
    known: Known, questions: Sequence[Question], *, place: Address, warm_up: int, console: Console
) -> Mapping[Where, Times]:
    """Blocks: one connection and the standard library's client, which takes least for itself."""
    times: dict[Where, Times] = defaultdict(Times)
    filters, chance = Filters(known), random.Random(0)  # noqa: S311  (repeatable, not secret)
    with closing(connect(place)) as connection:
        for number, question in enumerate(track(questions, "Asking", console=console, transient=True)):
            points = list(filters.points(question.vector, question.given))
            for point in chance.sample(points, len(points)):
                body = orjson.dumps(request(question, point))
                whole, statement = time_search(connection, known.name, body, api_key=place.api_key)
                if number >= warm_up:
                    taken = times[point.kind, point.label]
                    taken.whole.append(whole)
                    taken.statement.extend(statement)
    return times


def time_search(connection: HTTPConnection, name: str, body: bytes, *, api_key: str) -> tuple[float, list[float]]:
    headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
    begun = time.perf_counter()
    connection.request("POST", f"/v1/collections/{name}/search", body, headers)
    response = connection.getresponse()
    answer = response.read()
    whole = (time.perf_counter() - begun) * 1_000
    if response.status != HTTPStatus.OK:
        raise CommandError(f"A search was answered with {response.status}: {answer.decode(errors='replace')[:200]}")
    return whole, [float(said) for said in STATEMENT.findall(response.headers.get("Server-Timing", ""))]


def worst(times: Mapping[Where, Times]) -> tuple[Where, float]:
    """The filter with the highest median, and how many times the unfiltered one that is."""
    medians = {where: statistics.median(each.whole) for where, each in times.items() if where != UNFILTERED}
    slowest = max(medians, key=lambda where: medians[where])
    return slowest, medians[slowest] / statistics.median(times[UNFILTERED].whole)


def table(times: Mapping[Where, Times]) -> Table:
    shown = Table(title="semantic search, p50 in ms", title_justify="left")
    shown.add_column("filter", no_wrap=True)
    shown.add_column("leaves", no_wrap=True)
    for heading in ("request", "ratio", "statement", "ratio", "times"):
        shown.add_column(heading, justify="right")
    whole, statement = times[UNFILTERED].whole, times[UNFILTERED].statement
    for (kind, label), each in sorted(times.items(), key=lambda item: PLACES.index(item[0][0])):
        shown.add_row(
            kind, label, *compared(each.whole, whole), *compared(each.statement, statement), f"{len(each.whole)}"
        )
    return shown


PLACES = ("none", "single", "conjunctive", "far", "reference")


def compared(times: Sequence[float], unfiltered: Sequence[float]) -> tuple[str, str]:
    if not (times and unfiltered):
        return "-", "-"
    median = statistics.median(times)
    return f"{median:.2f}", f"{median / statistics.median(unfiltered):.2f}"
