"""What a filter means, written from the contract's words alone: slow, obvious, and of no use to the service.

It reads the JSON of a filter that is known to be valid, and documents whose numbers are `int` and `Decimal`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

MISSING = object()
COLUMN_TYPES = {"tags": "string[]", "published_at": "timestamp"}

# Stored strings, and the time that each says, if it says one.
TIMES: Mapping[str, datetime | None] = {
    "2020-02-29T12:00:00Z": datetime(2020, 2, 29, 12, tzinfo=UTC),
    "2020-02-29t12:00:00z": datetime(2020, 2, 29, 12, tzinfo=UTC),
    "2020-02-29 14:30:00+02:30": datetime(2020, 2, 29, 12, tzinfo=UTC),
    "2020-02-28T22:00:00-14:00": datetime(2020, 2, 29, 12, tzinfo=UTC),
    "2020-03-01T03:59:00+15:59": datetime(2020, 2, 29, 12, tzinfo=UTC),
    "2020-02-29T12:00:00.000001-00:00": datetime(2020, 2, 29, 12, 0, 0, 1, tzinfo=UTC),
    "2020-02-29T11:59:59.999999500Z": datetime(2020, 2, 29, 12, tzinfo=UTC),
    "2020-02-29T11:59:59.9999994Z": datetime(2020, 2, 29, 11, 59, 59, 999999, tzinfo=UTC),
    "2019-12-31T23:59:59.5-05:00": datetime(2020, 1, 1, 4, 59, 59, 500000, tzinfo=UTC),
    "1815-06-18T11:35:00Z": datetime(1815, 6, 18, 11, 35, tzinfo=UTC),
    "9999-12-31T23:59:59Z": datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
    "0001-01-01T00:00:00Z": datetime(1, 1, 1, tzinfo=UTC),
    "2021-02-29T12:00:00Z": None,
    "2020-02-29": None,
    "2020-02-29T12:00:00": None,
    "2020-02-29T12:00Z": None,
    "2020-02-29T24:00:00Z": None,
    "2016-12-31T23:59:60Z": None,
    "2020-02-29T12:00:00+16:00": None,
    "2020-02-29T12:00:00+0230": None,
    "2020-02-29T12:00:00Z ": None,
    "2020-02-29T12:00:00.Z": None,
    "0000-01-01T00:00:00Z": None,
    "12020-02-29T12:00:00Z": None,
    "infinity": None,
    "now": None,
    "today": None,
    "2020-02-29T12:00:00Z\n": None,
}


@dataclass(frozen=True)
class Oracle:
    """`declared` names the type of an attribute by its path."""

    declared: Mapping[str, str]

    def matches(self, wanted: Any, document: Mapping[str, Any]) -> bool:
        """Members of one object are joined by AND."""
        return all(self.member(key, operand, document) for key, operand in wanted.items())

    def member(self, key: str, operand: Any, document: Mapping[str, Any]) -> bool:
        if key == "$and":
            return all(self.matches(each, document) for each in operand)
        if key == "$or":
            return any(self.matches(each, document) for each in operand)
        if key == "$not":
            return not self.matches(operand, document)
        kind = self.declared.get(key.removeprefix("attributes.")) if "." in key else COLUMN_TYPES.get(key, "string")
        return conditions(find(key, document), operand, kind)


def find(key: str, document: Mapping[str, Any]) -> Any:
    """A column that is null is missing; a path goes through objects only."""
    if "." not in key:
        return MISSING if document[key] is None else document[key]
    found: Any = document
    for name in key.split("."):
        found = found.get(name, MISSING) if isinstance(found, dict) else MISSING
    return found


def conditions(stored: Any, operand: Any, kind: str | None) -> bool:
    """A bare value means `$eq`."""
    if not isinstance(operand, dict):
        return condition(stored, "$eq", operand, kind)
    return all(condition(stored, operator, value, kind) for operator, value in operand.items())


def condition(stored: Any, operator: str, value: Any, kind: str | None) -> bool:  # noqa: PLR0911  one for each word
    """A missing value matches `$ne`, `$nin`, `$not` and `$exists: false`, nothing else."""
    if operator == "$exists":
        return (stored is not MISSING) is value
    if operator in {"$ne", "$nin"}:
        return not condition(stored, {"$ne": "$eq", "$nin": "$in"}[operator], value, kind)
    if operator == "$not":
        return not conditions(stored, value, kind)
    if stored is MISSING:
        return False
    if operator == "$contains":
        return isinstance(stored, list) and any(same(each, value) for each in stored)
    if operator == "$overlap":
        return isinstance(stored, list) and any(same(each, one) for each in stored for one in value)
    if kind == "timestamp":
        return in_time(stored, operator, value)
    if operator == "$eq":
        return same(stored, value)
    if operator == "$in":
        return any(same(stored, one) for one in value)
    return ORDER[operator](rank(stored), rank(value)) if ordered_alike(stored, value) else False


def in_time(stored: Any, operator: str, value: Any) -> bool:
    moment = TIMES.get(stored) if isinstance(stored, str) else None
    if moment is None:
        return False
    if operator == "$in":
        return moment in [TIMES[one] for one in value]
    return ORDER[operator](moment, TIMES[value])


ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "$eq": lambda a, b: bool(a == b),
    "$lt": lambda a, b: bool(a < b),
    "$lte": lambda a, b: bool(a <= b),
    "$gt": lambda a, b: bool(a > b),
    "$gte": lambda a, b: bool(a >= b),
}


def is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def rank(value: Any) -> Any:
    return [ord(c) for c in value] if isinstance(value, str) else Decimal(str(value))


def ordered_alike(stored: Any, value: Any) -> bool:
    return (is_number(stored) and is_number(value)) or (isinstance(stored, str) and isinstance(value, str))


def same(stored: Any, value: Any) -> bool:
    """The whole value, of the same JSON type; JSON has one type of number."""
    if is_number(stored) and is_number(value):
        return Decimal(str(stored)) == Decimal(str(value))
    if isinstance(stored, list) and isinstance(value, list):
        return len(stored) == len(value) and all(same(a, b) for a, b in zip(stored, value, strict=True))
    if isinstance(stored, dict) and isinstance(value, dict):
        return stored.keys() == value.keys() and all(same(stored[key], value[key]) for key in stored)
    return type(stored) is type(value) and bool(stored == value)
