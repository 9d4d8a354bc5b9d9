"""A corpus with all that an exact search needs: its passages, their vectors, and questions with theirs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from service.cli.client import Json
from service.cli.figures.corpus import corpus
from service.cli.figures.exact_ranking import ExactBm25, ExactSearch
from service.cli.figures.figure import data_folder
from service.cli.figures.filtered import MADE_UP, MOST, read_questions
from service.cli.figures.independent import throw_away_textbook
from service.cli.figures.vectors import cached_vectors, whole
from service.cli.judged import neutral, read_judged
from service.domain.texts import ChunkText, ExtractedText
from service.embeddings.base import Embedder, Matrix, Vector
from service.ingest.chunk import split_into_chunks
from service.ingest.index import passages

Qrels = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Question:
    id: str
    text: str
    vector: Vector
    lexemes: Sequence[str]


@dataclass(frozen=True)
class Prepared:
    """`vectors[i]` is of the document that `search.owners[i]` names; `qrels` is empty where nothing is judged."""

    folder: str
    documents: Sequence[Json]
    vectors: Matrix
    search: ExactSearch
    questions: Sequence[Question]
    qrels: Qrels


async def prepare(
    folder: str,
    *,
    chunked: bool,
    documents: int | None,
    questions: int | None,
    embedder: Embedder,
    vectors: Path,
    console: Console,
) -> Prepared:
    """`chunked` cuts texts as the worker does; else each document is one passage, as one that comes with a vector is."""
    place = data_folder(folder)
    sources = corpus(folder, documents or (MOST if place else MADE_UP), console=console)
    texts, qrels = asked(place, questions)
    pieces = [cut(document, embedder, chunked=chunked) for document in sources]
    matrix = await cached_vectors(
        [
            passage
            for document, chunks in zip(sources, pieces, strict=True)
            for passage in passages(document.get("title"), chunks, embedder)
        ],
        embedder=embedder,
        folder=vectors,
        console=console,
    )
    bodies = [
        f"{document.get('title') or ''}\n{chunk.text}"
        for document, chunks in zip(sources, pieces, strict=True)
        for chunk in chunks
    ]
    async with throw_away_textbook(
        {f"{place:09}": body for place, body in enumerate(bodies)}, language="english"
    ) as book:
        bm25 = ExactBm25(await book.counted())
        asking = [
            # One by one, as the service embeds them: a batch of others may move the last digits.
            Question(name, text, await embedder.embed_query(text), await book.lexemes(text))
            for name, text in texts.items()
        ]
    owners = [document["external_id"] for document, chunks in zip(sources, pieces, strict=True) for _ in chunks]
    return Prepared(folder, sources, matrix, ExactSearch(owners, bm25, matrix), asking, qrels)


def asked(place: Path | None, count: int | None) -> tuple[dict[str, str], Qrels]:
    """Judged questions in plain words, else titles without judgements."""
    if place is None or not (place / "qrels" / "test.tsv").is_file():
        titles = [text for text, _ in read_questions(count or MOST)]
        return {str(number): neutral(text) for number, text in enumerate(titles)}, {}
    judged = read_judged(place).first(count)
    return {name: neutral(text) for name, text in judged.queries.items()}, judged.qrels


def cut(document: Json, embedder: Embedder, *, chunked: bool) -> Sequence[ChunkText]:
    if not chunked:
        return [whole(document)]
    text = ExtractedText(document["text"], "text/plain")
    return split_into_chunks(text, title=document.get("title"), tokens=embedder) or [whole(document)]
