"""Any number of chunks out of the real ones of a corpus: sentences of two abstracts, and a vector between theirs.

Embedding a million texts takes hours. A chunk made here has most of its sentences, and most of its vector, of one real
abstract; some of another; and noise of its own, so that the nearest neighbours of a real question are many and differ.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from service.cli.client import Json
from service.db.bulk_rows import ChunkDraft
from service.embeddings.base import Matrix

SENTENCE = re.compile(r"(?<=[.!?])\s+")
WORD = re.compile(r"[A-Za-z]{4,}")
MAIN, OTHER, NOISE = 0.75, 0.4, 0.45  # Lengths of the parts: the cosine to the main abstract is about .85.


@dataclass(frozen=True)
class Recombined:
    """`vectors[i]` is of `documents[i]`."""

    documents: Sequence[Json]
    vectors: Matrix

    def drafts(self, count: int, *, seed: int) -> Iterator[ChunkDraft]:
        """The same in every run."""
        chance = np.random.default_rng(seed)
        sentences = [SENTENCE.split(document["text"]) for document in self.documents]
        titles = [str(document.get("title") or "").split() for document in self.documents]
        n, dimension = self.vectors.shape
        for _ in range(count):
            main, other = chance.integers(0, n, 2)
            noise = chance.standard_normal(dimension, np.float32) * (NOISE / np.sqrt(dimension))
            vector = MAIN * self.vectors[main] + OTHER * self.vectors[other] + noise
            yield ChunkDraft(
                title=" ".join(front(titles[main]) + back(titles[other])),
                text=" ".join(mixed(sentences[main], sentences[other], chance)),
                vector=np.asarray(vector / np.linalg.norm(vector), np.float32),
            )

    def questions(self, count: int, *, seed: int) -> list[str]:
        """By turns a whole title and three words of an abstract."""
        chance = np.random.default_rng(seed)
        asked = []
        for number, place in enumerate(chance.integers(0, len(self.documents), count)):
            document = self.documents[place]
            words = sorted(set(WORD.findall(document["text"])))
            if number % 2 and len(words) > 2:  # noqa: PLR2004  three words
                asked.append(" ".join(chance.choice(words, 3, replace=False)))
            else:
                asked.append(str(document.get("title") or document["text"][:80]))
        return asked


def front(words: Sequence[str]) -> list[str]:
    return list(words[: (len(words) + 1) // 2])


def back(words: Sequence[str]) -> list[str]:
    return list(words[(len(words) + 1) // 2 :])


def mixed(main: Sequence[str], other: Sequence[str], chance: np.random.Generator) -> list[str]:
    """Two thirds of the one and a third of the other, drawn anew each time."""
    kept = chance.random(len(main)) < 2 / 3
    added = chance.random(len(other)) < 1 / 3
    text = [sentence for sentence, keep in zip(main, kept, strict=True) if keep]
    return [*text, *(sentence for sentence, add in zip(other, added, strict=True) if add)] or [main[0]]
