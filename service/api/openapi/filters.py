"""The filter language as JSON schemas; docs/decisions/0009-filters.md says what each operator means."""

from collections.abc import Iterable
from typing import Any

from service.api.schemas import MOMENT
from service.db.own_tables import JOINED
from service.domain.filter_values import MAX_TEXT
from service.domain.filters import COLUMNS, MAX_KEYS, MAX_NODES, MAX_VALUES, Joined

Schema = dict[str, Any]

STORED: Schema = {"type": "string", "pattern": r"^[^\u0000]*$"}
TEXT: Schema = {**STORED, "maxLength": MAX_TEXT}
TIME: Schema = MOMENT
NUMBER: Schema = {"type": "number"}
SCALAR: Schema = {"anyOf": [TEXT, NUMBER, {"type": "boolean"}, {"type": "null"}]}
ANY_OBJECT: Schema = {"type": "object", "propertyNames": STORED}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def array(of: Schema, **also: object) -> Schema:
    return {"type": "array", "items": of, **also}


def operators(
    name: str, value: Schema, *, listed: Schema, ordered: Schema | None = None, member: Schema | None = None
) -> Schema:
    """The object of operators on one field; `listed` is what `$in` lists, `member` what `$contains` looks for."""
    known: Schema = {"$eq": value, "$ne": value, "$in": array(listed), "$nin": array(listed)}
    if ordered is not None:
        known |= dict.fromkeys(("$lt", "$lte", "$gt", "$gte"), ordered)
    if member is not None:
        known |= {"$contains": member, "$overlap": array(member)}
    known |= {"$exists": {"type": "boolean"}, "$not": ref(name)}
    return {"type": "object", "properties": known, "additionalProperties": False, "minProperties": 1}


def either(bare: Schema, name: str) -> Schema:
    """A bare value means `$eq`."""
    return {"anyOf": [bare, ref(name)]}


BARE = {
    "string": either(TEXT, "TextOperators"),
    "string[]": either(array(TEXT), "TagsOperators"),
    "timestamp": either(TIME, "TimeOperators"),
}


def joined_fields(tables: Iterable[Joined]) -> dict[str, Schema]:
    """What a filter may name of the service's own tables."""
    typed = ((f"{table.name}.{column}", type_) for table in tables for column, type_ in table.types.items())
    return {name: BARE.get(type_) or either(SCALAR, "AnyOperators") for name, type_ in typed}


FILTER: Schema = {
    "title": "Filter",
    "description": f"Members are joined by AND; at most {MAX_NODES} nodes, 5 deep, {MAX_VALUES} listed values. "
    "A declared attribute takes values of its type.",
    "type": "object",
    "properties": {name: BARE[type_] for name, type_ in COLUMNS.items()}
    | joined_fields(JOINED)
    | {"$and": array(ref("Filter"), minItems=1), "$or": array(ref("Filter"), minItems=1), "$not": ref("Filter")},
    "patternProperties": {
        rf"^attributes(\.[^.\u0000]+){{1,{MAX_KEYS}}}$": either(
            {"anyOf": [SCALAR, array(ref("FilterValue"))]}, "AnyOperators"
        )
    },
    "additionalProperties": False,
}

FILTER_SCHEMAS: dict[str, Schema] = {
    "Filter": FILTER,
    "FilterValue": {
        "anyOf": [
            *SCALAR["anyOf"],
            array(ref("FilterValue")),
            {**ANY_OBJECT, "additionalProperties": ref("FilterValue")},
        ]
    },
    "TextOperators": operators("TextOperators", TEXT, listed=TEXT, ordered=TEXT),
    "TagsOperators": operators("TagsOperators", array(TEXT), listed=array(TEXT), member=TEXT),
    "TimeOperators": operators("TimeOperators", TIME, listed=TIME, ordered=TIME),
    "AnyOperators": operators(
        "AnyOperators",
        ref("FilterValue"),
        listed=ref("FilterValue"),
        ordered={"anyOf": [TEXT, NUMBER]},
        member=SCALAR,
    ),
}
# Any JSON that can be kept: no NUL in a string, and a number that is an integer fits into 64 bits.
JSON_SCHEMAS: dict[str, Schema] = {
    "JsonValue": {
        "anyOf": [
            STORED,
            NUMBER,
            {"type": "boolean"},
            {"type": "null"},
            array(ref("JsonValue")),
            ref("Attributes"),
        ]
    },
    "Attributes": {**ANY_OBJECT, "additionalProperties": ref("JsonValue")},
}
