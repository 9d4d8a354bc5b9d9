"""LanceDB: vectors in IVF with HNSW and scalar quantisation, refined; BM25 in its full-text index; fused by RRF."""

import shutil
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa
from lancedb.index import FTS
from lancedb.rerankers import RRFReranker

from bench.peers.inside.answering import Given, serve

REFINE = 3  # Times the limit, read again with whole vectors: without it quantisation costs recall.
EF = 80


class Lance:
    def __init__(self, given: Given, place: str) -> None:
        self.given = given
        shutil.rmtree(place, ignore_errors=True)
        self.database = lancedb.connect(Path(place))
        self.reranker = RRFReranker()

    def load(self) -> dict[str, Any]:
        given, width = self.given, self.given.vectors.shape[1]
        rows = pa.table(
            {
                "id": given.ids,
                "text": given.texts,
                "u": given.uniform,
                "vector": pa.FixedSizeListArray.from_arrays(given.vectors.ravel(), width),
            }
        )
        self.table = self.database.create_table("documents", rows)
        # One partition: so few rows need no second level.
        self.table.create_index(metric="dot", index_type="IVF_HNSW_SQ", num_partitions=1, vector_column_name="vector")
        self.table.create_index("text", config=FTS())
        return {"index": "IVF_HNSW_SQ, 1 partition", "ef": EF, "refine": REFINE, "full text": "FTS, English, RRF 60"}

    def search(self, query: int, *, limit: int, effort: int | None) -> list[str]:
        asked = (
            self.table.search(query_type="hybrid")
            .vector(self.given.query_vectors[query])
            .text(words(self.given.queries[query]))
            .ef(effort or EF)
            .refine_factor(REFINE)
            .rerank(self.reranker)
            .limit(limit)
            .select(["id", "text"])
        )
        found: list[str] = asked.to_arrow()["id"].to_pylist()
        return found


def words(query: str) -> str:
    """A quote would begin a phrase."""
    return query.replace('"', " ")


serve(Lance)
