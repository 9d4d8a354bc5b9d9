"""The semantic leg: exact where the filter leaves few chunks, HNSW where it leaves many; both in one statement.

Routed by counting, not by the planner's estimate: the branch not taken is never executed.
"""

from typing import Any

from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import (
    CTE,
    ColumnClause,
    ColumnElement,
    Double,
    FromClause,
    Select,
    SelectBase,
    Uuid,
    bindparam,
    cast,
    func,
    literal_column,
    not_,
    select,
    union_all,
)

from service.db.tables import search_embeddings as e

COLLECTION = bindparam("collection", type_=Uuid)
PROFILE = bindparam("profile", type_=Uuid)


def distance(dimension: int, source: FromClause = e) -> ColumnElement[float]:
    """Negative inner product; vectors have unit length. The cast is the index's expression, so its dimension is spelled."""
    kind = HALFVEC(dimension)
    return cast(source.c.embedding, kind).op("<#>", return_type=Double())(
        cast(bindparam("vector", type_=HALFVEC()), kind)
    )


def within(ids: Select[Any]) -> ColumnElement[object]:
    """`any(array(select …))`: one index scan with sorted keys, half the cost of a nested loop."""
    return func.any(func.array(ids.scalar_subquery()))


def semantic_leg(
    *,
    dimension: int,
    window: int,
    route: CTE,
    matching: CTE | None,
    condition: ColumnElement[bool] | None,
    wanted: ColumnElement[bool] | None,
) -> CTE:
    """The nearest `window` chunks: (chunk_id, d).

    `condition` is the filter on the row's document, `wanted` what else must hold of its chunk.
    """
    few = select(route.c.few).scalar_subquery()
    d = distance(dimension).label("d")
    near = select(e.c.chunk_id, d).where(e.c.profile_id == PROFILE)
    if wanted is not None:
        near = near.where(wanted)
    if matching is None:
        exact = near.where(e.c.collection_id == COLLECTION)
    else:
        exact = near.where(e.c.document_id == within(select(matching.c.id)))
    # OFFSET 0 keeps the planner from walking the HNSW index for this branch.
    scanned = exact.where(few).offset(literal_column("0")).subquery("scanned")
    first = select(scanned.c.chunk_id, scanned.c.d).order_by(scanned.c.d, scanned.c.chunk_id)
    graph = near.where(e.c.collection_id == COLLECTION, not_(few))
    if condition is not None:
        graph = graph.where(condition)
    second = graph.order_by(distance(dimension))
    # The limit is spelled: bound, a generic plan would give up the index.
    limit: ColumnClause[int] = literal_column(str(window))
    return materialized(
        union_all(first.limit(limit).subquery("s1").select(), second.limit(limit).subquery("s2").select()), "semantic"
    )


def materialized(statement: SelectBase, name: str) -> CTE:
    return statement.cte(name).prefix_with("MATERIALIZED")
