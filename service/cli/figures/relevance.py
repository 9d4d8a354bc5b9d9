"""Whether hybrid search is better than its legs, than ranks alone and than the textbook, on judged collections."""

import asyncio
import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from service.cli.address import find_address
from service.cli.evaluate import MODES, Evaluation, evaluate_folder, print_evaluation
from service.cli.failures import CommandError
from service.cli.figures.beside import LEG, TEXTBOOK
from service.cli.figures.corpus import corpus
from service.cli.figures.figure import Figure, data_folder, report
from service.cli.figures.independent import reciprocal_ranks, throw_away_textbook
from service.cli.figures.vectors import (
    VectorsOption,
    cached_vectors,
    folder_of_vectors,
    open_own_embedder,
    whole_passages,
)
from service.cli.judged import measure, neutral, read_judged

COLLECTIONS = ("cranfield", "scifact_train", "medquad_dev")
OVER_LEG, OVER_LEG_ON_AVERAGE, OVER_RRF, OVER_TEXTBOOK, OVER_TEXTBOOK_ON_SCIFACT = 0.015, 0.03, 0.01, 0.015, 0.1


@dataclass(frozen=True)
class Gains:
    """nDCG@10 of hybrid search minus that of another ranking."""

    collection: str
    leg: float
    rrf: float
    textbook: float  # its rows are whole documents, as it is written
    chunked: float  # its rows are the service's chunks


def relevance(
    *,
    collections: Annotated[str, typer.Option(help="Judged folders of DATA, separated by commas.")] = ",".join(
        COLLECTIONS
    ),
    language: Annotated[str, typer.Option(help="Text-search configuration of the collections.")] = "english",
    vectors: VectorsOption = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the collections for the next run.")] = False,
) -> None:
    """Print nDCG@10 of every mode, and how far hybrid is above its better leg, RRF and the textbook's recipe.

    The textbook's recipe is RRF (k = 60) over `ts_rank_cd` (OR, the stronger form) and exact cosines, one row a document;
    over the service's own chunks it is stronger still, and that is printed too. Its vectors come from the embedder of
    EMBEDDING_MODEL in this process.
    """
    names = [name.strip() for name in collections.split(",")]
    report(measure_all(names, language=language, vectors=folder_of_vectors(vectors), keep=keep))


async def measure_all(names: Sequence[str], *, language: str, vectors: Path, keep: bool) -> list[Figure]:
    gains = []
    for name in names:
        folder = data_folder(name)
        if folder is None:
            raise CommandError(f"DATA has no {name}, and relevance needs judgements.")
        evaluation = await evaluate_folder(
            folder,
            address=find_address(os.environ),
            modes=MODES,
            limit_queries=None,
            language=language,
            keep=keep,
            console=Console(stderr=True),
            compare=True,
        )
        if evaluation.first_failure:
            raise CommandError(f"A query failed, so that no figure would be true: {evaluation.first_failure}")
        textbook = await textbook_on_documents(folder, language=language, vectors=vectors)
        print_evaluation(Console(), evaluation)
        gains.append(gains_of(name, evaluation, textbook))
    return figures(gains)


async def textbook_on_documents(folder: Path, *, language: str, vectors: Path) -> float:
    """nDCG@10 of the recipe with whole documents for rows; what is beyond the model's length has no part in its vector."""
    judged, console = read_judged(folder), Console(stderr=True)
    documents = await asyncio.to_thread(corpus, folder.name, None, console=console)
    names = [document["external_id"] for document in documents]
    ranked = {}
    async with open_own_embedder() as embedder:
        matrix = await cached_vectors(
            whole_passages(documents, embedder), embedder=embedder, folder=vectors, console=console
        )
        passages = {each["external_id"]: f"{each.get('title') or ''}\n{each['text']}" for each in documents}
        async with throw_away_textbook(passages, language=language) as textbook:
            for query, text in judged.queries.items():
                question = neutral(text)
                cosines = matrix @ await embedder.embed_query(question)
                near = [names[place] for place in np.argsort(-cosines, kind="stable")[:LEG].tolist()]
                ranked[query] = reciprocal_ranks(await textbook.ranked(question, limit=LEG), near)
    return measure(judged.qrels, ranked)[0]


def gains_of(name: str, evaluation: Evaluation, textbook: float) -> Gains:
    hybrid = next(mode.ndcg_10 for mode in evaluation.modes if mode.mode == "hybrid")
    leg, rrf, chunked = evaluation.hybrid_gain, evaluation.hybrid_over("rrf"), evaluation.hybrid_over(TEXTBOOK)
    if leg is None or rrf is None or chunked is None:
        raise CommandError(f"{name} was not measured in every mode: no figure.")
    return Gains(name, leg, rrf, hybrid - textbook, chunked)


def figures(gains: Sequence[Gains]) -> list[Figure]:
    leg, rrf = (statistics.fmean(each) for each in ([g.leg for g in gains], [g.rrf for g in gains]))
    return [
        Figure(
            what="hybrid nDCG@10 minus the better leg",
            goal=f"each ≥ {OVER_LEG:+}; on average ≥ {OVER_LEG_ON_AVERAGE:+}",
            measured=f"{listed((g.collection, g.leg) for g in gains)}; on average {leg:+.4f}",
            met=all(g.leg >= OVER_LEG for g in gains) and leg >= OVER_LEG_ON_AVERAGE,
        ),
        Figure(
            what="hybrid nDCG@10 minus RRF (k = 60) over the same legs",
            goal=f"on average ≥ {OVER_RRF:+}",
            measured=f"on average {rrf:+.4f} ({listed((g.collection, g.rrf) for g in gains)})",
            met=rrf >= OVER_RRF,
        ),
        Figure(
            what="hybrid nDCG@10 minus the textbook's recipe (RRF over ts_rank_cd and vectors), one row a document",
            goal=f"each ≥ {OVER_TEXTBOOK:+}; SciFact ≥ {OVER_TEXTBOOK_ON_SCIFACT:+}",
            measured=listed((g.collection, g.textbook) for g in gains)
            + f" (over the service's chunks: {listed((g.collection, g.chunked) for g in gains)})",
            met=all(g.textbook >= least_over_textbook(g.collection) for g in gains),
        ),
    ]


def least_over_textbook(collection: str) -> float:
    return OVER_TEXTBOOK_ON_SCIFACT if "scifact" in collection else OVER_TEXTBOOK


def listed(gains: Iterable[tuple[str, float]]) -> str:
    return ", ".join(f"{name} {gain:+.4f}" for name, gain in gains)
