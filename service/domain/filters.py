"""What a client may ask of documents beside words: the tree of a filter, and the reading of it from JSON.

docs/decisions/0009-filters.md says what each operator means; nothing here knows about SQL.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, cast

from service.domain.errors import InvalidError
from service.domain.filter_values import ValueReader, read_text

MAX_DEPTH = 5
MAX_NODES = 50
MAX_VALUES = 1_000
MAX_KEYS = 10  # Every depth of path is a shape of statement of its own.
SHOWN = 100  # Characters of a client's key that an error repeats.

Operator = Literal["$eq", "$ne", "$in", "$nin", "$lt", "$lte", "$gt", "$gte", "$contains", "$overlap", "$exists"]

COLUMNS: Mapping[str, str] = {
    "external_id": "string",
    "title": "string",
    "source": "string",
    "tags": "string[]",
    "published_at": "timestamp",
    "language": "string",
}


class Joined(Protocol):
    """A table of the service's own whose rows belong to documents: docs/howto/filter-by-your-own-table.md."""

    @property
    def name(self) -> str: ...

    @property
    def types(self) -> Mapping[str, str]:
        """Which columns a filter may name as `<name>.<column>`, and their types."""


@dataclass(frozen=True, slots=True)
class Field:
    """A column, or `keys` into the column `attributes`; an attribute that nobody declared has no type.

    With `table` a column of that table, in whichever of its rows belong to the document.
    """

    column: str
    keys: tuple[str, ...]
    type: str | None
    table: Joined | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """`value` as JSON, a tuple of it for `$in`, `$nin` and `$overlap`; times as aware datetimes in UTC."""

    field: Field
    operator: Operator
    value: object


@dataclass(frozen=True, slots=True)
class And:
    operands: "tuple[Filter, ...]"


@dataclass(frozen=True, slots=True)
class Or:
    operands: "tuple[Filter, ...]"


@dataclass(frozen=True, slots=True)
class Not:
    operand: "Filter"


Filter: TypeAlias = Comparison | And | Or | Not


def parse_filter(raw: object, *, declared: Mapping[str, str], joined: Iterable[Joined] = ()) -> Filter | None:
    """The tree of a filter as JSON has it; None when it asks for nothing. `declared`: attribute name to type.

    Raises InvalidError, whose field is the path of what cannot be accepted.
    """
    if raw is None or raw == {}:
        return None
    return FilterReader(declared, joined).conjunction(raw, at="filter", depth=1)


class FilterReader:
    """One reading of one filter: it counts what it reads, so that nobody sends more than the limits."""

    def __init__(self, declared: Mapping[str, str], joined: Iterable[Joined]) -> None:
        self._declared = declared
        self._joined = {
            f"{table.name}.{column}": Field(column, (), type_, table)
            for table in joined
            for column, type_ in table.types.items()
        }
        self._nodes = 0
        self._values = ValueReader(MAX_VALUES)

    def conjunction(self, raw: object, *, at: str, depth: int) -> Filter:
        """An object of columns and `$and`, `$or`, `$not`: all of them must hold."""
        if not isinstance(raw, dict):
            raise InvalidError("a filter is an object", field=at)
        return both([self._member(key, operand, at=below(at, key), depth=depth) for key, operand in raw.items()])

    def _member(self, key: str, raw: object, *, at: str, depth: int) -> Filter:
        if not key.startswith("$"):
            field = self._joined.get(key) or read_field(key, declared=self._declared, at=at, also=self._joined)
            return self._operations(field, raw, at=at, depth=depth)
        if key == "$not":
            self._count_node(at, depth)
            return Not(self.conjunction(raw, at=at, depth=depth + 1))
        if key not in {"$and", "$or"}:
            raise InvalidError("unknown operator; between columns there are $and, $or and $not", field=at)
        self._count_node(at, depth)
        if not isinstance(raw, list) or not raw:
            raise InvalidError(f"{key} takes a list of at least one filter", field=at)
        operands = tuple(self.conjunction(each, at=f"{at}.{i}", depth=depth + 1) for i, each in enumerate(raw))
        return And(operands) if key == "$and" else Or(operands)

    def _operations(self, field: Field, raw: object, *, at: str, depth: int) -> Filter:
        """An object of operators on one field; anything else is what the field must equal."""
        if not isinstance(raw, dict):
            return self._comparison(field, "$eq", raw, at=at, depth=depth)
        if not raw:
            raise InvalidError("an operator is missing", field=at)
        return both([self._operation(field, key, each, at=below(at, key), depth=depth) for key, each in raw.items()])

    def _operation(self, field: Field, operator: str, raw: object, *, at: str, depth: int) -> Filter:
        if operator != "$not":
            return self._comparison(field, operator, raw, at=at, depth=depth)
        self._count_node(at, depth)
        return Not(self._operations(field, raw, at=at, depth=depth + 1))

    def _comparison(self, field: Field, operator: str, raw: object, *, at: str, depth: int) -> Filter:
        self._count_node(at, depth)
        value = self._values.operand(operator, raw, type_=field.type, at=at)
        return Comparison(field, cast("Operator", operator), value)

    def _count_node(self, at: str, depth: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise InvalidError(f"a filter has at most {MAX_NODES} nodes", field=at)
        if depth > MAX_DEPTH:
            raise InvalidError(f"a filter is at most {MAX_DEPTH} deep", field=at)


def read_field(key: str, *, declared: Mapping[str, str], at: str, also: Iterable[str] = ()) -> Field:
    """A column or a path into the attributes; `also`: what else an error calls known. Raises InvalidError."""
    if key in COLUMNS:
        return Field(key, (), COLUMNS[key])
    column, *keys = read_text(key, at=at).split(".")
    if column != "attributes" or not keys or not all(keys):
        known = ", ".join((*COLUMNS, *also))
        raise InvalidError(f"unknown column; there are {known} and attributes.<name>", field=at)
    if len(keys) > MAX_KEYS:
        raise InvalidError(f"a path has at most {MAX_KEYS} names", field=at)
    return Field(column, tuple(keys), declared.get(".".join(keys)))


def both(operands: list[Filter]) -> Filter:
    return operands[0] if len(operands) == 1 else And(tuple(operands))


def below(at: str, key: str) -> str:
    """The path of a member."""
    return f"{at}.{shown(key)}"


def shown(key: str) -> str:
    """A client's key as an answer repeats it; what none could carry (a lone surrogate) is escaped."""
    short = key if len(key) <= SHOWN else key[:SHOWN] + "…"
    return short.encode(errors="backslashreplace").decode()
