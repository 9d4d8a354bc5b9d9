"""Documents as examples: where each lies among the embeddings, read through the reading door."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from pgvector.sqlalchemy import VECTOR
from sqlalchemy import ARRAY, LargeBinary, Text, Uuid, and_, bindparam, func, or_, select
from sqlalchemy import cast as sql_cast

from service.db.profiles import EmbeddingProfile
from service.db.read_pool import Reader
from service.db.retrieval import SearchDialect, Statement, scoped
from service.db.semantic import COLLECTION, PROFILE
from service.db.tables import search_documents as d
from service.db.tables import search_embeddings as e
from service.domain.documents import Collection
from service.domain.errors import NotFoundError

HEAD = 4  # Bytes before the numbers in pgvector's wire form: dimension, unused.


@dataclass(frozen=True, slots=True)
class Place:
    """`vector` is the mean of the embeddings of the document's chunks, `(dimension,)`; None for one without chunks."""

    document_id: UUID
    external_id: str | None
    is_indexed: bool
    vector: NDArray[np.float64] | None


def places_statement() -> Statement:
    """One row a document of the scoped collection; one of nulls when it has none of them, none when it cannot be seen."""
    scope = scoped()
    mean = select(func.avg(sql_cast(e.c.embedding, VECTOR))).where(e.c.document_id == d.c.id, e.c.profile_id == PROFILE)
    named = or_(
        d.c.id == func.any(bindparam("ids", type_=ARRAY(Uuid))),
        d.c.external_id == func.any(bindparam("external_ids", type_=ARRAY(Text))),
    )
    wanted = and_(d.c.collection_id == scope.c.id, d.c.collection_id == COLLECTION, named)
    statement = select(
        func.uuid_send(d.c.id, type_=LargeBinary),
        d.c.external_id,
        d.c.indexed_version.is_not(None),
        func.vector_send(mean.scalar_subquery(), type_=LargeBinary),
    ).select_from(scope.outerjoin(d, wanted))
    compiled = statement.compile(dialect=SearchDialect())  # type: ignore[no-untyped-call]
    return Statement(str(compiled), tuple(compiled.positiontup or ()), prepared=True)


PLACES = places_statement()


async def find_places(
    collection: Collection,
    *,
    ids: Sequence[UUID],
    external_ids: Sequence[str],
    profile: EmbeddingProfile,
    reader: Reader,
) -> list[Place]:
    """Those of the documents that the collection has. Raises NotFoundError when it cannot be seen."""
    values = {"collection": collection.id, "profile": profile.id, "ids": list(ids), "external_ids": list(external_ids)}
    rows = cast(
        "Sequence[tuple[Any, ...]]",
        await reader.fetch(PLACES, values, settings={"app.tenant_id": str(collection.tenant_id)}),
    )
    if not rows:
        raise NotFoundError("no such collection")
    return [Place(UUID(bytes=bytes(row[0])), row[1], row[2], numbers(row[3])) for row in rows if row[0] is not None]


def numbers(wire: bytes | None) -> NDArray[np.float64] | None:
    return None if wire is None else np.frombuffer(wire, ">f4", offset=HEAD).astype(float)
