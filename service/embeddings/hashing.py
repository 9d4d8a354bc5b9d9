"""An embedder without a model, for tests and crash loops: words and their letters, hashed into 384 signed buckets."""

import asyncio
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from zlib import crc32

import numpy as np

from service.domain.errors import UnavailableError
from service.embeddings.base import Matrix, Vector
from service.telemetry.loads import EmbedderLoad

DIMENSION = 384
MAX_TOKENS = 256
SPECIAL_TOKENS = 2  # Counted as a BERT would, so that chunks come out in similar sizes.
WORD = re.compile(r"\w+|[^\w\s]")
WORD_WEIGHT = 4  # A whole word in common says more than its trigrams do.
LETTERS = 64  # Longer "words" are base64 or worse; their beginning is enough.
ROWS = 1024  # 6 MB of counts at a time.
WORDS_KEPT = 65_536  # A text repeats its words: remembering their buckets is most of the speed.


def word_buckets(word: str) -> tuple[int, ...]:
    """The buckets of a word and of its letter trigrams; a bucket of `DIMENSION` or more means minus one.

    crc32 instead of `hash()`, which differs between two runs.
    """
    word = word[:LETTERS]
    framed = f"<{word}>"
    grams = [framed[at : at + 3] for at in range(len(framed) - 2)]
    return tuple(
        crc32(feature.encode("utf-8", "surrogatepass")) % (2 * DIMENSION) for feature in [word] * WORD_WEIGHT + grams
    )


class HashingEmbedder:
    """Deterministic over runs and machines; texts that share words or word parts are near each other."""

    name = f"hashing-{DIMENSION}"
    dimension = DIMENSION
    max_tokens = MAX_TOKENS

    def __init__(self) -> None:
        self._buckets = lru_cache(maxsize=WORDS_KEPT)(word_buckets)
        self._closed = False
        self._queries = 0

    async def embed_query(self, text: str) -> Vector:
        self._refuse_when_closed()
        self._queries += 1
        vector: Vector = self._embed([text])[0]
        vector.flags.writeable = False
        return vector

    async def embed_passages(self, texts: Sequence[str]) -> Matrix:
        self._refuse_when_closed()
        return await asyncio.to_thread(self._embed, list(texts))

    def count_tokens(self, text: str) -> int:
        return sum(1 for _ in WORD.finditer(text)) + SPECIAL_TOKENS

    def token_starts(self, text: str) -> Sequence[int]:
        return [match.start() for match in WORD.finditer(text)]

    def load(self) -> EmbedderLoad:
        return EmbedderLoad(queries={"computed": self._queries})

    async def close(self) -> None:
        self._closed = True

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise UnavailableError("The embedder is closed.")

    def _embed(self, texts: Sequence[str]) -> Matrix:
        vectors = np.empty((len(texts), DIMENSION), np.float32)
        for start in range(0, len(texts), ROWS):
            part = texts[start : start + ROWS]
            vectors[start : start + len(part)] = self._embed_part(part)
        return vectors

    def _embed_part(self, texts: Sequence[str]) -> Matrix:
        cells: list[int] = []
        ends: list[int] = []
        for text in texts:
            for match in islice(WORD.finditer(text.casefold()), MAX_TOKENS - SPECIAL_TOKENS):
                cells.extend(self._buckets(match[0]))
            ends.append(len(cells))
        rows = np.repeat(np.arange(len(texts)), np.diff(ends, prepend=0))
        counts = np.bincount(rows * 2 * DIMENSION + np.asarray(cells, np.int64), minlength=len(texts) * 2 * DIMENSION)
        counts = counts.reshape(len(texts), 2, DIMENSION)
        signed = (counts[:, 0] - counts[:, 1]).astype(np.float32)
        vectors = np.sign(signed) * np.sqrt(np.abs(signed))  # The tenth "the" says little more than the first.
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors[lengths[:, 0] == 0, 0] = 1  # A text without words still needs a direction.
        return np.asarray(vectors / np.where(lengths == 0, 1, lengths), np.float32)
