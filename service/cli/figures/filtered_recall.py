"""Whether a filtered search finds what is nearest among what the filter leaves, and as many hits as there are."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from service.cli.address import find_address
from service.cli.client import ServiceClient, open_client
from service.cli.failures import CommandError
from service.cli.figures.figure import Figure, report
from service.cli.figures.filtered import BESIDE, Question, filtered
from service.cli.figures.known import TOP, Known, Outcome, filled
from service.cli.figures.points import Filters, Kind, Point
from service.cli.figures.vectors import VectorsOption, folder_of_vectors
from service.cli.uploads import in_parallel

GOAL = 0.99
ASKED_BESIDE = 50  # Questions that a smaller collection is asked.
CONCURRENCY = 2

Where: TypeAlias = tuple[Kind, str]
Outcomes: TypeAlias = Mapping[Where, Mapping[int, Sequence[Outcome]]]
"""By the kind of filter and its label, then by the size of the collection."""


def filtered_recall(
    *,
    documents: Annotated[int | None, typer.Option(min=1, help="How many of the abstracts; all by default.")] = None,
    questions: Annotated[int, typer.Option(min=1, help="How many titles are asked.")] = 200,
    vectors: VectorsOption = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the collections for the next run.")] = False,
) -> None:
    """Print recall@10 of filtered semantic searches against exact, for every kind of filter and every selectivity.

    On DATA/arxiv_30k beside smaller collections in the same tables. Documents are sent with vectors that were computed
    here, once, with the embedder of EMBEDDING_MODEL, so each is one chunk. Exact is NumPy over the same half-precision
    vectors. Selectivities come from a uniform attribute, from three attributes together, from the categories that are
    farthest from the question, and from the filters that the data bring along.
    """
    folder = folder_of_vectors(vectors)
    report(measure(documents=documents, questions=questions, vectors=folder, keep=keep))


async def measure(
    *, documents: int | None, questions: int, vectors: Path, keep: bool, beside: Sequence[int] = BESIDE
) -> Figure:
    console = Console(stderr=True)
    made = await filtered(documents=documents, questions=questions, beside=beside, vectors=vectors, console=console)
    collections = [made.large, *made.beside]
    async with open_client(find_address(os.environ)) as client, filled(client, collections, keep=keep):
        outcomes = await ask_all(client, collections, made.questions, profile=made.profile, console=console)
    Console().print(table(outcomes, sizes=sorted({len(known.documents) for known in collections}, reverse=True)))
    lowest = min(recall(each) for sizes in outcomes.values() for each in sizes.values() if found_any(each))
    every = [outcome for sizes in outcomes.values() for each in sizes.values() for outcome in each]
    missing, wrong = sum(outcome.missing for outcome in every), sum(outcome.wrong for outcome in every)
    sizes = " + ".join(f"{len(known.documents):,}" for known in collections)
    return Figure(
        what=f"recall@10 of filtered semantic search against exact, {sizes} documents, vectors given",
        goal=f"≥ {GOAL} at each of {len(outcomes)} filters, every hit that exists, none that is filtered out",
        measured=f"lowest {lowest:.4f}; {missing} missing and {wrong} wrong hits in {len(every):,} searches",
        met=lowest >= GOAL and not missing and not wrong,
    )


async def ask_all(
    client: ServiceClient,
    collections: Sequence[Known],
    questions: Sequence[Question],
    *,
    profile: str,
    console: Console,
) -> Outcomes:
    outcomes: dict[Where, dict[int, list[Outcome]]] = defaultdict(lambda: defaultdict(list))
    filters = {known.name: Filters(known) for known in collections}
    with Progress(console=console, transient=True) as progress:
        pairs = [
            (known, question)
            for place, known in enumerate(collections)
            for question in questions[: ASKED_BESIDE if place else None]
        ]
        task = progress.add_task("Asking", total=len(pairs))

        async def ask(pair: tuple[Known, Question]) -> None:
            known, question = pair
            cosines = known.cosines(question.vector)
            for point in filters[known.name].points(question.vector, question.given):
                answer = await client.search(known.name, request(question, point))
                if answer["profile"] != profile:
                    raise CommandError(f"The service runs {answer['profile']}, and this process {profile}: no figure.")
                hits = [hit["external_id"] for hit in answer["hits"]]
                outcome = Outcome.of(hits, cosines=cosines, matches=point.matches, places=known.places)
                outcomes[point.kind, point.label][len(known.documents)].append(outcome)
            progress.advance(task)

        await in_parallel(pairs, ask, concurrency=CONCURRENCY)
    return outcomes


def request(question: Question, point: Point) -> dict[str, object]:
    vector = [float(number) for number in question.vector]
    return {"mode": "semantic", "vector": vector, "limit": TOP, "filter": point.filter}


def recall(outcomes: Sequence[Outcome]) -> float:
    """The mean of the searches that have something to find."""
    return float(np.mean([outcome.recall for outcome in outcomes if outcome.exist]))


def found_any(outcomes: Sequence[Outcome]) -> bool:
    return any(outcome.exist for outcome in outcomes)


def table(outcomes: Outcomes, *, sizes: Sequence[int]) -> Table:
    """A row a filter, a column a size: mean recall and, where one is lower, the lowest of a question."""
    shown = Table(title="recall@10, mean (lowest of a question)", title_justify="left")
    shown.add_column("filter", no_wrap=True)
    shown.add_column("leaves", no_wrap=True)
    for size in sizes:
        shown.add_column(f"{size:,} documents", justify="right")
    shown.add_column("missing", justify="right")
    shown.add_column("wrong", justify="right")
    for (kind, label), by_size in outcomes.items():
        cells = [cell(by_size.get(size, ())) for size in sizes]
        every = [outcome for each in by_size.values() for outcome in each]
        totals = sum(outcome.missing for outcome in every), sum(outcome.wrong for outcome in every)
        shown.add_row(kind, label, *cells, *map(str, totals))
    return shown


def cell(outcomes: Sequence[Outcome]) -> str:
    if not found_any(outcomes):
        return "-"
    mean, lowest = recall(outcomes), min(outcome.recall for outcome in outcomes if outcome.exist)
    return f"{mean:.4f}" if lowest == mean else f"{mean:.4f} ({lowest:.1f})"
