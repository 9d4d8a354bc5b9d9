"""Texts of a folder as pieces that fit one chunk each, and more of them than the folder has, put together anew."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from bench.failures import BenchError
from service.cli.failures import CommandError
from service.cli.lines import open_lines, read_lines

LEAST_WORDS, MOST_WORDS = 90, 170  # Few enough that title and text fit the 256 tokens of the usual model.
FEWEST_WORDS = 60  # A shorter text is no chunk like the others.
TITLE_WORDS = 12  # Of a document without a title.
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[^a-z\s])")
CORPUS = ("corpus.jsonl.gz", "corpus.jsonl")


@dataclass(frozen=True, slots=True)
class Piece:
    id: str
    title: str
    text: str


def sentences_of(text: str) -> list[str]:
    return [sentence.strip() for sentence in SENTENCE.split(text) if sentence.strip()]


def collections_in(data: Path) -> list[Path]:
    """The corpora that lie in a folder or directly below it, by name: lines of JSON with `_id`, `title` and `text`."""
    found = [
        next(file for name in CORPUS if (file := folder / name).is_file())
        for folder in [data, *sorted(data.iterdir())]
        if folder.is_dir() and any((folder / name).is_file() for name in CORPUS)
    ]
    if not found:
        raise BenchError(f"{data} has no corpus.jsonl or corpus.jsonl.gz, neither itself nor in a folder below it.")
    return found


def pieces_of(file: Path) -> Iterator[Piece]:
    """One or more a document: whole sentences, so many that each piece has the words of a chunk."""
    name = file.parent.name
    for document in _objects(file):
        text, identity = str(document.get("text") or ""), f"{name}/{document['_id']}"
        title = " ".join(str(document.get("title") or "").split()) or " ".join(text.split()[:TITLE_WORDS])
        for number, part in enumerate(_parts(text)):
            yield Piece(f"{identity}-{number}" if number else identity, title, part)


def _parts(text: str) -> Iterator[str]:
    part: list[str] = []
    for sentence in sentences_of(text):
        words = sentence.split()[:MOST_WORDS]
        if len(part) >= FEWEST_WORDS and len(part) + len(words) > MOST_WORDS:
            yield " ".join(part)
            part = []
        part = (part + words)[:MOST_WORDS]
    if len(part) >= FEWEST_WORDS:
        yield " ".join(part)


def recombined(pieces: Sequence[Piece], seed: int) -> Iterator[Piece]:
    """Without end: sentences of three pieces in turn, titled with what one of them says. All of it is real language."""
    number = 0
    while True:
        chance = np.random.default_rng([seed, 3, number])
        chosen = [pieces[place] for place in chance.integers(len(pieces), size=3)]
        title = [*chosen[0].title.split()[: TITLE_WORDS // 2], *chosen[1].title.split()[: TITLE_WORDS // 2]]
        pool = [sentence.split() for piece in chosen for sentence in sentences_of(piece.text)]
        words: list[str] = []
        for place in chance.permutation(len(pool)):
            if len(words) >= LEAST_WORDS:
                break
            words += pool[place]
        yield Piece(f"recombined-{number}", " ".join(title), " ".join(words[:MOST_WORDS]))
        number += 1


def _objects(file: Path) -> Iterator[dict[str, Any]]:
    try:
        with open_lines(file) as (stream, _file):
            for line in read_lines(stream):
                if line.raw and line.raw.strip():
                    document = orjson.loads(line.raw)
                    if not isinstance(document, dict) or "_id" not in document:
                        raise BenchError(f"{file}, line {line.number}: not an object with an _id.")
                    yield document
    except (orjson.JSONDecodeError, CommandError) as error:
        raise BenchError(f"{file}: {error}") from None
