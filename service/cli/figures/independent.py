"""BM25 and the textbook's recipe, computed beside the service over the same lexemes: what its rankings are held against."""

import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.cli.failures import CommandError
from service.db.textbook import Counted, Textbook, open_textbook
from service.local.postgres import EmbeddedPostgres

Scores = NDArray[np.float64]

K1, B = 1.2, 0.75  # The service's.
RRF_K = 60
NEAR_ENOUGH = 1e-5  # Of two scores so close, by their size, either may stand first: the service keeps single precision.


class IndependentBm25:
    """bm25s over passages whose lexemes are counted already; scores on the service's scale."""

    def __init__(self, passages: Sequence[Counted]) -> None:
        try:
            import bm25s  # noqa: PLC0415  (an extra that no service needs)
        except ImportError:
            raise CommandError("bm25s is not installed: pip install -e '.[figures]'.") from None
        self._terms: dict[str, int] = {}
        self._ids = [passage.id for passage in passages]
        self.places = {passage.id: place for place, passage in enumerate(passages)}
        corpus = [
            [
                self._terms.setdefault(lexeme, len(self._terms))
                for lexeme, count in zip(passage.lexemes, passage.counts, strict=True)
                for _ in range(count)
            ]
            for passage in passages
        ]
        self._index = bm25s.BM25(method="lucene", k1=K1, b=B, dtype="float64")
        self._index.index((corpus, self._terms), show_progress=False)

    def scores(self, lexemes: Iterable[str]) -> Scores:
        """Of every passage, in the order of `places`. Lucene's form leaves out the factor k1 + 1."""
        known = [self._terms[lexeme] for lexeme in lexemes if lexeme in self._terms]
        if not known:
            return np.zeros(len(self.places), np.float64)
        return np.asarray(self._index.get_scores(known), np.float64) * (K1 + 1)

    def best(self, lexemes: Iterable[str], count: int) -> list[str]:
        """Of the passages that have any of them."""
        scores = self.scores(lexemes)
        order = np.argsort(-scores, kind="stable")[: min(count, int(np.count_nonzero(scores)))]
        return [self._ids[place] for place in order.tolist()]


def agreement(found: Sequence[str], scores: Scores, places: Mapping[str, int], *, top: int) -> float:
    """The share of the best `top` that was found. Ties aside: what scores like the last of them is as good. 1 of nothing."""
    exist = min(top, int(np.count_nonzero(scores)))
    if not exist:
        return float(not found)
    least = np.partition(scores, -exist)[-exist] * (1 - NEAR_ENOUGH)
    right = sum(bool(scores[places[name]] >= least) for name in dict.fromkeys(found[:top]) if name in places)
    return min(right, exist) / exist


def reciprocal_ranks(*lists: Sequence[str], k: float = RRF_K) -> list[str]:
    """Fused by `sum(1 / (k + rank))`, rank from 1; ties by name."""
    scores: dict[str, float] = {}
    for ranked in lists:
        for rank, name in enumerate(ranked, 1):
            scores[name] = scores.get(name, 0.0) + 1 / (k + rank)
    return sorted(scores, key=lambda name: (-scores[name], name))


@asynccontextmanager
async def throw_away_textbook(passages: Mapping[str, str], *, language: str) -> AsyncIterator[Textbook]:
    """The passages, title and text by id, in an embedded Postgres that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="textbook-") as folder:
        server = EmbeddedPostgres(Path(folder), settings={"fsync": "off", "synchronous_commit": "off"})
        await server.start()
        try:
            async with open_textbook(server.url(), language=language) as textbook:
                await textbook.load(passages)
                yield textbook
        finally:
            await server.stop()
