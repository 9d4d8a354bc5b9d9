"""Which words of shown texts a question found: Postgres parses, stems and stops both, as it did when it indexed them.

Words go in as what stands between white space, each once; only those that match come back, taken apart by the parser.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import orjson
from sqlalchemy import (
    ARRAY,
    REAL,
    Boolean,
    ColumnClause,
    ColumnElement,
    Double,
    Select,
    Text,
    Uuid,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import JSON, REGCONFIG, aggregate_order_by

from service.db.bm25 import lexemes
from service.db.retrieval import SearchDialect, Statement, scoped
from service.db.semantic import COLLECTION, materialized
from service.db.tables import lexeme_frequencies
from service.db.tables import search_documents as d

DOCUMENTS = bindparam("documents", type_=ARRAY(Uuid))
WORDS = bindparam("words", type_=ARRAY(Text))  # each document's, joined by spaces: fewer values to carry
HALF: ColumnClause[float] = literal_column("0.5::float8", Double())
WHOLES = frozenset({5, 15, 16, 17})  # URLs and hyphenated words: the parser names the whole, then its parts.


@dataclass(frozen=True, slots=True)
class Mark:
    """A part of a word, and the question's lexemes that it is."""

    start: int
    end: int
    lexemes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Marks:
    weights: Mapping[str, float]  # idf of each of the question's lexemes
    languages: Mapping[str, str]  # of each document
    words: Mapping[str, Mapping[str, Sequence[Mark]]]  # language → word → its parts that match

    @classmethod
    def read(cls, row: Sequence[Any]) -> "Marks":
        weights, languages, said = (orjson.loads(column or "null") for column in row)
        weights = weights or {}
        words: dict[str, dict[str, Sequence[Mark]]] = {}
        for language, word, its_lexemes, tokens in said or ():
            wanted = weights.keys() & set(its_lexemes)
            words.setdefault(language, {})[word] = matching_parts(word, wanted, tokens)
        return cls(weights, languages or {}, words)


def matching_parts(word: str, wanted: frozenset[str] | set[str], tokens: Sequence[Sequence[Any]]) -> list[Mark]:
    """The parser's tokens that are one of the wanted lexemes, left to right, none inside another.

    A whole of several parts is marked for a lexeme that no part of it has; else its parts are.
    """
    if not tokens:
        return [Mark(0, len(word), frozenset(wanted))]
    marks: list[Mark] = []
    at = 0
    for place, (kind, token, own) in enumerate(tokens):
        if not word.startswith(token, at):  # as a parser other than the default may have it
            return [Mark(0, len(word), frozenset(wanted))]
        found = wanted & set(own)
        if kind in WHOLES:
            found = found.difference(*parts_of(token, tokens[place + 1 :]))
        if found and (not marks or marks[-1].end <= at):
            marks.append(Mark(at, at + len(token), frozenset(found)))
        if kind not in WHOLES:
            at += len(token)
    return marks


def parts_of(whole: str, following: Sequence[Sequence[Any]]) -> Iterator[Sequence[str]]:
    """The lexemes of each part of it."""
    length = 0
    for _, token, own in following:
        if length >= len(whole):
            return
        yield own
        length += len(token)


@cache
def marks_statement() -> Statement:
    compiled = marks_of_words().compile(dialect=SearchDialect())  # type: ignore[no-untyped-call]
    return Statement(str(compiled), tuple(compiled.positiontup or ()), prepared=True)


def marks_of_words() -> Select[Any]:
    """One row (weights, languages, words), each as JSON; none when the collection cannot be seen."""
    scope = scoped()
    q = lexemes(scope.c.language, bindparam("question", type_=Text), "q")
    s = lexeme_frequencies.c
    term = func.term_id(scope.c.id, q.c.lexeme)
    known = select(s.df).where(s.collection_id == COLLECTION, s.term == term).scalar_subquery()
    counted = select(q.c.lexeme, func.coalesce(known, 1).label("df"), scope.c.chunk_count)
    asked = materialized(counted.select_from(scope.join(q, true())), "asked")
    wanted = cast(func.array(select(asked.c.lexeme).scalar_subquery()), ARRAY(Text))

    given = func.unnest(DOCUMENTS, WORDS).table_valued("id", "words").render_derived(name="given")
    page = materialized(
        select(given.c.id, given.c.words, func.coalesce(d.c.language, scope.c.language).label("language"))
        .select_from(scope.join(given, true()).join(d, d.c.id == given.c.id))
        .where(d.c.collection_id == COLLECTION),
        "page",
    )
    word = func.string_to_table(page.c.words, " ").table_valued("word").render_derived(name="w").lateral()
    spoken = materialized(
        select(page.c.language, word.c.word).select_from(page.join(word, true())).distinct(), "spoken"
    )
    own = lexemes_of(spoken.c.language, spoken.c.word).label("lexemes")
    normal = select(spoken.c.language, spoken.c.word, own).offset(literal_column("0")).subquery("normal")
    said = select(normal).where(normal.c.lexemes.op("&&", return_type=Boolean())(wanted))
    m = materialized(said, "said").c
    df, n = asked.c.df, func.greatest(asked.c.chunk_count, asked.c.df, 1)
    idf = cast(func.ln(1 + (n - df + HALF) / (df + HALF)), REAL)
    answers = (
        select(func.json_object_agg(asked.c.lexeme, idf)),
        select(func.json_object_agg(page.c.id, page.c.language)),
        select(func.json_agg(func.json_build_array(m.language, m.word, m.lexemes, tokens(m.language, m.word)))),
    )
    columns: list[ColumnElement[Any]] = [cast(answer.scalar_subquery(), Text) for answer in answers]
    return select(*columns).select_from(scope)


def lexemes_of(language: ColumnElement[Any], word: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.tsvector_to_array(func.to_tsvector(cast(language, REGCONFIG), word), type_=ARRAY(Text))


def tokens(language: ColumnElement[Any], word: ColumnElement[Any]) -> ColumnElement[Any]:
    """[[kind, token, lexemes], …] of a word, in its order."""
    parsed = func.ts_parse(literal_column("'default'"), word)
    p = parsed.table_valued("tokid", "token", with_ordinality="place").render_derived(name="p").lateral()
    token = func.json_build_array(p.c.tokid, p.c.token, lexemes_of(language, p.c.token), type_=JSON())
    return select(func.json_agg(aggregate_order_by(token, p.c.place))).select_from(p).scalar_subquery()
