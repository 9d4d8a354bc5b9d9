"""Recall and nDCG of the very answers whose latency is measured, against an exact search over the same documents."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.dataset import TIE, Dataset
from bench.deck import LIMIT
from bench.wire import OK, Sent
from service.cli.figures.exact_ranking import ExactBm25, ExactSearch, Ranked
from service.cli.figures.independent import throw_away_textbook
from service.cli.judged import measure as judge
from service.db.textbook import Counted
from service.domain.queries import Mode

LANGUAGE = "english"


@dataclass(frozen=True, slots=True)
class Lexemes:
    """What Postgres makes of every document and of the queries that are assessed."""

    documents: Sequence[Counted]
    queries: dict[int, list[str]]


async def read_lexemes(dataset: Dataset, queries: Iterable[int]) -> Lexemes:
    """In a Postgres that is gone afterwards: the lexemes are Postgres', the arithmetic on them is NumPy's."""
    bodies = {
        f"{place:09}": f"{title}\n{text}"
        for place, (title, text) in enumerate(zip(dataset.titles, dataset.texts, strict=True))
    }
    async with throw_away_textbook(bodies, language=LANGUAGE) as book:
        documents = await book.counted()
        return Lexemes(documents, {query: await book.lexemes(dataset.queries[query]) for query in queries})


@dataclass
class Quality:
    """Of a dataset or of its first documents. Only queries with lexemes are assessed; each exact answer is kept."""

    dataset: Dataset
    lexemes: Lexemes
    size: int
    _search: ExactSearch | None = None
    _exact: dict[tuple[str, int, float | None], Ranked] = field(default_factory=dict)

    def assess(self, sent: Sequence[Sent], mode: Mode, selectivity: float | None = None) -> dict[str, Any]:
        """Means over the answers: `recall` at 10, nDCG at 10 of titles that were asked for, `exact_ndcg` of an exact search.

        nDCG knows one thing for certain: a whole title asks for the documents of that title. It is left out where a
        filter may have taken them away. Under a filter only vector search is assessed: empty of the other modes.
        """
        if selectivity is not None and mode != "semantic":
            return {}
        known = set(self.dataset.ids[: self.size])
        found = {
            each.query: [hit for hit in each.hits if hit in known]
            for each in sent
            if each.outcome == OK and each.hits is not None and each.query in self.lexemes.queries
        }
        if not found:
            return {}
        exact = {query: self._ranked(mode, query, selectivity) for query in found}
        recalls = [exact[query].overlap(hits, top=LIMIT) for query, hits in found.items()]
        assessed: dict[str, Any] = {
            "queries": len(found),
            "recall": round(float(np.mean(recalls)), 5),
            "lowest_recall": round(min(recalls), 5),
        }
        if selectivity is None and (wanted := self._wanted(found)):
            served = {str(query): found[query] for query in found if str(query) in wanted}
            best = {str(query): exact[query].first(LIMIT) for query in found if str(query) in wanted}
            assessed |= {"ndcg": round(judge(wanted, served)[0], 5), "exact_ndcg": round(judge(wanted, best)[0], 5)}
            assessed["titles"] = len(wanted)
        return assessed

    def _wanted(self, queries: Iterable[int]) -> dict[str, dict[str, int]]:
        titles: dict[str, list[str]] = {}
        for place in range(self.size):
            titles.setdefault(self.dataset.titles[place].casefold(), []).append(self.dataset.ids[place])
        return {
            str(query): dict.fromkeys(titles[asked], 1)
            for query in queries
            if (asked := self.dataset.queries[query].casefold()) in titles
        }

    def _ranked(self, mode: Mode, query: int, selectivity: float | None) -> Ranked:
        kept = self._exact.get((mode, query, selectivity))
        if kept is None:
            kept = self._exact[mode, query, selectivity] = self._compute(mode, query, selectivity)
        return kept

    def _compute(self, mode: Mode, query: int, selectivity: float | None) -> Ranked:
        vector = self.dataset.query_vectors[query]
        if mode == "semantic":
            allowed = np.flatnonzero(self.dataset.mask(selectivity)[: self.size])
            cosines = self.dataset.vectors[allowed] @ vector
            least = np.partition(cosines, -LIMIT)[-LIMIT] - TIE if len(cosines) > LIMIT else -np.inf
            near = np.flatnonzero(cosines >= least)
            order = near[np.argsort(-cosines[near], kind="stable")]
            return Ranked({self.dataset.ids[allowed[place]]: float(cosines[place]) for place in order})
        if self._search is None:
            passages = self.lexemes.documents[: self.size]
            vectors = self.dataset.vectors[: self.size]
            self._search = ExactSearch(self.dataset.ids[: self.size], ExactBm25(passages), vectors)
        ranked = self._search.ranked(mode, lexemes=self.lexemes.queries[query], vector=vector)
        return Ranked({name: ranked.scores[name] for name in ranked.first(5 * LIMIT)})  # Ties are among them.
