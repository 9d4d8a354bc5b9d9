"""What filtered search is measured on: arXiv abstracts with their attributes, beside smaller collections in the same tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from rich.console import Console

from service.cli.client import Json
from service.cli.figures.corpus import corpus
from service.cli.figures.figure import data_folder
from service.cli.figures.known import Known
from service.cli.figures.points import DECLARED, Condition, Given, U
from service.cli.figures.texts import made_up_documents
from service.cli.figures.vectors import cached_vectors, open_own_embedder, whole_passages
from service.cli.lines import open_lines, read_lines
from service.embeddings.base import Matrix, Vector

SOURCE = "arxiv_30k"
MADE_UP = 3_000
MOST = 1_000_000
BESIDE = (5_000, 5_000, 1_000, 1_000, 100, 100)
JITTER = 0.01  # A coordinate: copies of .98 cosine, which crowd the graph where the large collection's nearest are.
CATEGORIES = 20  # Of made-up documents.


@dataclass(frozen=True)
class Question:
    text: str
    vector: Vector
    given: tuple[Given, ...] = ()


@dataclass(frozen=True)
class Filtered:
    large: Known
    beside: Sequence[Known]
    questions: Sequence[Question]
    profile: str


async def filtered(
    *, documents: int | None, questions: int, beside: Sequence[int] = BESIDE, vectors: Path, console: Console
) -> Filtered:
    """`documents` and `questions` are how many at most; without DATA all of it is made up, and that is said."""
    sources = corpus(SOURCE, documents or (MOST if data_folder(SOURCE) else MADE_UP), console=console)
    asked = read_questions(questions)
    async with open_own_embedder() as embedder:
        passages = whole_passages(sources, embedder)
        sent = await cached_vectors(passages, embedder=embedder, folder=vectors, console=console)
        texts = [text for text, _ in asked]
        wanted = await cached_vectors(texts, embedder=embedder, folder=vectors, console=console)
        profile = embedder.name
    large = Known("arxiv", described(sources, sent), sent, DECLARED)
    return Filtered(
        large=large,
        beside=[copied(large, min(size, len(sources)), seed=seed) for seed, size in enumerate(beside, 1)],
        questions=[Question(text, vector, given) for (text, given), vector in zip(asked, wanted, strict=True)],
        profile=profile,
    )


def described(sources: Sequence[Json], vectors: Matrix) -> list[Json]:
    """The documents with `u`, a year, and what else they have; a null is left out, as if it had never been there."""
    drawn = np.random.default_rng(0).integers(0, U, len(sources))
    anchors = np.random.default_rng(1).normal(size=(vectors.shape[1], CATEGORIES))
    nearest = (vectors @ anchors).argmax(axis=1)
    documents = []
    for place, source in enumerate(sources):
        attributes = source.get("attributes") or made_up_attributes(place, f"category-{nearest[place]}")
        attributes = {name: value for name, value in attributes.items() if value is not None}
        attributes |= {"u": int(drawn[place]), "year": int(attributes["created"][:4])}
        documents.append({**source, "attributes": attributes})
    return documents


def made_up_attributes(place: int, category: str) -> Json:
    """Documents of one category are near each other, as those of a subject are."""
    created = f"{1990 + place % 30}-{1 + place % 12:02}-{1 + place % 28:02}"
    return {"primary_cat": category, "categories": [category], "created": created, "num_authors": 1 + place % 7}


def copied(large: Known, size: int, *, seed: int) -> Known:
    """Some of its documents, with vectors near theirs."""
    chance = np.random.default_rng(seed)
    places = chance.choice(len(large.documents), size, replace=False)
    drawn = chance.integers(0, U, size)
    documents = [
        {**large.documents[place], "attributes": {**large.documents[place]["attributes"], "u": int(u)}}
        for place, u in zip(places, drawn, strict=True)
    ]
    moved = large.sent[places] + chance.normal(scale=JITTER, size=(size, large.sent.shape[1]))
    return Known(f"beside-{size}", documents, moved.astype(np.float32), large.declared)


def read_questions(count: int) -> list[tuple[str, tuple[Given, ...]]]:
    """Real titles, each with the filters that the reference asks it with; its answers are of another selection of arXiv."""
    folder = data_folder(SOURCE)
    file = folder / "filtered_reference.jsonl.gz" if folder else None
    if file is None or not file.is_file():
        return [(document["title"], ()) for document in made_up_documents(count, seed=8)]
    asked: dict[str, tuple[str, list[Given]]] = {}
    with open_lines(file) as (stream, _file):
        for line in read_lines(stream):
            question = orjson.loads(line.raw or b"{}")
            _, given = asked.setdefault(question["qid"], (question["text"], []))
            if question["filter"]:
                conditions = tuple(Condition(**condition) for condition in question["filter"])
                given.append(Given(question["filter_kind"], conditions))
    return [(text, tuple(given)) for text, given in list(asked.values())[:count]]
