"""The embedder that everybody meets: a model behind a cache of queries, single flight and a bounded queue."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from service.domain.errors import OverloadedError
from service.embeddings.base import Matrix, Vector
from service.embeddings.encoder import Encoder, Purpose, Sequenced
from service.embeddings.inference import QUERIES_TOGETHER, Inference
from service.telemetry.loads import EmbedderLoad

QUERIES_WAITING = 256  # Different queries in flight; at 16 together that is about a second of work for one core.
SHORT = 2_048  # Characters that are tokenised within .5 ms: less than a thread hop would be worth.


class SentenceTransformerEmbedder:
    """One process's embedder. Belongs to the event loop that first uses it."""

    def __init__(
        self,
        encoder: Encoder,
        *,
        threads: int,
        queries_cached: int,
        queries_waiting: int = QUERIES_WAITING,
        queries_together: int = QUERIES_TOGETHER,
    ) -> None:
        self.name = encoder.name
        self.dimension = encoder.dimension
        self.max_tokens = encoder.max_tokens
        self._encoder = encoder
        self._inference = Inference(encoder, threads=threads, queries_together=queries_together)
        self._queries_cached = queries_cached
        self._queries_waiting = queries_waiting
        self._cache: OrderedDict[str, Vector] = OrderedDict()
        self._in_flight: dict[str, asyncio.Task[Vector]] = {}
        self._answers = {"cached": 0, "joined": 0, "computed": 0, "refused": 0}

    async def embed_query(self, text: str) -> Vector:
        """The query's vector, white space squeezed; the same text is computed once, whoever else is asking for it."""
        query = " ".join(text.split())
        if (cached := self._cache.get(query)) is not None:
            self._cache.move_to_end(query)
            self._answers["cached"] += 1
            return cached
        computing = self._in_flight.get(query)
        if computing is not None:
            self._answers["joined"] += 1
        else:
            if len(self._in_flight) >= self._queries_waiting:
                self._answers["refused"] += 1
                raise OverloadedError("Too many queries are waiting for the embedding model.")
            self._answers["computed"] += 1
            computing = self._in_flight[query] = asyncio.create_task(self._compute(query))
        # Shielded: a caller who leaves must not take the answer away from the others.
        return await asyncio.shield(computing)

    async def embed_passages(self, texts: Sequence[str]) -> Matrix:
        """The longest texts are computed first, so that a slice is even."""
        sequences = await self._tokenize(texts)
        order = sorted(range(len(texts)), key=lambda at: len(sequences[at].ids), reverse=True)
        matrix = np.empty((len(texts), self.dimension), np.float32)
        matrix[order] = await self._embed([sequences[at] for at in order], purpose="passage")
        return matrix

    def count_tokens(self, text: str) -> int:
        return self._encoder.count_tokens(text)

    def token_starts(self, text: str) -> Sequence[int]:
        return self._encoder.token_starts(text)

    def load(self) -> EmbedderLoad:
        return EmbedderLoad(*self._inference.waiting(), cached=len(self._cache), queries=dict(self._answers))

    async def close(self) -> None:
        await asyncio.to_thread(self._inference.close)

    async def _compute(self, query: str) -> Vector:
        try:
            vector: Vector = (await self._embed(await self._tokenize([query]), purpose="query"))[0]
            vector.flags.writeable = False  # Callers share it.
            self._cache[query] = vector
            while len(self._cache) > self._queries_cached:
                self._cache.popitem(last=False)
            return vector
        finally:
            del self._in_flight[query]

    async def _embed(self, sequences: Sequence[Sequenced], *, purpose: Purpose) -> Matrix:
        return await asyncio.wrap_future(self._inference.submit(sequences, purpose=purpose))

    async def _tokenize(self, texts: Sequence[str]) -> list[Sequenced]:
        if sum(map(len, texts)) <= SHORT:
            return self._encoder.tokenize(texts)
        return await asyncio.to_thread(self._encoder.tokenize, texts)
