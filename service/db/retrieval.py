"""The search statement: scope + filter, both legs, fusion, grouping, hits. One statement, one snapshot.

The one gate is `scope`: `collections` is under row security, the four views are not. `route` and `question` come from it, so
without a visible collection no leg runs and no row can leave. Keep every statement on the views in this module's reach and
test each shape with a foreign collection.
"""

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from sqlalchemy import (
    CTE,
    BindParameter,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    Text,
    bindparam,
    case,
    false,
    func,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql.asyncpg import PGCompiler_asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect

from service.db import bm25, filters, fusion, paging, phrases, semantic
from service.db.bm25 import TINY
from service.db.read_out import Findings, read_out
from service.db.semantic import COLLECTION, Way, materialized
from service.db.tables import collections
from service.db.tables import search_documents as d
from service.db.tables import search_terms as t
from service.domain.filters import Filter
from service.domain.queries import WIDENING, WINDOW, Mode
from service.telemetry.loads import StatementLoad

TENANT_SETTING = "app.tenant_id"  # What row security reads.
TENANT = bindparam("tenant", type_=Text)
EF_SEARCH = bindparam("ef_search", type_=Text)
EXACT = bindparam("exact_chunks", type_=Integer)
SHAPES = 64  # Prepared for ever on every connection; a rarer shape runs unprepared.
# What nearly every search asks for, and the round numbers of those who page no further: no client can use the shapes up.
WINDOWS = (WINDOW, WINDOW * WIDENING, 10, 20, 50, 100)


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides the SQL text: nothing in it comes from a client's values."""

    mode: Mode
    dimension: int
    window: int
    fusion: Literal["linear", "rrf"]
    grouped: bool
    phrases: bool
    excluding: bool
    filter: Hashable  # filters.skeleton
    way: Way = "count"  # to the semantic candidates; without a filter it is known before
    index_key: tuple[str, ...] = ()  # the declared attribute whose index finds all that the filter leaves, spelled
    explained: bool = False
    resumed: bool = False  # a later page of a list that its cursor carries


@dataclass(frozen=True, slots=True)
class Statement:
    sql: str
    parameters: tuple[str, ...]  # names, in the order of $1, $2, …
    prepared: bool

    @property
    def names_tenant(self) -> bool:
        """Whether it sets the tenant by itself, see `scoped`."""
        return TENANT.key in self.parameters

    def bind(self, values: Mapping[str, object], settings: Mapping[str, str]) -> list[object]:
        """The tenant is the settings', so that no caller names one that row security does not see."""
        bound = {**values, TENANT.key: settings.get(TENANT_SETTING, "")}
        return [bound[name] for name in self.parameters]


def scoped(*, walking: bool = False, plan_kept: bool = False) -> CTE:
    """The collection, if it is the tenant's: row security sees the tenant that the statement itself names first.

    Until the statement ends, so that a statement needs no transaction around it: one round trip instead of four. OFFSET 0
    keeps both halves apart and in this order; in another, row security would see no tenant, and the collection not be there.
    `walking` sets the width of the graph's list as well, where one is asked for: the graph reads it when its scan begins,
    which waits for the route, which waits for this. With `plan_kept` a connection may keep the plan; see `planned_anew`.
    """
    named = set_here(TENANT_SETTING, TENANT)
    if walking:
        named = func.concat(named, case((EF_SEARCH.is_not(None), set_here("hnsw.ef_search", EF_SEARCH))), type_=Text)
    first = select(named.label("tenant")).offset(literal_column("0")).subquery("named")
    c = collections.c
    own = select(c.id, c.language, c.chunk_count, c.updated_at).where(
        c.id == COLLECTION, c.deleted_at.is_(None), first.c.tenant.is_not(None)
    )
    if not plan_kept:
        own = own.where(planned_anew())
    then = own.offset(literal_column("0")).lateral("own")
    return materialized(select(then).select_from(first.join(then, true())), "scope")


def planned_anew() -> ColumnElement[bool]:
    """Always true, and what keeps Postgres from ever taking a generic plan, which forgets how much a filter leaves.

    A plan for known values finds the first half true and drops the second; a plan for any values has to price it, and by its
    estimate (two billion rows) loses against every other. It is never executed. `plan_cache_mode` would say the same, but for
    all statements of a role at once, and to set it before a statement takes a round trip.
    """
    dear = select(func.count()).select_from(func.generate_series(literal_column("1"), literal_column("2000000000")))
    return or_(COLLECTION.is_not(None), dear.scalar_subquery() < 0)


def set_here(setting: str, value: ColumnElement[str]) -> ColumnElement[str]:
    return func.set_config(literal_column(f"'{setting}'"), value, true(), type_=Text)


def search_statement(shape: Shape, filter: Filter | None) -> Select[tuple[object, ...]]:  # noqa: A002  the field's term
    """The whole statement of one shape."""
    plain = (filter is None or shape.index_key) and not shape.phrases and not shape.excluding
    scope = scoped(walking=shape.mode != "lexical", plan_kept=bool(plain))
    condition = None if filter is None else filters.matches(filter, d, keys_spelled=bool(shape.index_key))
    if shape.resumed:
        return read_out(scope, paging.resumed(scope, condition, grouped=shape.grouped), None)
    question = bm25.question_terms(scope)
    wanted = phrases.unsaid(scope) if shape.excluding else None
    if shape.phrases:
        likely = phrases.likely_chunks(scope, question, condition=condition, wanted=wanted)
        phrased = phrases.phrased_chunks(scope, likely)
        near = phrases.nearest_of(phrased, dimension=shape.dimension, window=shape.window)
        said = phrases.best_of(phrased, question, window=shape.window)
        route = checked(scope, likely)
    else:
        matching, route = routed(scope, condition, shape)
        passes = None if condition is None else partial(passing, condition)
        near = semantic.semantic_leg(
            dimension=shape.dimension,
            window=shape.window,
            way=shape.way,
            route=route,
            matching=matching,
            passing=[] if passes is None else [passes],
            wanted=[] if wanted is None else [partial(saying, wanted)],
        )
        said = bm25.lexical_leg(
            question,
            window=shape.window,
            way=shape.way,
            route=route,
            matching=matching,
            passing=passes,
            wanted=wanted,
        )
    legs = {"semantic": near, "lexical": said}
    if shape.mode != "hybrid":
        legs = {shape.mode: legs[shape.mode]}
        fused = fusion.one_leg(legs[shape.mode], shape.mode, explained=shape.explained)
    elif shape.fusion == "linear":
        fused = fusion.linear(near, said, question, dimension=shape.dimension, explained=shape.explained)
    else:
        fused = fusion.rrf(near, said, explained=shape.explained)
    listed = paging.listed(fused, grouped=shape.grouped)
    ranking = paging.ranking(listed, explained=shape.explained)
    asked = question if "lexical" in legs else None
    return read_out(scope, paging.paged(listed), Findings(route, asked, legs, fused, ranking))


def routed(scope: CTE, condition: ColumnElement[bool] | None, shape: Shape) -> tuple[CTE | None, CTE]:
    """The documents that the filter leaves, if there is one, and the way to the semantic candidates."""
    if condition is not None and shape.way in semantic.COUNTING:
        return counted(scope, condition, window=shape.window)
    few: ColumnElement[bool] = literal_column(str(shape.way == "scan").lower()).label("few")
    n = scope.c.chunk_count
    tiny = n <= TINY if condition is None else false()
    return None, materialized(select(few, tiny.label("tiny"), n.label("n")), "route")


def counted(scope: CTE, condition: ColumnElement[bool], *, window: int) -> tuple[CTE, CTE]:
    """Counts the chunks that the filter leaves: `few` are scanned exactly, `tiny` few are scored whole by their words."""
    # Documents without chunks are not indexed yet; one more than each limit tells that there are more.
    indexed = (d.c.collection_id == COLLECTION, d.c.chunk_count > literal_column("0"), condition)
    most = func.greatest(EXACT, TINY, literal_column(str(window)), type_=Integer) + 1
    matching = materialized(select(d.c.id, d.c.chunk_count).where(*indexed).limit(most), "matching")
    total = select(func.coalesce(func.sum(matching.c.chunk_count), 0).label("n")).subquery("total")
    n = total.c.n
    columns = select((n <= EXACT).label("few"), (n <= TINY).label("tiny"), n.label("n"))
    return matching, materialized(columns.select_from(scope.join(total, true())), "route")


def checked(scope: CTE, likely: CTE) -> CTE:
    """The route of a quoted phrase: what has its words is looked at, all of it or the most relevant part."""
    n = select(func.count()).select_from(likely).scalar_subquery()
    columns = select((n < phrases.CHECKED).label("few"), true().label("tiny"), n.label("n"))
    return materialized(columns.select_from(scope), "route")


def passing(condition: ColumnElement[bool], rows: FromClause) -> ColumnElement[bool]:
    """The filter on the row's document. A scalar subquery, because an EXISTS may become a join, and where the planner
    takes the filter for a rare one, that join gives up the order of the graph.
    """
    found = select(true()).where(d.c.id == rows.c.document_id, d.c.collection_id == COLLECTION, condition)
    return found.correlate(rows).scalar_subquery()


def saying(wanted: ColumnElement[bool], rows: FromClause) -> ColumnElement[bool]:
    """The same of the row's chunk."""
    return select(true()).where(t.c.chunk_id == rows.c.chunk_id, wanted).correlate(rows).scalar_subquery()


class SpelledConstants(PGCompiler_asyncpg):
    """Numbered parameters for what a query brings; a constant of ours is spelled, so that the planner sees it."""

    def visit_bindparam(self, bindparam: BindParameter[Any], *args: Any, **options: Any) -> Any:  # noqa: ANN401  upstream's
        if bindparam.unique:
            return self.render_literal_bindparam(bindparam, **options)  # type: ignore[no-untyped-call]
        return super().visit_bindparam(bindparam, *args, **options)  # type: ignore[no-untyped-call]


class SearchDialect(asyncpg_dialect):
    statement_compiler = SpelledConstants


class Statements:
    """Compiles each shape once: compiling costs more than many a search runs.

    The first `SHAPES` shapes are prepared on every connection; psqlpy never forgets one, so a rarer shape runs unprepared.
    """

    def __init__(self) -> None:
        self.prepared: dict[Shape, Statement] = {}
        self.rare: OrderedDict[Shape, Statement] = OrderedDict()

    def load(self) -> StatementLoad:
        return StatementLoad(prepared=len(self.prepared), unprepared=len(self.rare))

    def of(self, shape: Shape, filter: Filter | None) -> Statement:  # noqa: A002
        known = self.prepared.get(shape) or self.rare.get(shape)
        if known is not None:
            return known
        compiled = search_statement(shape, filter).compile(dialect=SearchDialect())  # type: ignore[no-untyped-call]
        prepared = len(self.prepared) < SHAPES and shape.window in WINDOWS
        statement = Statement(str(compiled), tuple(compiled.positiontup or ()), prepared=prepared)
        if prepared:
            self.prepared[shape] = statement
        else:
            self.rare[shape] = statement
            if len(self.rare) > SHAPES:
                self.rare.popitem(last=False)
        return statement
