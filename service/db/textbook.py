"""Lexemes and `ts_rank_cd` in a database of its own that is thrown away: what figures compare the service's ranking with.

The recipe is the textbook's: a tsvector under GIN, an OR of the question's lexemes, `ts_rank_cd`. No search comes by here.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.owner import open_direct

AT_ONCE = 1_000

CREATE = text('create temporary table textbook (id text collate "C" primary key, words tsvector not null)')
INDEX = text("create index on textbook using gin (words)")
ANALYZE = text("analyze textbook")
INSERT = text(
    """
    insert into textbook
    select id, to_tsvector(cast(:language as regconfig), words)
    from unnest(cast(:ids as text[]), cast(:texts as text[])) given(id, words)
    """
)
COUNTED = text(
    "select id, tsvector_to_array(words), array(select cardinality(positions) from unnest(words)) from textbook order by id"
)
LEXEMES = text("select tsvector_to_array(to_tsvector(cast(:language as regconfig), :question))")
# A lexeme may hold quotes and backslashes; of none at all the query is null, which matches nothing.
RANKED = text(
    r"""
    with asked as materialized (
        select string_agg('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''', ' | ')::tsquery as query
        from unnest(to_tsvector(cast(:language as regconfig), :question))
    )
    select id from textbook, asked where words @@ query order by ts_rank_cd(words, query) desc, id limit cast(:limit as int)
    """
)


@dataclass(frozen=True, slots=True)
class Counted:
    """How often each lexeme occurs in a passage."""

    id: str
    lexemes: Sequence[str]
    counts: Sequence[int]


class Textbook:
    """Passages by id, in one text search configuration."""

    def __init__(self, connection: AsyncConnection, *, language: str) -> None:
        self._connection = connection
        self._language = language

    async def load(self, passages: Mapping[str, str]) -> None:
        await self._connection.execute(CREATE)
        ids, texts = list(passages), list(passages.values())
        for start in range(0, len(ids), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            await self._connection.execute(INSERT, {"language": self._language, "ids": ids[part], "texts": texts[part]})
        await self._connection.execute(INDEX)
        await self._connection.execute(ANALYZE)

    async def counted(self) -> list[Counted]:
        return [Counted(*row) for row in await self._connection.execute(COUNTED)]

    async def lexemes(self, question: str) -> list[str]:
        """The distinct ones."""
        values = {"language": self._language, "question": question}
        return list((await self._connection.execute(LEXEMES, values)).scalar_one())

    async def ranked(self, question: str, *, limit: int | None = None) -> list[str]:
        """Passages with any lexeme of the question, by `ts_rank_cd`, as it is without options; ties by id."""
        values = {"language": self._language, "question": question, "limit": limit}
        return list((await self._connection.execute(RANKED, values)).scalars())


@asynccontextmanager
async def open_textbook(url: str, *, language: str) -> AsyncIterator[Textbook]:
    """On a connection of its own, with which its table goes."""
    engine = open_direct(url)
    try:
        async with engine.connect() as connection:
            yield Textbook(connection, language=language)
    finally:
        await engine.dispose()
