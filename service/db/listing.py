"""Which documents a list shows, filtered and sorted: their ids first, then what is shown of them.

A filter is answered by the reading door: under row security, which the application's role is under, none of its operators may
use an index, so that the rarest filter reads the whole collection. Sorts and statuses that the door's views do not know, and
lists without a filter, which must show what was written just now, are answered by the primary.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    DateTime,
    FromClause,
    Integer,
    Select,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    tuple_,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db import filters
from service.db.documents import COLUMNS, newest, newest_versions, read_document
from service.db.filters import RFC3339
from service.db.jobs import documents_in_hand
from service.db.read_pool import Reader
from service.db.retrieval import SearchDialect, Statement, scoped
from service.db.semantic import COLLECTION
from service.db.tables import document_versions, documents, search_documents
from service.domain.documents import Collection, Document, Status
from service.domain.filters import Filter
from service.domain.sorting import Position, Sort

SORTED_LENGTH = 512  # Characters of a title that decide its place, so that a cursor fits into a URL.
LAST, LAST_ID = bindparam("last", type_=Text), bindparam("last_id", type_=Uuid)
LIMIT = bindparam("limit", type_=Integer)
KINDS: Mapping[str, Any] = {"moment": DateTime(timezone=True), "text": Text(), "json": JSONB()}
KIND_NAMES = {"moment": "timestamptz", "text": "text", "json": "jsonb"}


def key_of(sort: Sort, source: FromClause) -> ColumnElement[Any]:
    """What is sorted by. Strings by code point; of attributes strings come first, then numbers, then booleans."""
    column = source.c[sort.field.column]
    if sort.field.keys:
        value: ColumnElement[Any] = column
        for number in range(len(sort.field.keys)):
            value = value.op("->", return_type=JSONB())(bindparam(f"key{number}", type_=Text))
        # What its index holds; lists, objects and strings over 2,000 bytes have no place, and stand with the missing.
        value = func.indexed_value(value, type_=JSONB())
        return moment_of(value) if sort.kind == "moment" else value
    if sort.kind == "moment":
        return column
    short = func.left(column, literal_column(str(SORTED_LENGTH))) if sort.field.column == "title" else column
    return short.collate("C")


def moment_of(value: ColumnElement[Any]) -> ColumnElement[Any]:
    """A declared timestamp as a time; what is none has no place."""
    string = value.op("#>>", return_type=Text())(literal_column("'{}'", Text))
    is_time = and_(
        string.op("~", is_comparison=True)(RFC3339),
        func.pg_input_is_valid(string, literal_column("'timestamptz'", Text)),
    )
    return case((is_time, sql_cast(string, DateTime(timezone=True))))


def following(sort: Sort | None, key: ColumnElement[Any] | None, id_: ColumnElement[UUID], after: Position) -> Any:  # noqa: ANN401  a condition
    """What stands after a position, of which a client may have made anything: a value that is none is as good as null."""
    if sort is None or key is None:
        return id_ < LAST_ID
    beyond = id_ < LAST_ID if sort.descending else id_ > LAST_ID
    if after.value is None:
        return and_(key.is_(null()), beyond)
    last: ColumnElement[Any] = LAST
    if sort.kind != "text":
        # The cast is outside, because the planner would try it on whatever constant stood in it.
        name = literal_column(f"'{KIND_NAMES[sort.kind]}'", Text)
        last = sql_cast(case((func.pg_input_is_valid(LAST, name), LAST)), KINDS[sort.kind])
    here, there = tuple_(key, id_), tuple_(last, LAST_ID)
    return or_(here < there if sort.descending else here > there, key.is_(null()))


def unfinished(status: Status) -> Select[tuple[UUID]]:
    """The documents whose newest version is one of these, from the index of such versions, each looked up by its key.

    No join is left to the planner: of a collection that is being loaded it knows nothing yet, and believes in one row. Those in
    hand are read once: they are the oldest of what waits, so that a page from the newest on would look through it all.
    """
    v, in_hand = document_versions.c, documents_in_hand(COLLECTION)
    kept = literal("pending" if status == "processing" else status, literal_execute=True)
    version = select(documents.c.version).where(documents.c.id == v.document_id).scalar_subquery()
    found = select(v.document_id).where(v.collection_id == COLLECTION, v.status == kept, v.number == version)
    if status == "processing":
        return found.where(v.document_id == func.any(func.array(in_hand.scalar_subquery())))
    return found.where(v.document_id.not_in(in_hand)) if status == "pending" else found


def ids_statement(
    filter_: Filter | None, sort: Sort | None, *, status: Status | None, after: Position | None, source: FromClause
) -> Select[Any]:
    """(id, the value that it is sorted by, as text), in order; `source` is the table, or the view of the reading door."""
    id_, key = source.c.id, None if sort is None else key_of(sort, source)
    spelled = null() if key is None else sql_cast(key, Text)
    scope = scoped()
    rows = scope.join(source, source.c.collection_id == scope.c.id)
    conditions = [source.c.collection_id == COLLECTION]
    if status == "indexed":
        rows = rows.join(newest, and_(newest.c.document_id == id_, newest.c.number == documents.c.version))
        conditions.append(newest.c.status == literal(status, literal_execute=True))
    elif status is not None:
        those = unfinished(status)
        if filter_ is None and sort is None:
            here = document_versions.c.document_id
            those = those.where(*([] if after is None else [here < LAST_ID])).order_by(here.desc()).limit(LIMIT)
        conditions.append(id_ == func.any(func.array(those.scalar_subquery())))
    if filter_ is not None:
        conditions.append(filters.matches(filter_, source))
    if after is not None:
        conditions.append(following(sort, key, id_, after))
    falling = sort is None or sort.descending
    order = [id_.desc() if falling else id_.asc()]
    if key is not None:
        order.insert(0, key.desc().nulls_last() if falling else key.asc().nulls_last())
    found = select(id_, spelled.label("value")).select_from(rows).where(*conditions)
    return found.order_by(*order).limit(LIMIT)


def values_of(
    collection: Collection, filter_: Filter | None, sort: Sort | None, *, after: Position | None, limit: int
) -> dict[str, object]:
    values: dict[str, object] = {"collection": collection.id, "tenant": str(collection.tenant_id), "limit": limit}
    if after is not None:
        values |= {"last": after.value, "last_id": after.id}
    if sort is not None:
        values |= {f"key{number}": key for number, key in enumerate(sort.field.keys)}
    return values if filter_ is None else values | filters.parameters(filter_)


def knows(sort: Sort | None, status: Status | None) -> bool:
    """Whether the views of the reading door have all that this order and this choice ask for."""
    return status is None and (sort is None or sort.field.column in search_documents.c)


async def read_ids(
    collection: Collection,
    filter_: Filter | None,
    sort: Sort | None,
    *,
    after: Position | None,
    limit: int,
    reader: Reader,
) -> list[Position]:
    """Through the reading door, unprepared: lists take none of the connections of searches."""
    statement = ids_statement(filter_, sort, status=None, after=after, source=search_documents)
    compiled = statement.compile(dialect=SearchDialect())  # type: ignore[no-untyped-call]
    rows = await reader.fetch(
        Statement(str(compiled), tuple(compiled.positiontup or ()), prepared=False),
        values_of(collection, filter_, sort, after=after, limit=limit),
        settings={"app.tenant_id": str(collection.tenant_id)},
    )
    return [Position(value, UUID(bytes=id_.bytes)) for id_, value in cast("Sequence[tuple[UUID, str | None]]", rows)]


async def find_ids(
    connection: AsyncConnection,
    collection: Collection,
    filter_: Filter | None,
    sort: Sort | None,
    *,
    status: Status | None,
    after: Position | None,
    limit: int,
) -> list[Position]:
    """Through the primary, under row security."""
    statement = ids_statement(filter_, sort, status=status, after=after, source=documents)
    values = values_of(collection, filter_, sort, after=after, limit=limit)
    return [Position(row.value, row.id) for row in await connection.execute(statement, values)]


async def find_documents(connection: AsyncConnection, collection: Collection, ids: Sequence[UUID]) -> list[Document]:
    """In the order of the ids; what was deleted meanwhile is left out."""
    statement = newest_versions(collection.tenant_id, *COLUMNS).where(
        documents.c.collection_id == collection.id, documents.c.id.in_(ids)
    )
    found = {row["id"]: read_document(row) for row in (await connection.execute(statement)).mappings()}
    return [found[id_] for id_ in ids if id_ in found]
