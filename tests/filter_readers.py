"""A filter on its way to rows, as a search sends it: compiled once per skeleton, then bound, by either driver."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
import psqlpy
from sqlalchemy import Uuid, bindparam, select
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect

from service.db.filter_shapes import Shape
from service.db.filters import matches, parameters, skeleton
from service.db.tables import search_documents
from service.domain.filters import Filter, parse_filter
from service.domain.ids import new_id
from tests.filter_world import DECLARED

DIALECT = asyncpg_dialect.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]  # SQLAlchemy has not typed it


@dataclass
class Readers:
    """The same text with the same values through both drivers; compiled once per skeleton, as a search does."""

    asyncpg: asyncpg.Connection
    psqlpy: psqlpy.Connection
    compiled: dict[Shape, tuple[str, Sequence[str]]] = field(default_factory=dict)

    async def numbers(self, filter_: Filter, collection: str) -> set[int]:
        """Which documents match, by the number that each carries as its `chunk_count`."""
        sql, arguments = self.statement(filter_, collection)
        rows, others = await asyncio.gather(self.asyncpg.fetch(sql, *arguments), self.psqlpy.fetch(sql, arguments))
        numbers = {number for (number,) in rows}
        assert numbers == {row["chunk_count"] for row in others.result()}
        return numbers

    def statement(self, filter_: Filter, collection: str) -> tuple[str, list[object]]:
        shape = skeleton(filter_)
        if shape not in self.compiled:
            self.compiled[shape] = compile_filter(filter_)
        sql, names = self.compiled[shape]
        values = parameters(filter_) | {"collection": UUID(collection)}
        return sql, [values[name] for name in names]

    async def plan(self, filter_: Filter, collection: str) -> str:
        sql, arguments = self.statement(filter_, collection)
        return "\n".join(line for (line,) in await self.asyncpg.fetch(f"explain {sql}", *arguments))


def compile_filter(filter_: Filter) -> tuple[str, Sequence[str]]:
    rows = search_documents.alias("d")
    scope = rows.c.collection_id == bindparam("collection", type_=Uuid())
    compiled = select(rows.c.chunk_count).where(scope, matches(filter_, rows)).compile(dialect=DIALECT)
    return str(compiled), compiled.positiontup or ()


def parse(raw: object) -> Filter:
    parsed = parse_filter(raw, declared=DECLARED)
    assert parsed is not None
    return parsed


INSERT = """
insert into documents
  (id, collection_id, chunk_count, external_id, title, source, language, tags, published_at, attributes)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9::text::timestamptz, $10::text::jsonb)
"""


async def store(connection: asyncpg.Connection, rows: Sequence[Mapping[str, Any]]) -> str:
    """Into a collection of their own, whose id it returns. The time goes as text: see `filter_shapes.as_time`."""
    collection = new_id()
    columns = ("external_id", "title", "source", "language", "tags")
    await connection.executemany(
        INSERT,
        [
            (new_id(), collection, number, *(row[c] for c in columns), row["published_at"], row["attributes"])
            for number, row in enumerate(rows)
        ],
    )
    return str(collection)
