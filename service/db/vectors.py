"""Embeddings of chunks that a search has found, read through the reading door."""

from collections.abc import Mapping, Sequence
from typing import cast
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ARRAY, LargeBinary, Uuid, bindparam, func, literal_column, select

from service.db.read_pool import Reader
from service.db.retrieval import SearchDialect, Statement, scoped
from service.db.semantic import PROFILE
from service.db.tables import search_embeddings as e

HEAD = 4  # Bytes before the numbers in pgvector's wire form: dimension, unused.


def vectors_statement() -> Statement:
    """(chunk's id, halves in network order) of those chunks that are in the scoped collection."""
    scope = scoped()
    wanted = func.any(bindparam("chunk_ids", type_=ARRAY(Uuid)))
    rows = select(e.c.chunk_id, e.c.collection_id, e.c.embedding).where(
        e.c.profile_id == PROFILE, e.c.chunk_id == wanted
    )
    # OFFSET 0: the planner would also read the whole collection from its index, to intersect the two.
    near = rows.offset(literal_column("0")).subquery("near")
    # As bytes: 200 vectors of 384 numbers would be 77,000 objects otherwise.
    columns = (
        func.uuid_send(near.c.chunk_id, type_=LargeBinary),
        func.halfvec_send(near.c.embedding, type_=LargeBinary),
    )
    found = select(*columns).select_from(scope.join(near, near.c.collection_id == scope.c.id))
    compiled = found.compile(dialect=SearchDialect())  # type: ignore[no-untyped-call]
    return Statement(str(compiled), tuple(compiled.positiontup or ()), prepared=True)


VECTORS = vectors_statement()


async def read_vectors(
    chunk_ids: Sequence[str], *, collection_id: UUID, profile_id: UUID, reader: Reader, settings: Mapping[str, str]
) -> dict[str, NDArray[np.float64]]:
    """`(dimension,)`, unit length but for rounding to halves. What is not in the tenant's collection any more is left out."""
    values = {
        "collection": collection_id,
        "profile": profile_id,
        "chunk_ids": [UUID(chunk_id) for chunk_id in chunk_ids],
    }
    rows = cast("Sequence[tuple[bytes, bytes]]", await reader.fetch(VECTORS, values, settings=settings))
    return {
        str(UUID(bytes=bytes(chunk))): np.frombuffer(wire, ">f2", offset=HEAD).astype(float) for chunk, wire in rows
    }
