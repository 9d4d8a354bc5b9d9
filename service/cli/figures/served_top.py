"""Whether what is served is what an exact search would have found: graph, router, half precision and budget together."""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from service.cli.address import find_address
from service.cli.client import ServiceClient, open_client
from service.cli.failures import CommandError
from service.cli.figures.figure import Figure, own_collection, report
from service.cli.figures.known import TOP, Known, filled
from service.cli.figures.prepared import Prepared, Question, prepare
from service.cli.figures.sending import send_documents
from service.cli.figures.vectors import VectorsOption, folder_of_vectors, open_own_embedder
from service.cli.judged import measure as judge
from service.cli.settle import wait_until_settled
from service.cli.uploads import in_parallel
from service.domain.queries import Mode

OVERLAP, NDCG = 0.98, 0.002
FOLDERS = "arxiv_30k,cranfield,scifact_train,medquad_dev"
MODES: tuple[Mode, ...] = ("hybrid", "semantic", "lexical")
CONCURRENCY = 2


@dataclass(frozen=True)
class Compared:
    """One mode on one corpus: the overlap of each question, and nDCG@10 where there are judgements."""

    folder: str
    mode: Mode
    passages: int
    overlaps: Sequence[float]
    served: float | None
    exact: float | None

    @property
    def overlap(self) -> float:
        return float(np.mean(self.overlaps))

    @property
    def moved(self) -> float:
        return abs(self.served - self.exact) if self.served is not None and self.exact is not None else 0.0


def served_top(
    *,
    collections: Annotated[str, typer.Option(help="Folders of DATA, separated by commas.")] = FOLDERS,
    documents: Annotated[int | None, typer.Option(min=1, help="How many of each; all by default.")] = None,
    questions: Annotated[int | None, typer.Option(min=1, help="How many of each; all by default.")] = None,
    texts: Annotated[
        bool, typer.Option("--texts", help="Send texts: the service cuts and embeds them itself.")
    ] = False,
    vectors: VectorsOption = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the collections for the next run.")] = False,
) -> None:
    """Print the overlap of served top tens with those of an exact search in NumPy, and how far nDCG@10 moves.

    Questions are asked as text with all defaults, in every mode. Exact means: every passage scored, vectors in single
    precision, no graph, no budget, the contract's windows and formula, over the lexemes that Postgres makes. Documents
    are sent with vectors that were computed here once, so each is one passage; `--texts` leaves cutting and embedding
    to the service.
    """
    folder = folder_of_vectors(vectors)
    report(
        measure(
            collections.split(","), documents=documents, questions=questions, texts=texts, vectors=folder, keep=keep
        )
    )


async def measure(
    folders: Sequence[str], *, documents: int | None, questions: int | None, texts: bool, vectors: Path, keep: bool
) -> Figure:
    console, compared = Console(stderr=True), list[Compared]()
    async with open_own_embedder() as embedder, open_client(find_address(os.environ)) as client:
        for folder in folders:
            prepared = await prepare(
                folder,
                chunked=texts,
                documents=documents,
                questions=questions,
                embedder=embedder,
                vectors=vectors,
                console=console,
            )
            async with served(client, prepared, texts=texts, keep=keep) as name:
                compared += await compare(client, name, prepared, profile=embedder.name, console=console)
    Console().print(table(compared))
    lowest, moved = min(each.overlap for each in compared), max(each.moved for each in compared)
    return Figure(
        what=f"served top-10 against exact in NumPy, {len(folders)} collections, 3 modes, "
        + ("cut and embedded by the service" if texts else "vectors given"),
        goal=f"overlap ≥ {OVERLAP} in each, nDCG within {NDCG}",
        measured=f"lowest overlap {lowest:.4f}, nDCG within {moved:.4f}",
        met=lowest >= OVERLAP and moved <= NDCG,
    )


@asynccontextmanager
async def served(client: ServiceClient, prepared: Prepared, *, texts: bool, keep: bool) -> AsyncIterator[str]:
    """The name of a collection that has the documents."""
    if not texts:
        purpose = prepared.folder.replace("_", "-")
        known = Known(purpose, prepared.documents, prepared.vectors, {})
        async with filled(client, [known], keep=keep):
            yield known.name
        return
    async with own_collection(client, "served-top") as name:
        await send_documents(client, name, prepared.documents)
        await wait_until_settled(client, name, quiet=True)
        yield name


async def compare(
    client: ServiceClient, name: str, prepared: Prepared, *, profile: str, console: Console
) -> list[Compared]:
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Asking", total=len(MODES) * len(prepared.questions))
        return [
            await compare_mode(
                client, name, prepared, mode=mode, profile=profile, advance=lambda: progress.advance(task)
            )
            for mode in MODES
        ]


async def compare_mode(
    client: ServiceClient, name: str, prepared: Prepared, *, mode: Mode, profile: str, advance: Callable[[], None]
) -> Compared:
    found: dict[str, list[str]] = {}
    best: dict[str, list[str]] = {}
    overlaps: list[float] = []

    async def ask(question: Question) -> None:
        answer = await client.search(name, {"query": question.text, "mode": mode, "limit": TOP})
        if answer["profile"] != profile:
            raise CommandError(f"The service runs {answer['profile']}, this process {profile}: no figure.")
        hits = [hit["external_id"] for hit in answer["hits"]]
        ranked = prepared.search.ranked(mode, lexemes=question.lexemes, vector=question.vector)
        found[question.id], best[question.id] = hits, ranked.first(TOP)
        overlaps.append(ranked.overlap(hits, top=TOP))
        advance()

    await in_parallel(prepared.questions, ask, concurrency=CONCURRENCY)
    judged = prepared.qrels
    return Compared(
        prepared.folder,
        mode,
        len(prepared.search.owners),
        overlaps,
        served=judge(judged, found)[0] if judged else None,
        exact=judge(judged, best)[0] if judged else None,
    )


def table(compared: Sequence[Compared]) -> Table:
    shown = Table("collection", "mode", title="served top-10 against exact", title_justify="left")
    for heading in ("passages", "questions", "overlap", "lowest", "nDCG@10 served", "exact"):
        shown.add_column(heading, justify="right")
    for each in compared:
        judged = [f"{ndcg:.4f}" if ndcg is not None else "-" for ndcg in (each.served, each.exact)]
        counts = f"{each.passages:,}", f"{len(each.overlaps):,}"
        shown.add_row(each.folder, each.mode, *counts, f"{each.overlap:.4f}", f"{min(each.overlaps):.1f}", *judged)
    return shown
