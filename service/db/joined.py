"""The extension point of the filter: a table of the service's own whose rows belong to documents.

docs/howto/filter-by-your-own-table.md shows the whole way; its test runs what stands there.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    ColumnElement,
    DateTime,
    Double,
    Enum,
    FromClause,
    Integer,
    Numeric,
    String,
    Text,
    literal_column,
    select,
)
from sqlalchemy.types import TypeEngine

from service.db.roles import literal
from service.db.semantic import COLLECTION
from service.db.tables import collections
from service.domain.filters import COLUMNS

NAME = re.compile(r"[a-z][a-z0-9_]*")
TAKEN = {*COLUMNS, "attributes"}


@dataclass(frozen=True, eq=False)
class JoinedTable:
    """`columns` of `table` are fields of the filter, named `<name>.<column>`; their types are those of the table.

    `on` says which rows belong to a document: it is given the documents, with the columns of `search_documents`, and
    the table. Whose rows they are is not its business: the table has `collection_id`, or else `tenant_id`, and every
    statement keeps to the collection that it searches, or else to that collection's tenant. Raises TypeError.
    """

    name: str
    table: FromClause = field(repr=False)
    columns: Sequence[str] = field(repr=False)
    on: Callable[[FromClause, FromClause], ColumnElement[bool]] = field(repr=False)
    types: Mapping[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name) or self.name in TAKEN:
            raise TypeError(f"{self.name!r} is no name for a joined table: one of a-z, 0-9 and _ that no column has")
        if not {"collection_id", "tenant_id"} & set(self.table.c.keys()):
            raise TypeError(f"{self.name} has neither collection_id nor tenant_id: everybody would see its rows")
        types = {column: type_name(self.table.c[column]) for column in self.columns}
        object.__setattr__(self, "types", types)

    def scope(self, table: FromClause) -> ColumnElement[bool]:
        """Begins at `collections`, which is under row security: a foreign collection has no tenant here."""
        if "collection_id" in table.c:
            return table.c.collection_id == COLLECTION
        own = collections.alias()
        tenant = select(own.c.tenant_id).where(own.c.id == COLLECTION, own.c.deleted_at.is_(None))
        return table.c.tenant_id == tenant.scalar_subquery()


def attribute(documents: FromClause, *path: str) -> ColumnElement[str]:
    """The attribute under this path as text, to join by; null without one. Spelled, so an index on it would serve."""
    value: ColumnElement[Any] = documents.c.attributes
    for name in path[:-1]:
        value = value.op("->")(literal_column(literal(name)))
    return value.op("->>", return_type=Text())(literal_column(literal(path[-1])))


def type_name(column: ColumnElement[Any]) -> str:
    """The filter's word for a column's type."""
    match column.type:
        case ARRAY(item_type=String()):
            return "string[]"
        case Enum():
            pass
        case String():
            return "string"
        case Boolean():
            return "boolean"
        case Integer():
            return "integer"
        case Double() | Numeric():  # not REAL, in which no 0.1 equals the client's
            return "number"
        case DateTime(timezone=True):
            return "timestamp"
    raise TypeError(
        f"{column} is of a type that no filter can compare; a view may cast it to "
        "text, bigint, double precision, numeric, boolean, timestamptz or text[]"
    )


def widest(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """What the value of a filter is cast to, so that no value is too large for the cast."""
    return BigInteger() if isinstance(type_, Integer) else type_
