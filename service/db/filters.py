"""A filter as SQL. The text depends on the shape (columns, operators, nesting); keys and values are bound.

Every expression stands up to whatever JSON is stored: no cast that can fail is reached by a value that fails it.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    DateTime,
    FromClause,
    Text,
    and_,
    any_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal,
    literal_column,
    not_,
    or_,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from service.db.filter_shapes import FALLING, Form, Lowered, Shape, lower
from service.db.joined import widest
from service.domain.filters import Filter

JSON, MOMENT, TEXT, TEXTS = JSONB(), DateTime(timezone=True), Text(), ARRAY(Text)
KEY = Text()  # The type of a name in a path, told apart from values by being this object.

# Postgres alone would also read "now" and "January 8, 1999"; this is what the reading of a filter takes for a time.
RFC3339 = literal_column(
    "'^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]{1,9})?"
    "([Zz]|[+-](0[0-9]|1[0-5]):[0-5][0-9])$'",
    TEXT,
)

Expression: TypeAlias = ColumnElement[Any]
Bind: TypeAlias = Callable[[TypeEngine[Any]], Expression]

COMPARE: Mapping[str, Callable[[Expression, Expression], Expression]] = {
    "$eq": operator.eq,
    "$in": operator.eq,
    "$lt": operator.lt,
    "$lte": operator.le,
    "$gt": operator.gt,
    "$gte": operator.ge,
}
SEVERAL = {"$in", "$overlap"}
PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")


def skeleton(filter_: Filter) -> Shape:
    """Equal for filters that compile to the same text, whatever their keys and values; hashable."""
    return lower(filter_)[0]


def index_key(lowered: Lowered) -> tuple[str, ...]:
    """The path of a declared attribute, where a filter is nothing but one test of it; else empty.

    Empty for a name that is more than letters, digits, `_` and `-` too: what is spelled in a statement is never a client's syntax.
    """
    shape, bound = lowered
    while shape.form == "and" and len(shape.parts) == 1:  # A range with two ends is one.
        (shape,) = shape.parts
    keys = tuple(map(str, bound[: shape.keys])) if shape.form.startswith("stored") else ()
    return keys if all(map(PLAIN_KEY.fullmatch, keys)) else ()


def is_one_test(lowered: Lowered) -> bool:
    """Whether a filter is nothing but one test, or what fails it; a range with two ends is one."""
    (shape, _) = lowered
    while len(shape.parts) == 1:
        (shape,) = shape.parts
    return not shape.parts


def parameters(filter_: Filter) -> dict[str, object]:
    """The values of `f0`, `f1`, … in the text that any filter of the same skeleton compiles to."""
    return named(lower(filter_)[1])


def named(bound: Sequence[object]) -> dict[str, object]:
    """What a filter binds, by the names in its text."""
    return {f"f{position}": value for position, value in enumerate(bound)}


def matches(filter_: Filter, source: FromClause, *, keys_spelled: bool = False) -> ColumnElement[bool]:
    """The condition on a row of `source`, which has the columns of `search_documents`: true where the filter matches.

    Its parameters are named `f0`, `f1`, …, so that one statement may state it about several sources. With `keys_spelled` the
    names of attributes are constants, so that a plan for any values finds the index of an attribute.
    """
    shape, bound = lower(filter_)
    supply = enumerate(bound)

    def bind(type_: TypeEngine[Any]) -> Expression:
        position, value = next(supply)
        return literal(value, type_) if type_ is KEY and keys_spelled else bindparam(f"f{position}", value, type_)

    return express(shape, source, bind)


def express(shape: Shape, source: FromClause, bind: Bind) -> Expression:
    return FORMS[shape.form](shape, source, bind)


def both(shape: Shape, source: FromClause, bind: Bind) -> Expression:
    return and_(true(), *(express(part, source, bind) for part in shape.parts))


def either(shape: Shape, source: FromClause, bind: Bind) -> Expression:
    return or_(*(express(part, source, bind) for part in shape.parts))


def negation(shape: Shape, source: FromClause, bind: Bind) -> Expression:
    """What a missing value makes unknown, matches its negation. An EXISTS is never unknown, and NOT makes an anti-join."""
    positive = express(shape.parts[0], source, bind)
    return not_(positive) if shape.parts[0].form == "row" else positive.is_not(true())


def presence(shape: Shape, source: FromClause, bind: Bind) -> Expression:
    return place(shape, source, bind).is_not(None)


def text(shape: Shape, source: FromClause, bind: Bind) -> Expression:
    column = source.c[shape.column]
    ordered = column if shape.operator in {"$eq", "$in"} else column.collate("C")
    return COMPARE[shape.operator](ordered, operand(shape, bind, TEXT))


def typed(shape: Shape, source: FromClause, bind: Bind) -> Expression:
    column = source.c[shape.column]
    return COMPARE[shape.operator](column, operand(shape, bind, widest(column.type)))


def moment(shape: Shape, source: FromClause, bind: Bind) -> Expression:
    return COMPARE[shape.operator](source.c[shape.column], operand(shape, bind, MOMENT))


def tags(shape: Shape, source: FromClause, bind: Bind) -> Expression:
    column = source.c[shape.column]
    match shape.operator:
        case "$in":  # As JSON, because the members of an array of arrays must not differ in length.
            return COMPARE["$in"](func.to_jsonb(column), operand(shape, bind, JSON))
        case "$contains":
            return contains(column, bind(TEXTS))
        case "$overlap":
            return column.op("&&", is_comparison=True)(bind(TEXTS))
    return COMPARE[shape.operator](column, bind(TEXTS))


def holding(shape: Shape, source: FromClause, bind: Bind) -> Expression:
    """`{"a": [1]}` contains only what has a list under `a` with the number 1 in it: exact, and served by GIN."""
    return contains(source.c[shape.column], operand(shape, bind, JSON))


def stored(shape: Shape, source: FromClause, bind: Bind) -> Expression:
    """The whole value, in the form that the expression index of a declared attribute serves."""
    return COMPARE[shape.operator](indexed(shape, source, bind), operand(shape, bind, JSON))


def exact(shape: Shape, source: FromClause, bind: Bind) -> Expression:
    """The whole value, and beside it what the GIN index can find: containment takes in more than equality."""
    value, whole, holder = place(shape, source, bind), operand(shape, bind, JSON), operand(shape, bind, JSON)
    return and_(COMPARE[shape.operator](value, whole), contains(source.c[shape.column], holder))


def in_range(shape: Shape, source: FromClause, bind: Bind) -> Expression:
    value = (indexed if shape.form == "stored range" else place)(shape, source, bind)
    end, fence = cast(bind(TEXT), JSON), cast(bind(TEXT), JSON)
    return and_(COMPARE[shape.operator](value, end), value > fence if shape.operator in FALLING else value < fence)


def between(shape: Shape, source: FromClause, bind: Bind) -> Expression:
    """Two ends of one type, and so no value of another between them."""
    value = (indexed if shape.form == "stored between" else place)(shape, source, bind)
    rising, falling = shape.operator.split()
    return and_(COMPARE[rising](value, cast(bind(TEXT), JSON)), COMPARE[falling](value, cast(bind(TEXT), JSON)))


def stored_moment(shape: Shape, source: FromClause, bind: Bind) -> Expression:
    """The days let an index on the strings find the candidates; the times decide."""
    value, first, end = indexed(shape, source, bind), cast(bind(TEXT), JSON), cast(bind(TEXT), JSON)
    string = value.op("#>>", return_type=TEXT)(literal_column("'{}'", TEXT))
    is_time = and_(
        string.op("~", is_comparison=True)(RFC3339),
        func.pg_input_is_valid(string, literal_column("'timestamptz'", TEXT)),
    )
    time = case((is_time, cast(string, MOMENT)))
    return and_(
        value >= first,
        value < end,
        COMPARE[shape.operator](time, operand(shape, bind, MOMENT)),
    )


def row(shape: Shape, source: FromClause, bind: Bind) -> Expression:
    """Whether a row of the joined table, of this tenant and this document, passes."""
    table = shape.table
    if table is None:
        raise TypeError("a row of no table")
    other = table.table.alias()
    passes = express(shape.parts[0], other, bind)
    return exists().where(table.scope(other), table.on(source, other), passes).correlate(source)


def contains(whole: Expression, part: Expression) -> Expression:
    return whole.op("@>", is_comparison=True)(part)


def place(shape: Shape, source: FromClause, bind: Bind) -> Expression:
    """A column, or what stands under a path of names; `->` rather than `#>`, which would also count into lists."""
    value: Expression = source.c[shape.column]
    for _ in range(shape.keys):
        value = value.op("->", return_type=JSON)(bind(KEY))
    return value


def indexed(shape: Shape, source: FromClause, bind: Bind) -> Expression:
    """What the index of a declared attribute holds: nothing of a value that an index entry cannot hold."""
    return func.indexed_value(place(shape, source, bind), type_=JSON)


def operand(shape: Shape, bind: Bind, type_: TypeEngine[Any]) -> Expression:
    """Bound as text and cast, which both drivers do alike; any of an array where the operator takes several."""
    if shape.operator in SEVERAL:
        return any_(cast(bind(TEXTS), ARRAY(type_)))
    return cast(bind(TEXT), type_)


FORMS: Mapping[Form, Callable[[Shape, FromClause, Bind], Expression]] = {
    "and": both,
    "or": either,
    "not": negation,
    "present": presence,
    "row": row,
    "text": text,
    "typed": typed,
    "moment": moment,
    "tags": tags,
    "holding": holding,
    "stored": stored,
    "exact": exact,
    "range": in_range,
    "stored range": in_range,
    "between": between,
    "stored between": between,
    "stored moment": stored_moment,
}
