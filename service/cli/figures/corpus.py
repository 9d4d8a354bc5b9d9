"""Documents and questions to measure with: those of DATA, else made up ones, and then it is said."""

from itertools import islice
from pathlib import Path

import orjson
from rich.console import Console

from service.cli.client import Json
from service.cli.failures import CommandError
from service.cli.figures.figure import data_folder
from service.cli.figures.texts import made_up_documents
from service.cli.judged import read_judged
from service.cli.lines import document_of, open_lines, read_lines

MADE_UP = 1_500


def corpus(collection: str, count: int | None, *, console: Console) -> list[Json]:
    """Return the first documents of a folder of DATA in the layout of BEIR; None: all."""
    folder = data_folder(collection)
    if folder is None:
        console.print(f"DATA has no {collection}: the documents are made up.")
        return made_up_documents(MADE_UP if count is None else count)
    for name in ("corpus.jsonl.gz", "corpus.jsonl"):
        if (folder / name).exists():
            return _first_lines(folder / name, count)
    raise CommandError(f"{folder} has no corpus.jsonl.gz.")


def judged_texts(collection: str, *, console: Console) -> tuple[list[Json], list[str]]:
    """Return the whole corpus of a judged folder of DATA, and its questions."""
    folder = data_folder(collection)
    if folder is None:
        console.print(f"DATA has no {collection}: documents and questions are made up.")
        documents = made_up_documents(MADE_UP)
        return documents, [document["title"] for document in documents]
    judged = read_judged(folder)
    return _first_lines(judged.corpus, None), list(judged.queries.values())


def _first_lines(file: Path, count: int | None) -> list[Json]:
    with open_lines(file) as (stream, _file):
        lines = islice(read_lines(stream), count)
        documents = [orjson.loads(document_of(line.raw or b"", number=line.number, source=file.name)) for line in lines]
    return [document for document in documents if document["text"] or document["title"]]
