"""What hybrid search should have found, by brute force: every document scored by BM25 and cosine, fused by both formulas."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.dataset import Dataset
from bench.peers.given import whole_texts
from bench.peers.sides import LIMIT
from service.cli.figures.exact_ranking import ExactBm25, ExactSearch, Ranked, largest
from service.cli.figures.independent import RRF_K, reciprocal_ranks, throw_away_textbook

LEG = 100


@dataclass(frozen=True)
class Exact:
    """By query: the service's formula over its windows of 200, and reciprocal ranks of the first hundred of each leg."""

    linear: Sequence[Ranked]
    rrf: Sequence[Sequence[str]]

    def overlaps(self, found: Mapping[int, Sequence[str]]) -> tuple[float, float]:
        linear = [self.linear[query].overlap(ids, top=LIMIT) for query, ids in found.items()]
        rrf = [len(set(ids) & set(self.rrf[query][:LIMIT])) / LIMIT for query, ids in found.items()]
        return float(np.mean(linear)), float(np.mean(rrf))


async def exact_hybrid(dataset: Dataset, queries: int) -> Exact:
    """Lexemes are Postgres' own, of an embedded server that is gone afterwards."""
    bodies = {f"{place:09}": text for place, text in enumerate(whole_texts(dataset))}
    async with throw_away_textbook(bodies, language="english") as book:
        search = ExactSearch(dataset.ids, ExactBm25(await book.counted()), dataset.vectors)
        linear, rrf = [], []
        for query in range(queries):
            lexemes = await book.lexemes(dataset.queries[query])
            vector = dataset.query_vectors[query]
            linear.append(search.ranked("hybrid", lexemes=lexemes, vector=vector))
            said, near = search.bm25.scores(lexemes), dataset.vectors @ vector
            words = largest(said, min(LEG, int(np.count_nonzero(said))))
            legs = (words, largest(np.asarray(near, np.float64), LEG))
            rrf.append(reciprocal_ranks(*([dataset.ids[place] for place in leg] for leg in legs), k=RRF_K))
    return Exact(linear, rrf)
