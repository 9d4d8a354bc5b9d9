"""The whole search a second time, in NumPy: all passages scored by both legs, then the contract's windows and formula."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from service.db.textbook import Counted
from service.domain.queries import Fusion, Mode
from service.embeddings.base import Matrix, Vector

K1, B = 1.2, 0.75  # The service's.
TIE = 1e-5  # Of two scores so close, by their size, either may stand first: the service keeps single precision.

Scores = NDArray[np.float64]


class ExactBm25:
    """Over passages whose lexemes are counted; every term counts, however frequent, and so does every passage."""

    def __init__(self, passages: Sequence[Counted]) -> None:
        names = chain.from_iterable(passage.lexemes for passage in passages)
        self._terms = {name: number for number, name in enumerate(dict.fromkeys(names))}
        each = [len(passage.lexemes) for passage in passages]
        term = np.array([self._terms[name] for passage in passages for name in passage.lexemes], np.int64)
        tf = np.array([count for passage in passages for count in passage.counts], np.float64)
        place = np.repeat(np.arange(len(passages)), each)
        lengths = np.bincount(place, weights=tf, minlength=len(passages))
        weight = tf * (K1 + 1) / (tf + K1 * (1 - B + B * lengths[place] / lengths.mean()))
        order = np.argsort(term, kind="stable")
        df = np.bincount(term, minlength=len(self._terms))
        self._ends = np.cumsum(df)
        self._idf = np.log(1 + (len(passages) - df + 0.5) / (df + 0.5))
        self._places, self._weights = place[order], weight[order]
        self._count = len(passages)

    def scores(self, lexemes: Sequence[str]) -> Scores:
        """Of every passage, 0 where no lexeme of the question occurs."""
        scores = np.zeros(self._count)
        for term in (self._terms[name] for name in set(lexemes) if name in self._terms):
            postings = slice(self._ends[term - 1] if term else 0, self._ends[term])
            scores[self._places[postings]] += self._idf[term] * self._weights[postings]
        return scores


@dataclass(frozen=True)
class Ranked:
    """Documents with the score of their best passage, best first."""

    scores: Mapping[str, float]

    def first(self, count: int) -> list[str]:
        return list(islice(self.scores, count))

    def overlap(self, found: Sequence[str], *, top: int) -> float:
        """The share of the best `top` that was found. What scores like the last of them is as good; 1 where none exist."""
        best = self.first(top)
        if not best:
            return float(not found)
        least = self.scores[best[-1]] - TIE * abs(self.scores[best[-1]])
        right = sum(self.scores.get(name, -np.inf) >= least for name in dict.fromkeys(found[:top]))
        return min(right, len(best)) / len(best)


@dataclass(frozen=True)
class ExactSearch:
    """`owners[i]` is the document of passage i, `vectors[i]` its embedding in single precision."""

    owners: Sequence[str]
    bm25: ExactBm25
    vectors: Matrix

    def ranked(self, mode: Mode, *, lexemes: Sequence[str], vector: Vector) -> Ranked:
        near = np.asarray(self.vectors @ vector, np.float64)
        said = self.bm25.scores(lexemes)
        if mode == "semantic":
            return self._best(near, largest(near, len(near)))
        if mode == "lexical":
            return self._best(said, largest(said, int(np.count_nonzero(said))))
        window = Fusion().window
        words = largest(said, min(window, int(np.count_nonzero(said))))
        union = np.union1d(largest(near, window), words)
        scores = np.zeros_like(near)
        scores[union] = linear(near[union], said[union], alpha=Fusion().alpha)
        return self._best(scores, union[largest(scores[union], len(union))])

    def _best(self, scores: Scores, order: NDArray[np.int64]) -> Ranked:
        best: dict[str, float] = {}
        for place in order.tolist():
            best.setdefault(self.owners[place], float(scores[place]))
        return Ranked(best)


def largest(scores: Scores, count: int) -> NDArray[np.int64]:
    return np.argsort(-scores, kind="stable")[:count]


def linear(near: Scores, said: Scores, *, alpha: float) -> Scores:
    """`alpha * (s - min s) / (max s - min s) + (1 - alpha) * l / max l`, a term with denominator 0 being 0."""
    spread, most = near.max() - near.min(), said.max()
    semantic = (near - near.min()) / spread if spread else np.zeros_like(near)
    lexical = said / most if most else np.zeros_like(said)
    return np.asarray(alpha * semantic + (1 - alpha) * lexical)
