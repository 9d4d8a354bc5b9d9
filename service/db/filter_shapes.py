"""A filter taken apart: the shape that decides the SQL text, and the keys and values that the text binds."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import reduce
from itertools import chain
from operator import itemgetter
from typing import Any, Literal, NamedTuple, TypeAlias, cast

from service.db.joined import JoinedTable
from service.domain.filters import And, Comparison, Field, Filter, Not, Or

# jsonb orders null < string < number < boolean: between which two fences every value of one type lies, and no other.
# No number that the API stores is nearly as low: they are doubles or have 64 bits.
LEAST_NUMBER = "-1e1000"
BELOW_STRINGS, ABOVE_STRINGS = "null", LEAST_NUMBER
BELOW_NUMBERS, ABOVE_NUMBERS = LEAST_NUMBER, "false"
RISING, FALLING = {"$gt", "$gte"}, {"$lt", "$lte"}
FARTHEST_OFFSET = timedelta(hours=16)  # Postgres reads offsets up to 15:59.


TestForm = Literal[
    "text", "typed", "moment", "tags", "holding", "stored", "exact", "range", "stored range", "stored moment"
]
Between: TypeAlias = Literal["between", "stored between"]
BETWEEN: Mapping[str, Between] = {"range": "between", "stored range": "stored between"}
Form = Literal["and", "or", "not", "present", "row"] | TestForm | Between


class Shape(NamedTuple):
    """A form, which `db/filters.py` turns into SQL, and what it is applied to."""

    form: Form
    column: str = ""
    keys: int = 0
    operator: str = ""
    parts: "tuple[Shape, ...]" = ()
    table: JoinedTable | None = None  # of the form "row"; never compared in sorting, because `column` has its name


COLUMN_FORMS: Mapping[str, TestForm] = {"string": "text", "string[]": "tags", "timestamp": "moment"}
Lowered: TypeAlias = tuple[Shape, tuple[object, ...]]  # A shape and what it binds, in the order of the shape.


def lower(filter_: Filter) -> Lowered:
    match filter_:
        case And(operands):
            return combined("and", one_row_each(two_ended(map(lower, conjuncts(operands)))))
        case Or(operands):
            return combined("or", map(lower, operands))
        case Not(operand):
            return negated(lower(operand))
        case Comparison(field, "$ne" | "$nin" as operator, value):
            return negated(lower(Comparison(field, "$eq" if operator == "$ne" else "$in", value)))
        case Comparison(field, "$exists", False):
            return negated(lower(Comparison(field, "$exists", value=True)))
        case Comparison(field, operator, value):
            return lower_positive(field, operator, value)


def lower_positive(field: Field, operator: str, value: Any) -> Lowered:  # noqa: ANN401  JSON, a time, or a tuple of them
    if field.table is not None:
        shape, bound = lower_positive(replace(field, table=None), operator, value)
        return Shape("row", field.table.name, parts=(shape,), table=cast("JoinedTable", field.table)), bound
    if operator == "$exists":
        return Shape("present", field.column, len(field.keys)), field.keys
    return lower_test(field, operator, value)


def combined(form: Literal["and", "or"], operands: Iterable[Lowered]) -> Lowered:
    """Sorted, so that the order in which a client writes its members makes no new statement."""
    parts = sorted(operands, key=itemgetter(0))
    return Shape(form, parts=tuple(shape for shape, _ in parts)), tuple(
        chain.from_iterable(bound for _, bound in parts)
    )


def conjuncts(operands: Iterable[Filter]) -> Iterator[Filter]:
    """AND is associative: of `(a and b) and c` all three."""
    for operand in operands:
        if isinstance(operand, And):
            yield from conjuncts(operand.operands)
        else:
            yield operand


def two_ended(operands: Iterable[Lowered]) -> list[Lowered]:
    """A range with both its ends needs no fences: half the comparisons a row, and the planner knows it for a range."""
    whole: list[Lowered] = []
    half: dict[object, dict[str, Lowered]] = {}
    for lowered in operands:
        shape, bound = lowered
        if shape.form not in BETWEEN:
            whole.append(lowered)
            continue
        side = "rising" if shape.operator in RISING else "falling"
        fences = (ABOVE_STRINGS, ABOVE_NUMBERS) if side == "rising" else (BELOW_STRINGS, BELOW_NUMBERS)
        ends = half.setdefault((shape.form, shape.column, bound[:-2], fences.index(cast("str", bound[-1]))), {})
        if side in ends:
            whole.append(lowered)
        else:
            ends[side] = lowered
    return whole + [between(**ends) if len(ends) > 1 else next(iter(ends.values())) for ends in half.values()]


def between(rising: Lowered, falling: Lowered) -> Lowered:
    shape, bound = rising
    operators = f"{shape.operator} {falling[0].operator}"
    return shape._replace(form=BETWEEN[shape.form], operator=operators), (*bound[:-1], falling[1][-2])


def one_row_each(operands: Iterable[Lowered]) -> list[Lowered]:
    """What AND asks of a joined table is asked of one row of it: one EXISTS, as a join would have it."""
    rows: dict[JoinedTable | None, list[Lowered]] = {}
    for shape, bound in operands:
        rows.setdefault(shape.table, []).append((shape, bound))
    alone = rows.pop(None, [])
    for asked in rows.values():
        inner, values = combined("and", [(shape.parts[0], bound) for shape, bound in asked])
        alone.append(asked[0] if len(asked) == 1 else (asked[0][0]._replace(parts=(inner,)), values))
    return alone


def negated(positive: Lowered) -> Lowered:
    shape, bound = positive
    return Shape("not", parts=(shape,)), bound


def lower_test(field: Field, operator: str, value: Any) -> Lowered:  # noqa: ANN401  JSON, a time, or a tuple of them
    """A list is bound as one array, so that its length is no part of the shape."""
    keys, several = field.keys, operator in {"$in", "$overlap"}

    def each(render: Callable[[Any], object]) -> object:
        return [render(one) for one in value] if several else render(value)

    form = form_of(field, operator)
    bound: tuple[object, ...]
    match form:
        case "text" | "typed":
            bound = (each(str if form == "text" else as_json),)
        case "moment":
            bound = (each(as_time),)
        case "tags":
            bound = (each(as_json) if operator == "$in" else [value] if operator == "$contains" else list(value),)
        case "holding":
            return Shape(form, field.column, 0, operator), (each(lambda one: as_json(within(keys, [one]))),)
        case "stored":
            bound = (*keys, each(as_json))
        case "exact":
            bound = (*keys, each(as_json), each(lambda one: as_json(within(keys, one))))
        case "range" | "stored range":
            bound = (*keys, as_json(value), fence(operator, value))
        case "stored moment":
            days = days_around(operator, value if several else (value,))
            bound = (*keys, *days, each(as_time))
    return Shape(form, field.column, len(keys), operator), bound


def form_of(field: Field, operator: str) -> TestForm:
    if not field.keys:
        return COLUMN_FORMS.get(field.type or "", "typed")
    if operator in {"$contains", "$overlap"}:
        return "holding"
    if field.type == "timestamp":
        return "stored moment"
    if operator in RISING | FALLING:
        return "stored range" if field.type else "range"
    return "stored" if field.type and field.type != "string[]" else "exact"


def as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def as_time(moment: datetime) -> str:
    """As text, because asyncpg would send the first and the last datetime of Python as infinities."""
    return moment.isoformat()


def within(keys: Sequence[str], value: object) -> object:
    """The smallest attributes that have the value under this path: what containment, and so the GIN index, takes."""
    return reduce(lambda inner, key: {key: inner}, reversed(keys), value)


def fence(operator: str, value: object) -> str:
    """The other end of a range, beyond which no value of the same type lies."""
    if operator in RISING:
        return ABOVE_STRINGS if isinstance(value, str) else ABOVE_NUMBERS
    return BELOW_STRINGS if isinstance(value, str) else BELOW_NUMBERS


def days_around(operator: str, moments: Sequence[datetime]) -> tuple[str, str]:
    """From and before which strings an RFC 3339 time stands that can match, whatever its offset.

    The strings order by the local date they begin with, so an index on them serves times as well.
    """
    first, end = BELOW_STRINGS, ABOVE_STRINGS
    with suppress(OverflowError, ValueError):  # ValueError: of no moments
        if operator not in FALLING:
            first = as_json((min(moments) - FARTHEST_OFFSET).date().isoformat())
    with suppress(OverflowError, ValueError):
        if operator not in RISING:
            end = as_json(((max(moments) + FARTHEST_OFFSET).date() + timedelta(days=1)).isoformat())
    return first, end
