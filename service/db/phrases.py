"""What must and what must not be said: quoted phrases, `-word` and `-"a phrase"`, filters on the chunks of both legs."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    CTE,
    Boolean,
    ColumnClause,
    ColumnElement,
    FromClause,
    Integer,
    Text,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import REGCONFIG, TSQUERY, TSVECTOR

from service.db.bm25 import Question, lexemes, score
from service.db.semantic import COLLECTION, PROFILE, distance, materialized, within
from service.db.tables import search_chunks as k
from service.db.tables import search_documents as d
from service.db.tables import search_embeddings as e
from service.db.tables import search_terms as t

PHRASES = bindparam("phrases", type_=ARRAY(Text))
# A phrase is looked for in so many chunks, the most relevant that have its words: each costs a to_tsvector, some .04 ms.
CHECKED = bindparam("checked_chunks", type_=Integer)
# Between title and text, so that no phrase reaches from one into the other.
GAP: ColumnClause[object] = literal_column("$$'-':100$$::tsvector", TSVECTOR())


def term_ids(scope: CTE, words: ColumnElement[str], name: str) -> ColumnElement[object]:
    """The ids of the lexemes of some words, as an int[]; empty for stop words."""
    q = lexemes(scope.c.language, words, name)
    ids = select(func.term_id(scope.c.id, q.c.lexeme)).select_from(q).correlate(scope)
    return cast(func.array(ids.scalar_subquery()), ARRAY(Integer))


def unsaid(scope: CTE) -> ColumnElement[bool]:
    """That no excluded word or phrase is in a `search_terms` row's chunk. One of several lexemes (`-self-made`) is looked for
    in the text as well, where all its lexemes are.
    """
    words = func.unnest(bindparam("excluded", type_=ARRAY(Text))).table_valued("word", name="words").render_derived()
    meant = func.phraseto_tsquery(cast(scope.c.language, REGCONFIG), words.c.word)
    query = case((func.numnode(meant) > literal_column("1"), meant))
    columns = select(term_ids(scope, words.c.word, "x").label("terms"), query.label("query"), scope.c.language)
    ids = columns.select_from(scope.join(words, true())).subquery("ids")
    excluded = materialized(ids.select().where(func.cardinality(ids.c.terms) > 0), "excluded")
    x = excluded.c
    has_words = t.c.terms.op("@>", return_type=Boolean())(x.terms)
    said = or_(x.query.is_(None), occurs(x.query, language=x.language, chunk_id=t.c.chunk_id, outer=(t, excluded)))
    return not_(select(literal_column("1")).select_from(excluded).where(has_words, said).exists())


def occurs(
    query: ColumnElement[Any],
    *,
    language: ColumnElement[str],
    chunk_id: ColumnElement[Any],
    outer: Sequence[FromClause],
) -> ColumnElement[bool]:
    """Whether the chunk says it in its title or text. A scalar subquery: where there is nothing to look for, no text is read."""
    own = cast(func.coalesce(d.c.language, language), REGCONFIG)
    title = func.to_tsvector(own, func.coalesce(d.c.title, ""))
    words = title.op("||", return_type=TSVECTOR())(GAP).op("||")(func.to_tsvector(own, k.c.text))
    said = select(words.op("@@", return_type=Boolean())(query)).select_from(k.join(d, d.c.id == k.c.document_id))
    return said.where(k.c.id == chunk_id).correlate(*outer).scalar_subquery()


def likely_chunks(
    scope: CTE, question: Question, *, condition: ColumnElement[bool] | None, wanted: ColumnElement[bool] | None
) -> CTE:
    """The most relevant chunks that have all words of all phrases, and whose document passes the filter."""
    spoken = func.array_to_string(PHRASES, " ", type_=Text)
    required = select(term_ids(scope, spoken, "p")).select_from(scope).scalar_subquery()
    conditions = [t.c.collection_id == COLLECTION, t.c.terms.op("@>", return_type=Boolean())(required)]
    rows = select(t.c.chunk_id, t.c.document_id)
    if condition is not None:
        rows = rows.join_from(t, d, d.c.id == t.c.document_id)
        conditions += [d.c.collection_id == COLLECTION, condition]
    if wanted is not None:
        conditions.append(wanted)
    return materialized(rows.where(*conditions).order_by(score(question), t.c.chunk_id).limit(CHECKED), "likely")


def phrased_chunks(scope: CTE, likely: CTE) -> CTE:
    """Those of them in which each phrase occurs. One word is no phrase: that the chunk has it is known already."""
    given = func.unnest(PHRASES).table_valued("phrase", name="given").render_derived()
    meant = func.phraseto_tsquery(cast(scope.c.language, REGCONFIG), given.c.phrase)
    queries = cast(func.string_agg(cast(meant, Text), " & "), TSQUERY).label("query")
    asked = materialized(
        select(queries).select_from(scope.join(given, true())).where(func.numnode(meant) > 1), "phrases"
    )
    said = occurs(asked.c.query, language=scope.c.language, chunk_id=likely.c.chunk_id, outer=(likely, scope, asked))
    rows = likely.join(scope, true()).join(asked, true())
    return materialized(
        select(likely.c.chunk_id).select_from(rows).where(or_(asked.c.query.is_(None), said)), "phrased"
    )


def nearest_of(chunks: CTE, *, dimension: int, window: int) -> CTE:
    """The semantic leg over chunks that were already found: (chunk_id, document_id, d)."""
    scanned = (
        select(e.c.chunk_id, e.c.document_id, distance(dimension).label("d"))
        .where(e.c.profile_id == PROFILE, e.c.chunk_id == within(select(chunks.c.chunk_id)))
        .offset(literal_column("0"))
        .subquery("scanned")
    )
    ordered = select(*scanned.c).order_by(scanned.c.d, scanned.c.chunk_id)
    return materialized(ordered.limit(literal_column(str(window))), "semantic")


def best_of(chunks: CTE, question: Question, *, window: int) -> CTE:
    """The lexical leg over them."""
    best = score(question).label("d")
    found = select(t.c.chunk_id, t.c.document_id, best).where(
        t.c.chunk_id == within(select(chunks.c.chunk_id)), score(question) < 0
    )
    return materialized(found.order_by(best, t.c.chunk_id).limit(literal_column(str(window))), "lexical")
