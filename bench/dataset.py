"""What is measured with, the same for the service and for all that is compared with it: seeded, of any size, with exact answers."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.asked import distinct_queries
from bench.embedded import vectors_of
from bench.failures import BenchError
from bench.made_up import made_up
from bench.pieces import Piece, collections_in, pieces_of, recombined
from service.embeddings.base import Matrix

SHARES = 10_000  # `uniform` is drawn from 0 … 9,999, so that `u < 100` leaves one percent.
TIE = 1e-6  # Of two cosines so close either may stand first.
ROWS = 512  # Queries at a time: 60 MB of scores against 30,000 documents.

Places = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Dataset:
    """`vectors[i]` is of title, line break and text of document i, `(n, 384)` float32 of unit length.

    Each document is one chunk. `query_vectors` is of `queries`. `source` says in a sentence where the texts are from.
    """

    name: str
    seed: int
    ids: list[str]
    titles: list[str]
    texts: list[str]
    vectors: Matrix
    uniform: NDArray[np.int32]
    queries: list[str]
    query_vectors: Matrix
    source: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    def mask(self, selectivity: float | None) -> NDArray[np.bool_]:
        """The documents that `u < below(selectivity)` leaves; None leaves all."""
        return self.uniform < (SHARES if selectivity is None else below(selectivity))


@dataclass(frozen=True, slots=True)
class Truth:
    """`places[q]` are the k documents nearest to query q, best first, -1 where there are fewer.

    `least[q]` is the cosine of the last of them.
    """

    places: Places
    least: NDArray[np.float32]


def below(selectivity: float) -> int:
    """The bound of the filter `u < …` that leaves this share of the documents."""
    return round(selectivity * SHARES)


def load(size: int, *, queries: int = 10_000, seed: int = 0, data: Path | None, cache: Path) -> Dataset:
    """`size` documents of the corpora in `data`, in an order that the seed decides; None: made up ones.

    Where the folder has too few, the others are put together from its sentences. More documents begin with the same as
    fewer. Vectors are kept in `cache`. Blocks, minutes where nothing is cached. Raises BenchError.
    """
    pieces, source = _pieces(size, seed, data)
    titles, texts = [piece.title for piece in pieces], [piece.text for piece in pieces]
    asked = distinct_queries(titles, texts, queries)
    passages = [f"{title}\n{text}" for title, text in zip(titles, texts, strict=True)]
    vectors, query_vectors = vectors_of(passages, asked, cache=cache)
    return Dataset(
        name=f"{'made-up' if data is None else data.resolve().name}-{size}",
        seed=seed,
        ids=[piece.id for piece in pieces],
        titles=titles,
        texts=texts,
        vectors=vectors,
        uniform=np.random.default_rng([seed, 4]).integers(0, SHARES, size, np.int32),
        queries=asked,
        query_vectors=query_vectors,
        source=source,
    )


def _pieces(size: int, seed: int, data: Path | None) -> tuple[list[Piece], str]:
    if data is None:
        return list(islice(made_up(seed), size)), f"{size:,} made up documents of Zipf's words with topics"
    if not data.is_dir():
        raise BenchError(f"{data} is no folder.")
    files = collections_in(data)
    pool = list({piece.id: piece for piece in chain.from_iterable(map(pieces_of, files))}.values())
    if not pool:
        raise BenchError(f"No document in {data} is long enough for a chunk.")
    order = np.random.default_rng([seed, 5]).permutation(len(pool))
    shuffled: Iterator[Piece] = (pool[place] for place in order)
    names = ", ".join(sorted({file.parent.name for file in files}))
    source = f"{min(size, len(pool)):,} pieces of the documents in {names}"
    if size > len(pool):
        source += f", and {size - len(pool):,} put together anew from their sentences"
    return list(islice(chain(shuffled, recombined(pool, seed)), size)), source


def ground_truth(dataset: Dataset, k: int, selectivity: float | None = None) -> Truth:
    """By brute force: the k nearest of every query among the documents that the filter leaves, ties by place."""
    allowed = np.flatnonzero(dataset.mask(selectivity)).astype(np.int32)
    vectors, exist = dataset.vectors[allowed], min(k, len(allowed))
    places = np.full((len(dataset.queries), k), -1, np.int32)
    least = np.full(len(dataset.queries), np.inf, np.float32)
    for start in range(0, len(dataset.queries) if exist else 0, ROWS):
        scores = dataset.query_vectors[start : start + ROWS] @ vectors.T
        nearest = np.sort(np.argpartition(-scores, exist - 1, axis=1)[:, :exist], axis=1)
        values = np.take_along_axis(scores, nearest, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        places[start : start + ROWS, :exist] = allowed[np.take_along_axis(nearest, order, axis=1)]
        least[start : start + ROWS] = values.min(axis=1)
    return Truth(places, least)


def recall(dataset: Dataset, query: int, found: list[str], truth: Truth, places: dict[str, int]) -> float:
    """The share of the exact answer that was found; what is as near as its last is as good. 1 where nothing exists.

    `places` says where each id stands in `dataset.ids`.
    """
    exist = int(np.count_nonzero(truth.places[query] >= 0))
    if not exist:
        return float(not found)
    chosen = [places[name] for name in dict.fromkeys(found[: truth.places.shape[1]]) if name in places]
    cosines = dataset.vectors[chosen] @ dataset.query_vectors[query]
    return min(int(np.count_nonzero(cosines >= truth.least[query] - TIE)), exist) / exist
