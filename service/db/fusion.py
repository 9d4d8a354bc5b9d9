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
    return materialized(select(leg.c.chunk_id, leg.c.document_id, alone, *told), "fused")


def linear(semantic: CTE, lexical: CTE, question: Question, *, dimension: int, explained: bool) -> CTE:
    """Completed fusion: both exact scores of every candidate of either leg, then

    `alpha * (s - min s) / (max s - min s) + (1 - alpha) * l / max l`, a term with denominator 0 being 0.
    """
    near, said, both = beside(semantic, lexical, ranked=explained)
    # Looked up only where the other leg found the chunk; a join would look both scores up for all.
    nearness = select(distance(dimension)).where(e.c.profile_id == PROFILE, e.c.chunk_id == said.c.chunk_id)
    relevance = select(score(question)).where(t.c.chunk_id == near.c.chunk_id)
    completed = select(
        *who(near, said),
        (-func.coalesce(near.c.d, nearness.correlate(said).scalar_subquery())).label("s"),
        (-func.coalesce(said.c.d, relevance.correlate(near).scalar_subquery())).label("l"),
        *([near.c.rank.label("near"), said.c.rank.label("said")] if explained else []),
    )
    scored = materialized(completed.select_from(both), "scored")
    s, lex = scored.c.s, scored.c.l
    least, most, best = func.min(s).over(), func.max(s).over(), func.max(lex).over()
    nearly = ALPHA * func.coalesce((s - least) / func.nullif(most - least, 0, type_=Double()), 0)
    wordy = (1 - ALPHA) * func.coalesce(lex / func.nullif(best, 0, type_=Double()), 0)
    columns = [scored.c.chunk_id, scored.c.document_id, (nearly + wordy).label("score")]
    if explained:
        given = {"semantic": Given(scored.c.near, s, nearly), "lexical": Given(scored.c.said, lex, wordy)}
        columns += shares(given)
    # A chunk of which one score is not there, because it has no vector of this profile, is not ranked.
    return materialized(select(*columns).where(s.is_not(None), lex.is_not(None)), "fused")


def rrf(semantic: CTE, lexical: CTE, *, explained: bool) -> CTE:
    """`sum(weight / (k + rank))` over the legs that list the chunk, rank from 1."""
    near, said, both = beside(semantic, lexical, ranked=True)
    k = bindparam("k", type_=Double)
    given = {
        name: Given(
            leg.c.rank, -leg.c.d, func.coalesce(bindparam(f"{name}_weight", type_=Double) / (k + leg.c.rank), 0)
        )
        for name, leg in (("semantic", near), ("lexical", said))
    }
    summed = (given["semantic"].contribution + given["lexical"].contribution).label("score")
    told = shares(given) if explained else []
    return materialized(select(*who(near, said), summed, *told).select_from(both), "fused")


def beside(semantic: CTE, lexical: CTE, *, ranked: bool) -> tuple[Subquery, Subquery, FromClause]:
    """Both legs, and every candidate of either with its row in each, null where a leg does not list it."""
    near, said = leg_of(semantic, "near", ranked=ranked), leg_of(lexical, "said", ranked=ranked)
    return near, said, near.outerjoin(said, near.c.chunk_id == said.c.chunk_id, full=True)


def leg_of(leg: CTE, name: str, *, ranked: bool) -> Subquery:
    return select(leg, *([place(leg).label("rank")] if ranked else [])).subquery(name)


def who(near: Subquery, said: Subquery) -> list[Label[Any]]:
    return [func.coalesce(near.c[name], said.c[name]).label(name) for name in ("chunk_id", "document_id")]


@dataclass(frozen=True, slots=True)
class Given:
    """What a leg gives to a chunk; rank and score are null where it does not list it."""

    rank: ColumnElement[int]
    score: ColumnElement[float]
    contribution: ColumnElement[float]


def place(leg: CTE) -> ColumnElement[int]:
    return func.row_number().over(order_by=(leg.c.d, leg.c.chunk_id))


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
