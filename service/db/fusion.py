"""From candidates to scored chunks. Each function returns a CTE (chunk_id, document_id, score), explained with the legs' shares."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import (
    CTE,
    ColumnElement,
    Double,
    FromClause,
    Integer,
    Label,
    Subquery,
    bindparam,
    cast,
    func,
    literal_column,
    null,
    select,
    union,
)

from service.db.bm25 import Question, score
from service.db.semantic import PROFILE, distance, materialized
from service.db.tables import search_embeddings as e
from service.db.tables import search_terms as t

Leg = Literal["semantic", "lexical"]
ALPHA = bindparam("alpha", type_=Double)


def one_leg(leg: CTE, name: Leg, *, explained: bool) -> CTE:
    """A leg alone: its own score, BM25 or cosine."""
    alone = (-leg.c.d).label("score")
    told = shares({name: Given(place(leg), -leg.c.d, -leg.c.d)}) if explained else []
    scores = select(t.c.chunk_id, t.c.document_id, alone, *told)
    return materialized(scores.select_from(leg.join(t, t.c.chunk_id == leg.c.chunk_id)), "fused")


def linear(semantic: CTE, lexical: CTE, question: Question, *, dimension: int, explained: bool) -> CTE:
    """Completed fusion: both exact scores of every candidate of either leg, then

    `alpha * (s - min s) / (max s - min s) + (1 - alpha) * l / max l`, a term with denominator 0 being 0.
    """
    candidate = materialized(union(select(semantic.c.chunk_id), select(lexical.c.chunk_id)), "candidate")
    rows = candidate.join(t, t.c.chunk_id == candidate.c.chunk_id).join(
        e, (e.c.profile_id == PROFILE) & (e.c.chunk_id == candidate.c.chunk_id)
    )
    scored = materialized(
        select(
            t.c.chunk_id, t.c.document_id, (-distance(dimension)).label("s"), (-score(question)).label("l")
        ).select_from(rows),
        "scored",
    )
    s, lex = scored.c.s, scored.c.l
    least, most, best = func.min(s).over(), func.max(s).over(), func.max(lex).over()
    near = ALPHA * func.coalesce((s - least) / func.nullif(most - least, 0, type_=Double()), 0)
    said = (1 - ALPHA) * func.coalesce(lex / func.nullif(best, 0, type_=Double()), 0)
    columns = [scored.c.chunk_id, scored.c.document_id, (near + said).label("score")]
    if not explained:
        return materialized(select(*columns), "fused")
    ranks = {"semantic": ranked_leg(semantic, "near"), "lexical": ranked_leg(lexical, "said")}
    told = shares(
        {"semantic": Given(ranks["semantic"].c.rank, s, near), "lexical": Given(ranks["lexical"].c.rank, lex, said)}
    )
    return materialized(select(*columns, *told).select_from(beside(scored, ranks)), "fused")


def rrf(semantic: CTE, lexical: CTE, *, explained: bool) -> CTE:
    """`sum(weight / (k + rank))` over the legs that list the chunk, rank from 1."""
    candidate = union(select(semantic.c.chunk_id), select(lexical.c.chunk_id)).subquery("candidate")
    ranks = {"semantic": ranked_leg(semantic, "near"), "lexical": ranked_leg(lexical, "said")}
    k = bindparam("k", type_=Double)
    given = {
        name: Given(
            leg.c.rank, -leg.c.d, func.coalesce(bindparam(f"{name}_weight", type_=Double) / (k + leg.c.rank), 0)
        )
        for name, leg in ranks.items()
    }
    summed = (given["semantic"].contribution + given["lexical"].contribution).label("score")
    rows = beside(candidate, ranks).join(t, t.c.chunk_id == candidate.c.chunk_id)
    told = shares(given) if explained else []
    return materialized(select(t.c.chunk_id, t.c.document_id, summed, *told).select_from(rows), "fused")


@dataclass(frozen=True, slots=True)
class Given:
    """What a leg gives to a chunk; rank and score are null where it does not list it."""

    rank: ColumnElement[int]
    score: ColumnElement[float]
    contribution: ColumnElement[float]


def place(leg: CTE) -> ColumnElement[int]:
    return func.row_number().over(order_by=(leg.c.d, leg.c.chunk_id))


def ranked_leg(leg: CTE, name: str) -> Subquery:
    return select(leg.c.chunk_id, leg.c.d, place(leg).label("rank")).subquery(name)


def beside(candidate: CTE | Subquery, ranks: Mapping[str, Subquery]) -> FromClause:
    """Every candidate with its place in each leg, null where a leg does not list it."""
    rows: FromClause = candidate
    for leg in ranks.values():
        rows = rows.outerjoin(leg, leg.c.chunk_id == candidate.c.chunk_id)
    return rows


def shares(given: Mapping[str, Given]) -> list[Label[Any]]:
    """The columns of an explanation, lexical before semantic; a leg that was not asked has given nothing."""
    nothing = Given(cast(null(), Integer), cast(null(), Double), literal_column("0::float8", Double()))
    columns: list[Label[Any]] = []
    for name in ("lexical", "semantic"):
        leg = given.get(name, nothing)
        columns += [
            leg.rank.label(f"{name}_rank"),
            leg.score.label(f"{name}_score"),
            leg.contribution.label(f"{name}_contribution"),
        ]
    return columns
