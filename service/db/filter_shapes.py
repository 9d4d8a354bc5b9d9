"""A filter taken apart: the shape that decides the SQL text, and the keys and values that the text binds."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import reduce
from itertools import chain
from operator import itemgetter
from typing import Any, Literal, NamedTuple, TypeAlias

from service.domain.filters import And, Comparison, Field, Filter, Not, Or

# jsonb orders null < string < number < boolean: where an index scan for one type may end. It may read a little too
# much (no string is the last one), so the SQL tests the type beside it.
BELOW_STRINGS, ABOVE_STRINGS = "null", "-1e400"
BELOW_NUMBERS, ABOVE_NUMBERS = '"\U0010ffff"', "false"
FARTHEST_OFFSET = timedelta(hours=16)  # Postgres reads offsets up to 15:59.


TestForm = Literal["text", "moment", "tags", "holding", "stored", "exact", "range", "stored range", "stored moment"]
Form = Literal["and", "or", "not", "present"] | TestForm


class Shape(NamedTuple):
    """A form, which `db/filters.py` turns into SQL, and what it is applied to."""

    form: Form
    column: str = ""
    keys: int = 0
    operator: str = ""
    parts: "tuple[Shape, ...]" = ()


Lowered: TypeAlias = tuple[Shape, tuple[object, ...]]  # A shape and what it binds, in the order of the shape.


def lower(filter_: Filter) -> Lowered:
    match filter_:
        case And(operands):
            return joined("and", operands)
        case Or(operands):
            return joined("or", operands)
        case Not(operand):
            return negated(lower(operand))
        case Comparison(field, "$ne" | "$nin" as operator, value):
            return negated(lower(Comparison(field, "$eq" if operator == "$ne" else "$in", value)))
        case Comparison(field, "$exists", value):
            present = Shape("present", field.column, len(field.keys)), field.keys
            return present if value else negated(present)
        case Comparison(field, operator, value):
            return lower_test(field, operator, value)


def joined(form: Literal["and", "or"], operands: Sequence[Filter]) -> Lowered:
    """Sorted, so that the order in which a client writes its members makes no new statement."""
    parts = sorted(map(lower, operands), key=itemgetter(0))
    return Shape(form, parts=tuple(shape for shape, _ in parts)), tuple(
        chain.from_iterable(bound for _, bound in parts)
    )


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
        case "text":
            bound = (each(str),)
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
    if field.column != "attributes":
        return "tags" if field.type == "string[]" else "moment" if field.type == "timestamp" else "text"
    if operator in {"$contains", "$overlap"}:
        return "holding"
    if field.type == "timestamp":
        return "stored moment"
    if operator in {"$lt", "$lte", "$gt", "$gte"}:
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
    if operator in {"$gt", "$gte"}:
        return ABOVE_STRINGS if isinstance(value, str) else ABOVE_NUMBERS
    return BELOW_STRINGS if isinstance(value, str) else BELOW_NUMBERS


def days_around(operator: str, moments: Sequence[datetime]) -> tuple[str, str]:
    """From and before which strings an RFC 3339 time stands that can match, whatever its offset.

    The strings order by the local date they begin with, so an index on them serves times as well.
    """
    first, end = BELOW_STRINGS, ABOVE_STRINGS
    with suppress(OverflowError, ValueError):  # ValueError: of no moments
        if operator not in {"$lt", "$lte"}:
            first = as_json((min(moments) - FARTHEST_OFFSET).date().isoformat())
    with suppress(OverflowError, ValueError):
        if operator not in {"$gt", "$gte"}:
            end = as_json(((max(moments) + FARTHEST_OFFSET).date() + timedelta(days=1)).isoformat())
    return first, end
