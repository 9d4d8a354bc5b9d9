"""From candidates to scored chunks. Each function returns a CTE (chunk_id, document_id, score)."""

from typing import Any

from sqlalchemy import CTE, Double, Integer, Select, bindparam, func, select, union, union_all
from sqlalchemy.dialects.postgresql import aggregate_order_by

from service.db.bm25 import Question, score
from service.db.semantic import PROFILE, distance, materialized
from service.db.tables import search_embeddings as e
from service.db.tables import search_terms as t

ALPHA = bindparam("alpha", type_=Double)


def one_leg(leg: CTE) -> CTE:
    """A leg alone: its own score, BM25 or cosine."""
    scores = select(t.c.chunk_id, t.c.document_id, (-leg.c.d).label("score"))
    return materialized(scores.select_from(leg.join(t, t.c.chunk_id == leg.c.chunk_id)), "fused")


def linear(semantic: CTE, lexical: CTE, question: Question, *, dimension: int) -> CTE:
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
    near = func.coalesce((s - least) / func.nullif(most - least, 0, type_=Double()), 0)
    said = func.coalesce(lex / func.nullif(best, 0, type_=Double()), 0)
    fused = (ALPHA * near + (1 - ALPHA) * said).label("score")
    return materialized(select(scored.c.chunk_id, scored.c.document_id, fused), "fused")


def rrf(semantic: CTE, lexical: CTE) -> CTE:
    """`sum(weight / (k + rank))` over the legs that list the chunk, rank from 1."""
    k = bindparam("k", type_=Double)

    def contributions(leg: CTE, weight: str) -> Select[Any]:
        rank = func.row_number().over(order_by=(leg.c.d, leg.c.chunk_id))
        return select(leg.c.chunk_id, (bindparam(weight, type_=Double) / (k + rank)).label("share"))

    shares = union_all(contributions(semantic, "semantic_weight"), contributions(lexical, "lexical_weight"))
    u = shares.subquery("u")
    summed = select(u.c.chunk_id, func.sum(u.c.share).label("score")).group_by(u.c.chunk_id).subquery("summed")
    rows = summed.join(t, t.c.chunk_id == summed.c.chunk_id)
    return materialized(select(t.c.chunk_id, t.c.document_id, summed.c.score).select_from(rows), "fused")


def paged(fused: CTE, *, grouped: bool) -> CTE:
    """The best `limit` documents with their best chunks, or the best `limit` chunks: score descending, then id."""
    owner = fused.c.document_id if grouped else fused.c.chunk_id
    place = func.row_number().over(partition_by=owner, order_by=(fused.c.score.desc(), fused.c.chunk_id))
    ranked = select(
        owner.label("owner"), fused.c.document_id, fused.c.chunk_id, fused.c.score, place.label("place")
    ).subquery("ranked")
    r = ranked.c
    best = func.max(r.score)
    statement = (
        select(
            r.owner,
            r.document_id,
            best.label("score"),
            func.array_agg(aggregate_order_by(r.chunk_id, r.place)).label("chunk_ids"),
            func.array_agg(aggregate_order_by(r.score, r.place)).label("scores"),
        )
        .where(r.place <= bindparam("per_document", type_=Integer))
        .group_by(r.owner, r.document_id)
        .order_by(best.desc(), r.owner)
        .limit(bindparam("limit", type_=Integer))
    )
    return materialized(statement, "page")
