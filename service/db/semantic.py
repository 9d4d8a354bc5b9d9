"""The semantic leg: exact where the filter leaves few chunks, HNSW where it leaves many; both in one statement.

Routed by counting, not by the planner's estimate: the branch not taken is never executed. Without a filter, or where the count
is known from a search before, it is not even written.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import (
    CTE,
    ColumnClause,
    ColumnElement,
    Double,
    FromClause,
    Integer,
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

# Scan the collection or walk the graph; count what a filter leaves, then either; scan what it leaves, which was little the last
# time, or score it whole by its words as well; or walk, and filter what lies on the way.
Way = Literal["scan", "walk", "count", "few", "tiny", "filter"]
COUNTING: frozenset[Way] = frozenset({"count", "few", "tiny"})
# A condition on rows that have the chunk's and the document's id.
Passing: TypeAlias = Callable[[FromClause], ColumnElement[bool]]
# A walk knows its last hundred least: of ten that it kept by a filter of a tenth, .04 were not among the nearest.
KEPT = 25
FURTHEST = bindparam("furthest", type_=Integer)
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
    way: Way,
    route: CTE,
    matching: CTE | None,
    passing: Sequence[Passing],
    wanted: Sequence[Passing],
) -> CTE:
    """The nearest `window` chunks: (chunk_id, document_id, d).

    `passing` is the filter on a row's document, if there is one, `wanted` what else must hold of its chunk.
    """
    few = select(route.c.few).scalar_subquery()
    d = distance(dimension).label("d")
    near = select(e.c.chunk_id, e.c.document_id, d).where(e.c.profile_id == PROFILE)
    # A function in the place of an operator hides from the planner how few chunks it believes the collection to have, of
    # which it knows nothing yet or only an average: with that in mind it would rather sort them all.
    walked = near.where(func.uuid_eq(e.c.collection_id, COLLECTION)).order_by(distance(dimension))
    # The limit is spelled: bound, a generic plan would give up the index.
    limit: ColumnClause[int] = literal_column(str(window))
    if way == "filter":
        # In the order of the graph, until the window is filled.
        nearest = walked.limit(FURTHEST).subquery("nearest")
        passed = nearest.select().where(*(holds(nearest) for holds in (*passing, *wanted)))
        kept = passed.limit(literal_column(str(max(window, KEPT)))).subquery("kept")
        return materialized(kept.select().order_by(kept.c.d, kept.c.chunk_id).limit(limit), "semantic")
    wanted_here = [holds(e) for holds in wanted]
    if matching is None:
        exact = near.where(e.c.collection_id == COLLECTION, *wanted_here)
    else:
        exact = near.where(e.c.document_id == within(select(matching.c.id)), *wanted_here)
    # OFFSET 0 keeps the planner from walking the HNSW index for this branch.
    scanned = exact.where(few).offset(literal_column("0")).subquery("scanned")
    first = scanned.select().order_by(scanned.c.d, scanned.c.chunk_id)
    second = walked.where(not_(few), *wanted_here, *(holds(e) for holds in passing))
    branches: Mapping[Way, Sequence[Select[Any]]] = {"walk": [second], "count": [first, second]}
    legs = [
        leg.limit(limit).subquery(f"s{number}").select() for number, leg in enumerate(branches.get(way, [first]), 1)
    ]
    return materialized(union_all(*legs) if len(legs) > 1 else legs[0], "semantic")


def materialized(statement: SelectBase, name: str) -> CTE:
    return statement.cte(name).prefix_with("MATERIALIZED")
