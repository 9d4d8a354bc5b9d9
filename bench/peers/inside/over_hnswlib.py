"""hnswlib: what one HNSW graph in memory does without a database, a filter or a text."""

from typing import Any

import hnswlib

from bench.peers.inside.answering import Given, serve

M, EF_CONSTRUCTION, EF = 16, 64, 40  # The graph as the service's index has it.


class Graph:
    def __init__(self, given: Given, _address: str) -> None:
        self.given, self.effort = given, 0

    def load(self) -> dict[str, Any]:
        vectors = self.given.vectors
        self.index = hnswlib.Index(space="ip", dim=vectors.shape[1])
        self.index.init_index(max_elements=len(vectors), M=M, ef_construction=EF_CONSTRUCTION)
        self.index.add_items(vectors, num_threads=1)
        self.index.set_num_threads(1)
        return {"M": M, "ef_construction": EF_CONSTRUCTION, "threads": 1}

    def search(self, query: int, *, limit: int, effort: int | None) -> list[str]:
        wanted = effort or EF
        if wanted != self.effort:
            self.index.set_ef(wanted)
            self.effort = wanted
        places, _ = self.index.knn_query(self.given.query_vectors[query], k=limit)
        return [self.given.ids[place] for place in places[0]]


serve(Graph)
