"""From scored chunks to a page of hits, and to the list of all of them, which a cursor carries from page to page."""

from sqlalchemy import (
    ARRAY,
    CTE,
    ColumnElement,
    Double,
    Integer,
    LargeBinary,
    ScalarSelect,
    Uuid,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by

from service.db.semantic import COLLECTION, materialized
from service.db.tables import search_documents as d
from service.db.tables import search_terms as t

PER_DOCUMENT = bindparam("per_document", type_=Integer)
LIMIT = bindparam("limit", type_=Integer)
SHARES = tuple(f"{leg}_{part}" for leg in ("lexical", "semantic") for part in ("rank", "score", "contribution"))
ADDED = ("boost", "rerank")  # by Python, after the statement
NAN: ColumnElement[float] = literal_column("'NaN'::float8", Double())


def listed(fused: CTE, *, grouped: bool) -> CTE:
    """Every hit's best chunks, at most `per_document` of each, score descending, then id; `number` and `place` from 1."""
    f = fused.c
    owner = f.document_id if grouped else f.chunk_id
    place = func.row_number().over(partition_by=owner, order_by=(f.score.desc(), f.chunk_id))
    best = func.max(f.score).over(partition_by=owner)
    columns = [owner.label("owner"), *f, place.label("place"), best.label("best")]
    ranked = select(*columns).where(f.score >= bindparam("threshold", type_=Double)).subquery("ranked")
    number = func.dense_rank().over(order_by=(ranked.c.best.desc(), ranked.c.owner))
    return materialized(select(ranked, number.label("number")).where(ranked.c.place <= PER_DOCUMENT), "listed")


def paged(rows: CTE) -> CTE:
    """The first `limit` hits of a list, numbered in its order."""
    r = rows.c
    hits = (
        select(
            r.document_id,
            r.best.label("score"),
            func.array_agg(aggregate_order_by(r.chunk_id, r.place)).label("chunk_ids"),
            func.array_agg(aggregate_order_by(r.score, r.place)).label("scores"),
            r.number,
        )
        .where(r.number <= LIMIT)
        .group_by(r.number, r.document_id, r.best)
    )
    return materialized(hits, "page")


def ranking(listed: CTE, *, explained: bool) -> ScalarSelect[bytes]:
    """The whole list in order, packed as `search.ranking` reads it: one value instead of some hundred rows."""
    r = listed.c
    first = case((r.place == 1, literal_column("'\\x01'::bytea")), else_=literal_column("'\\x00'::bytea"))
    packed = first.op("||", return_type=LargeBinary())(func.uuid_send(r.chunk_id))
    packed = packed.op("||", return_type=LargeBinary())(func.float8send(r.score))
    for name in SHARES if explained else ():
        # Ranks count from 1 and scores are finite, so 0 and NaN say that there is none.
        absent = NAN if name.endswith("_score") else literal_column("0::float8", Double())
        packed = packed.op("||", return_type=LargeBinary())(
            func.float8send(func.coalesce(cast(r[name], Double), absent))
        )
    for _ in ADDED if explained else ():
        packed = packed.op("||", return_type=LargeBinary())(func.float8send(NAN))
    nothing_between: aggregate_order_by[bytes] = aggregate_order_by(literal_column("''::bytea"), r.number, r.place)
    return select(func.string_agg(packed, nothing_between, type_=LargeBinary())).scalar_subquery()


def resumed(scope: CTE, condition: ColumnElement[bool] | None, *, grouped: bool) -> CTE:
    """A later page, in the order of the cursor's list: what was deleted, or changed out of the filter, is left out."""
    u = (
        func.unnest(bindparam("chunk_ids", type_=ARRAY(Uuid)), bindparam("scores", type_=ARRAY(Double)))
        .table_valued("id", "score", with_ordinality="number")
        .render_derived(name="u")
    )
    rows = (
        scope.join(u, true())
        .join(t, (t.c.chunk_id == u.c.id) & (t.c.collection_id == COLLECTION))
        .join(d, (d.c.id == t.c.document_id) & (d.c.collection_id == COLLECTION))
    )
    owner = t.c.document_id if grouped else t.c.chunk_id
    columns = [owner.label("owner"), t.c.document_id, t.c.chunk_id, cast(u.c.score, Double).label("score")]
    kept = select(*columns, cast(u.c.number, Integer).label("place")).select_from(rows)
    if condition is not None:
        kept = kept.where(condition)
    inner = kept.subquery("kept")
    best = func.max(inner.c.score).over(partition_by=inner.c.owner).label("best")
    first = func.min(inner.c.place).over(partition_by=inner.c.owner).label("first")
    hits = select(inner, best, first).subquery("hits")
    number = func.dense_rank().over(order_by=hits.c.first).label("number")
    return paged(materialized(select(hits, number), "resumed"))
