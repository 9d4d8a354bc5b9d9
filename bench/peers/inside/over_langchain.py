"""langchain-postgres: PGVectorStore with HNSW and its HybridSearchConfig over a stored tsvector, fused by RRF."""

import asyncio
from dataclasses import replace
from typing import Any

from langchain_core.embeddings import Embeddings
from langchain_postgres import Column, PGEngine
from langchain_postgres.v2.async_vectorstore import AsyncPGVectorStore
from langchain_postgres.v2.hybrid_search_config import HybridSearchConfig, reciprocal_rank_fusion
from langchain_postgres.v2.indexes import DistanceStrategy, HNSWIndex, HNSWQueryOptions

from bench.peers.inside.answering import Given, serve

TABLE = "documents"
EF = 100
LEG = 100  # Candidates of each leg.
BATCH = 1_000


class Looked(Embeddings):
    """Vectors are given, so nothing is embedded."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise NotImplementedError

    def embed_query(self, text: str) -> list[float]:
        raise NotImplementedError


class Chain:
    """Its async store in an event loop of this process: the sync one hands every call to a thread of its own."""

    def __init__(self, given: Given, address: str) -> None:
        self.given = given
        self.loop = asyncio.new_event_loop()
        self.hybrid = HybridSearchConfig(
            tsv_column="text_tsv",
            tsv_lang="pg_catalog.english",
            fusion_function=reciprocal_rank_fusion,
            fusion_function_parameters={"rrf_k": 60},
            primary_top_k=LEG,
            secondary_top_k=LEG,
        )
        self.address = address.replace("postgresql://", "postgresql+asyncpg://")

    def load(self) -> dict[str, Any]:
        return self.loop.run_until_complete(self.loaded())

    async def loaded(self) -> dict[str, Any]:
        given = self.given
        engine = PGEngine.from_connection_string(url=self.address)
        await engine._ainit_vectorstore_table(  # noqa: SLF001 - the public one runs in a loop of its own
            TABLE,
            vector_size=given.vectors.shape[1],
            id_column=Column("langchain_id", "TEXT"),
            metadata_columns=[Column("u", "INTEGER")],
            overwrite_existing=True,
            hybrid_search_config=self.hybrid,
        )
        self.store = await AsyncPGVectorStore.create(
            engine,
            Looked(),
            TABLE,
            metadata_columns=["u"],
            distance_strategy=DistanceStrategy.INNER_PRODUCT,
            hybrid_search_config=self.hybrid,
            index_query_options=HNSWQueryOptions(ef_search=EF),
        )
        for start in range(0, len(given.ids), BATCH):
            part = slice(start, start + BATCH)
            await self.store.aadd_embeddings(
                given.texts[part],
                given.vectors[part].tolist(),
                [{"u": int(u)} for u in given.uniform[part]],
                given.ids[part],
            )
        index = HNSWIndex(name="documents_hnsw", distance_strategy=DistanceStrategy.INNER_PRODUCT)
        await self.store.aapply_vector_index(index)
        await self.store.aapply_hybrid_search_index()
        return {"index": "HNSW m 16, ef_construction 64", "ef": EF, "legs": LEG, "full text": "ts_rank_cd, GIN, RRF 60"}

    def search(self, query: int, *, limit: int, effort: int | None) -> list[str]:
        self.store.index_query_options = HNSWQueryOptions(ef_search=effort or EF)
        # A config keeps the words of the first query that it meets, so each gets its own.
        asked = replace(self.hybrid, fts_query=self.given.queries[query])
        found = self.loop.run_until_complete(
            self.store.asimilarity_search_by_vector(
                self.given.query_vectors[query].tolist(), k=limit, hybrid_search_config=asked
            )
        )
        return [str(document.id) for document in found if document.page_content]


serve(Chain)
