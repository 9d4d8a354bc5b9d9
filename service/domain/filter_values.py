"""The values of a filter: what each operator accepts on each type, and what no database could hold."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import isfinite

from service.domain.errors import InvalidError

MAX_TEXT = 8_192  # Characters of one string: longer than any URL, shorter than a text.
MAX_NESTING = 16  # Lists and objects inside one another in one value; Postgres and Python both recurse over it.
INT64 = range(-(2**63), 2**63)

RANGES = {"$lt", "$lte", "$gt", "$gte"}
LISTS = {"$in", "$nin", "$overlap"}
MEMBERS = {"$contains", "$overlap"}
OPERATORS = {"$eq", "$ne", "$exists"} | RANGES | LISTS | MEMBERS
UNORDERED = {"boolean", "string[]"}

UNSTORABLE = re.compile("[\0\ud800-\udfff]")
# Postgres knows no offset beyond 15:59 (no zone has one beyond 14:00), Python no leap second: neither is a time here.
RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?"
    r"([Zz]|[+-](?:0[0-9]|1[0-5]):[0-5][0-9])"
)


class ValueReader:
    """Reads the operands of one filter; all their lists together hold at most `limit` values."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._left = limit

    def operand(self, operator: str, raw: object, *, type_: str | None, at: str) -> object:
        """The operand as the tree keeps it. `type_` is the column's or declared attribute's, None for any JSON."""
        if operator not in OPERATORS:
            raise InvalidError("unknown operator; an object as a value is written {'$eq': {…}}", field=at)
        if operator == "$exists":
            return read_boolean(raw, at=at)
        if operator in RANGES and type_ in UNORDERED:
            raise InvalidError(f"{operator} takes numbers, strings and times, and this is a {type_}", field=at)
        if operator in MEMBERS and type_ not in {None, "string[]"}:
            raise InvalidError(f"{operator} looks into a list, and this is a {type_}", field=at)
        read = self._reader(operator, type_)
        if operator not in LISTS:
            return read(raw, at=at)
        return tuple(read(each, at=f"{at}.{i}") for i, each in enumerate(self._list(raw, at=at)))

    def _reader(self, operator: str, type_: str | None) -> "Callable[..., object]":
        if operator in MEMBERS:
            return read_text if type_ else read_scalar
        if type_ is None:
            return read_ordered if operator in RANGES else self._json
        return self._texts if type_ == "string[]" else READERS[type_]

    def _list(self, raw: object, *, at: str) -> list[object]:
        if not isinstance(raw, list):
            raise InvalidError("a list is needed here", field=at)
        self._count(raw, at=at)
        return raw

    def _texts(self, raw: object, *, at: str) -> list[str]:
        return [read_text(each, at=f"{at}.{i}") for i, each in enumerate(self._list(raw, at=at))]

    def _json(self, raw: object, *, at: str, nesting: int = 0) -> object:
        if not isinstance(raw, list | dict):
            return read_scalar(raw, at=at)
        if nesting == MAX_NESTING:
            raise InvalidError(f"a value is at most {MAX_NESTING} lists and objects deep", field=at)
        self._count(raw, at=at)
        if isinstance(raw, list):
            return [self._json(each, at=at, nesting=nesting + 1) for each in raw]
        return {read_text(key, at=at): self._json(each, at=at, nesting=nesting + 1) for key, each in raw.items()}

    def _count(self, raw: list[object] | dict[str, object], *, at: str) -> None:
        self._left -= len(raw)
        if self._left < 0:
            raise InvalidError(f"the lists of a filter hold at most {self._limit} values", field=at)


def read_boolean(raw: object, *, at: str) -> bool:
    if not isinstance(raw, bool):
        raise InvalidError("true or false is needed here", field=at)
    return raw


def read_text(raw: object, *, at: str) -> str:
    if not isinstance(raw, str):
        raise InvalidError("a string is needed here", field=at)
    if len(raw) > MAX_TEXT:
        raise InvalidError(f"a string in a filter has at most {MAX_TEXT} characters", field=at)
    if UNSTORABLE.search(raw):
        raise InvalidError("no stored string holds a NUL or half a surrogate pair", field=at)
    return raw


def read_number(raw: object, *, at: str) -> int | float:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise InvalidError("a number is needed here", field=at)
    if isinstance(raw, float) and not isfinite(raw):
        raise InvalidError("a number must be finite", field=at)
    if isinstance(raw, int) and raw not in INT64:
        raise InvalidError("an integer must fit into 64 bits", field=at)
    return raw


def read_integer(raw: object, *, at: str) -> int:
    """JSON has one kind of number: 2020.0 is the integer 2020."""
    number = read_number(raw, at=at)
    if number != int(number):
        raise InvalidError("an integer is needed here", field=at)
    if int(number) not in INT64:
        raise InvalidError("an integer must fit into 64 bits", field=at)
    return int(number)


def read_time(raw: object, *, at: str) -> datetime:
    """An RFC 3339 time in UTC, rounded to microseconds as Postgres rounds it."""
    match = RFC3339.fullmatch(read_text(raw, at=at))
    try:
        if match is None:
            raise ValueError  # noqa: TRY301  one refusal for a wrong form and for the 30th of February
        date, clock, fraction, offset = match.groups()
        moment = datetime.fromisoformat(f"{date}T{clock}{offset.upper()}").astimezone(UTC)
        return moment + timedelta(microseconds=round(float(fraction or 0) * 1_000_000))
    except (ValueError, OverflowError) as error:
        raise InvalidError("an RFC 3339 time is needed here, such as 2024-05-01T00:00:00Z", field=at) from error


def read_scalar(raw: object, *, at: str) -> object:
    if isinstance(raw, str):
        return read_text(raw, at=at)
    if raw is None or isinstance(raw, bool):
        return raw
    if isinstance(raw, int | float):
        return read_number(raw, at=at)
    raise InvalidError("a string, a number, true, false or null is needed here", field=at)


def read_ordered(raw: object, *, at: str) -> object:
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        raise InvalidError("a number or a string is needed here", field=at)
    return read_scalar(raw, at=at)


READERS: "dict[str, Callable[..., object]]" = {
    "string": read_text,
    "integer": read_integer,
    "number": read_number,
    "boolean": read_boolean,
    "timestamp": read_time,
}
