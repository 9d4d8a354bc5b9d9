"""The lexical leg: BM25 as an inner product of two sparse vectors.

A chunk's row keeps the tf-saturation of each term (`terms.py`); the question's vector, made here inside the statement,
carries idf = ln(1 + (N - df + .5) / (df + .5)), so document frequencies may be refreshed without touching a chunk.
"""

from dataclasses import dataclass
from typing import Any

from pgvector.sqlalchemy import SPARSEVEC
from sqlalchemy import (
    CTE,
    REAL,
    ColumnClause,
    ColumnElement,
    Double,
    FromClause,
    Integer,
    Select,
    String,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    not_,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import REGCONFIG, aggregate_order_by
from sqlalchemy.sql.selectable import LateralFromClause

from service.db.semantic import COLLECTION, Passing, Way, materialized, within
from service.db.tables import TERM_SPACE, lexeme_frequencies
from service.db.tables import search_terms as t

BUDGET = bindparam("budget", type_=Integer)
# A filter or a collection that leaves at most so many chunks is scored whole, without a budget: 2,000, or 0 when the client
# gives a budget of its own.
TINY = bindparam("tiny_chunks", type_=Integer)

# Up to so many chunks that a filter leaves, words are looked up in a hash of their documents: .8 MB, of 4 that `work_mem` has.
HASHED = 20_000


@dataclass(frozen=True, slots=True)
class Question:
    """The CTE of the question's terms, and what the legs read of it."""

    cte: CTE

    @property
    def probes(self) -> ColumnElement[object]:
        return select(self.cte.c.probes).scalar_subquery()

    @property
    def weights(self) -> ColumnElement[object]:
        return select(self.cte.c.weights).scalar_subquery()


def lexemes(language: ColumnElement[str], words: ColumnElement[str], name: str) -> LateralFromClause:
    return func.unnest(func.to_tsvector(cast(language, REGCONFIG), words)).table_valued("lexeme", name=name).lateral()


def question_terms(scope: CTE) -> Question:
    """The question's terms with their df; `probes` are the rarest of them up to the budget, `weights` are all of them."""
    q = lexemes(scope.c.language, bindparam("question", type_=Text), "q")
    ids = select(func.term_id(scope.c.id, q.c.lexeme).label("id")).distinct()
    asked = ids.select_from(scope.join(q, true())).subquery("asked")
    s = lexeme_frequencies.c
    # A scalar subquery, looked up term by term: a join would read all the terms of the collection.
    known = select(s.df).where(s.collection_id == COLLECTION, s.term == asked.c.id).scalar_subquery()
    term = materialized(
        select(asked.c.id, func.coalesce(known, 1).label("df"), scope.c.chunk_count).select_from(
            asked.join(scope, true())
        ),
        "term",
    )
    rarest = (term.c.df, term.c.id)
    budgeted = select(
        term.c.id,
        term.c.df,
        # A stale count of chunks must not turn a weight negative.
        func.greatest(term.c.chunk_count, term.c.df, 1).label("n"),
        (term.c.chunk_count <= TINY).label("tiny"),
        func.sum(term.c.df).over(order_by=rarest).label("upto"),
        func.row_number().over(order_by=rarest).label("place"),
    ).subquery("budgeted")
    b = budgeted.c
    # The term that crosses the budget stays out: in, it costs twice as much for nothing.
    probe = or_(b.upto <= BUDGET, b.place == 1, b.tiny)
    half: ColumnClause[float] = literal_column("0.5::float8", Double())
    idf = func.ln(1 + (b.n - b.df + half) / (b.df + half))
    pair = cast(b.id, String) + ":" + cast(cast(idf, REAL), String)
    pairs = func.coalesce(func.string_agg(pair, aggregate_order_by(literal_column("','"), b.id)), "")
    columns = select(
        func.array_agg(b.id).filter(probe).label("probes"),
        cast("{" + pairs + "}/" + str(TERM_SPACE), SPARSEVEC).label("weights"),
        func.coalesce(func.bool_or(not_(probe)), literal_column("false")).label("over_budget"),
    )
    return Question(materialized(columns.select_from(budgeted), "question"))


def score(question: Question) -> ColumnElement[float]:
    """Negative BM25: ascending is best first."""
    return t.c.bm25.op("<#>", return_type=Double())(question.weights)


def lexical_leg(
    question: Question,
    *,
    window: int,
    way: Way,
    route: CTE,
    matching: CTE | None,
    passing: Passing | None,
    wanted: ColumnElement[bool] | None,
) -> CTE:
    """The best `window` chunks by BM25: (chunk_id, document_id, d).

    `passing` is the filter on a row's document, `wanted` what else must hold of `search_terms`.
    """
    limit: ColumnClause[int] = literal_column(str(window))
    best = score(question).label("d")
    also = [] if wanted is None else [wanted]
    probed = [t.c.collection_id == COLLECTION, t.c.terms.op("&&")(question.probes), *also]
    ordered = select(t.c.chunk_id, t.c.document_id, best).where(*probed).order_by(best, t.c.chunk_id)
    if passing is None:
        return materialized(ordered.limit(limit), "lexical")
    if matching is None:
        return materialized(filtered(ordered, passing, limit), "lexical")
    tiny = select(route.c.tiny).scalar_subquery()
    # So few chunks are left that all are scored: no index, no budget.
    few = select(t.c.chunk_id, t.c.document_id, best).where(
        t.c.document_id == within(select(matching.c.id)), tiny, score(question) < 0, *also
    )
    few = few.order_by(best, t.c.chunk_id).limit(limit)
    if way == "tiny":
        return materialized(few, "lexical")
    hashed = select(and_(route.c.few, route.c.n <= HASHED)).scalar_subquery()

    def left(rows: FromClause) -> ColumnElement[bool]:
        return case((hashed, among(matching, rows)), else_=passing(rows))

    more = ordered.where(not_(tiny))
    # Where a hash is expected, what it does not hold needs no score.
    many = more.where(left(t)).limit(limit) if way == "few" else filtered(more, left, limit)
    return materialized(union_all(few.subquery("l1").select(), many.subquery("l2").select()), "lexical")


def among(matching: CTE, rows: FromClause) -> ColumnElement[bool]:
    """Whether the row's document is one of these, `HASHED` at most. `IS TRUE`, so that a hash is asked and nothing joined.

    The limit leaves none out and is for the planner: where it expects more than fit into `work_mem`, as of `params.exact`,
    it would go through them for each row.
    """
    return rows.c.document_id.in_(select(matching.c.id).limit(literal_column(str(HASHED)))).is_(true())


def filtered(ordered: Select[Any], passing: Passing, limit: ColumnClause[int]) -> Select[Any]:
    """Many are sorted first, and filtered then, lazily, until the window is full."""
    c = ordered.offset(literal_column("0")).subquery("c")
    return select(c.c.chunk_id, c.c.document_id, c.c.d).where(passing(c)).order_by(c.c.d, c.c.chunk_id).limit(limit)
