"""From the page of chunks to rows: what a hit shows, and what the answer must say about how it was found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import CTE, ColumnElement, Select, Text, and_, case, cast, func, literal_column, not_, select, true
from sqlalchemy.dialects.postgresql import aggregate_order_by

from service.db.bm25 import Question
from service.db.tables import search_chunks as k
from service.db.tables import search_documents as d


class SearchRow(NamedTuple):
    """One row of `read_out`, in its order; the first seven are the same on every row."""

    declared_at: datetime  # when the collection's declarations last changed
    matched: int  # chunks that the filter leaves: counted up to the window and a little
    exact: bool  # all of them were looked at
    semantic: int  # candidates of each leg
    lexical: int
    over_budget: bool  # some words were too frequent to select candidates
    worst: float | None  # score of the last candidate, whatever the threshold
    ranking: bytes | None  # on the first row alone: the whole list, see `paging.ranking`
    document_id: str | None
    score: float | None
    external_id: str | None
    title: str | None
    source: str | None
    tags: Sequence[str] | None
    published_at: datetime | None
    attributes: str | None
    chunks: str | None


@dataclass(frozen=True, slots=True)
class Findings:
    """What the legs came to: their candidates by name, the fused list, and how it was found."""

    route: CTE
    question: Question | None
    legs: Mapping[str, CTE]
    fused: CTE
    ranking: ColumnElement[bytes]


def read_out(scope: CTE, page: CTE, found: Findings | None) -> Select[tuple[object, ...]]:
    """One row a hit, and one without a hit when there is none; none at all when the collection cannot be seen.

    A later page comes from a cursor: nothing was found anew.
    """
    hits = page.join(d, d.c.id == page.c.document_id)
    return (
        select(
            scope.c.updated_at,
            *(nothing_found() if found is None else how_found(page, found)),
            cast(page.c.document_id, Text).label("document_id"),
            page.c.score,
            d.c.external_id,
            d.c.title,
            d.c.source,
            d.c.tags,
            d.c.published_at,
            cast(d.c.attributes, Text).label("attributes"),
            cast(shown_chunks(page), Text).label("chunks"),
        )
        .select_from(scope.outerjoin(hits, true()))
        .order_by(page.c.number)
    )


def how_found(page: CTE, found: Findings) -> list[ColumnElement[Any]]:
    route, legs = found.route, found.legs

    def counted(name: str) -> ColumnElement[int]:
        if name not in legs:
            return literal_column("0")
        return select(func.count()).select_from(legs[name]).scalar_subquery()

    if found.question is None:
        over_budget: ColumnElement[bool] = literal_column("false")
    else:
        q = found.question.cte
        over_budget = (
            select(and_(q.c.over_budget, not_(route.c.tiny))).select_from(q.join(route, true())).scalar_subquery()
        )
    return [
        select(route.c.n).scalar_subquery().label("matched"),
        select(route.c.few).scalar_subquery().label("exact"),
        counted("semantic").label("semantic"),
        counted("lexical").label("lexical"),
        over_budget.label("over_budget"),
        select(func.min(found.fused.c.score)).scalar_subquery().label("worst"),
        case((page.c.number == 1, found.ranking)).label("ranking"),
    ]


def nothing_found() -> list[ColumnElement[Any]]:
    words = {"matched": "0", "exact": "true", "semantic": "0", "lexical": "0", "over_budget": "false"}
    words |= {"worst": "null::float8", "ranking": "null::bytea"}
    return [literal_column(value).label(name) for name, value in words.items()]


def shown_chunks(page: CTE) -> ColumnElement[object]:
    """A hit's chunks as one JSON array, best first. The chunk of a document without text shows its title."""
    u = (
        func.unnest(page.c.chunk_ids, page.c.scores)
        .table_valued("id", "score", with_ordinality="place")
        .render_derived(name="u")
    )
    text = func.coalesce(func.nullif(k.c.text, "", type_=Text), d.c.title, "")
    chunk = func.json_build_object(
        *("chunk_id", k.c.id, "ordinal", k.c.ordinal, "text", text, "score", u.c.score),
        *("char_start", k.c.char_start, "char_end", k.c.char_end, "page", k.c.page),
    )
    chunks = select(func.json_agg(aggregate_order_by(chunk, u.c.place))).select_from(u.join(k, k.c.id == u.c.id))
    return chunks.scalar_subquery()
