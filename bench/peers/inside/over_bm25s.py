"""bm25s: what exact BM25 in memory does; English stop words and stems as Postgres' `english` has them."""

from typing import Any

import bm25s
import Stemmer

from bench.peers.inside.answering import Given, serve

K1, B = 1.2, 0.75


class Bm25:
    def __init__(self, given: Given, _address: str) -> None:
        self.given, self.stemmer = given, Stemmer.Stemmer("english")

    def load(self) -> dict[str, Any]:
        self.index = bm25s.BM25(k1=K1, b=B)
        self.index.index(self.tokens(self.given.texts), show_progress=False)
        return {"k1": K1, "b": B, "words": "English stop words, Snowball stems"}

    def tokens(self, texts: list[str]) -> object:
        return bm25s.tokenize(texts, stopwords="en", stemmer=self.stemmer, show_progress=False)

    def search(self, query: int, *, limit: int, effort: int | None) -> list[str]:  # noqa: ARG002 - it is exact
        asked = self.tokens([self.given.queries[query]])
        places, _ = self.index.retrieve(asked, k=limit, show_progress=False, n_threads=0)
        return [self.given.ids[place] for place in places[0]]


serve(Bm25)
