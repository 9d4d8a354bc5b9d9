"""The question's vector, and what to do where there is none."""

from dataclasses import replace

import numpy as np

from service.domain.documents import Collection
from service.domain.errors import OverloadedError, UnavailableError
from service.domain.hits import SearchWarning
from service.domain.queries import Query, Words
from service.embeddings.base import Vector
from service.search.tools import Searching


async def embedded(
    query: Query, words: Words, collection: Collection, *, tools: Searching
) -> tuple[Query, Vector | None, tuple[SearchWarning, ...]]:
    """The question's vector, unit length. Where there is none a hybrid search becomes a lexical one, and says so."""
    if query.mode == "lexical":
        return query, None, ()
    try:
        return query, await vector_of(query, words, collection, tools=tools), ()
    except (OverloadedError, UnavailableError) as error:
        if query.mode == "semantic":
            raise
        warning = SearchWarning("lexical_only", f"these hits are found by their words alone: {error}")
        return replace(query, mode="lexical"), None, (warning,)


async def vector_of(query: Query, words: Words, collection: Collection, *, tools: Searching) -> Vector:
    """Raises OverloadedError or UnavailableError."""
    if collection.profile_id != tools.profile.id:
        # Vectors of two models have nothing to say to each other.
        raise UnavailableError(f"the collection's embeddings are not of {tools.profile.name}, which this service runs")
    if query.vector is None:
        return await tools.embedder.embed_query(words.text)
    given = np.asarray(query.vector, np.float64)
    given /= np.abs(given).max()  # or the squares of large and small numbers would leave the range
    return np.asarray(given / np.linalg.norm(given), np.float32)
