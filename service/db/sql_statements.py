"""SQL as Postgres' own grammar reads it: libpg_query, through postgast. The only file that calls it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from typing import Any

import postgast
from google.protobuf.message import Message
from postgast import pg_query_pb2 as pg

from service.domain.errors import ServiceError

SHOWN = 110  # characters of a statement, in a sentence about it.


class UnreadableSqlError(ServiceError):
    """Not SQL, or SQL of a Postgres newer than the grammar."""


@dataclass(frozen=True, slots=True)
class Statement:
    """`kind` is the name of its node in the grammar, such as `alter_table_stmt`."""

    text: str
    kind: str
    node: Any

    def __str__(self) -> str:
        line = " ".join(self.text.split())
        return line if len(line) <= SHOWN else f"{line[: SHOWN - 2]} …"


def statements_of(script: str) -> list[Statement]:
    """The statements of a script, without the comments before each. Raises UnreadableSqlError."""
    try:
        parsed = postgast.parse(script)
    except postgast.PgQueryError as error:
        raise UnreadableSqlError(f"Postgres' grammar does not read it: {error}") from error
    encoded = script.encode()
    found = []
    for raw in parsed.stmts:
        kind = raw.stmt.WhichOneof("node")
        if kind is None:
            continue
        end = raw.stmt_location + raw.stmt_len if raw.stmt_len else len(encoded)
        lines = encoded[raw.stmt_location : end].decode().strip().splitlines()
        text = "\n".join(dropwhile(lambda line: not line.strip() or line.lstrip().startswith("--"), lines))
        found.append(Statement(text.rstrip("; \n"), kind, getattr(raw.stmt, kind)))
    return found


def relation(node: pg.RangeVar) -> str:
    """As it is written, without the schema that everything is in."""
    prefix = f"{node.schemaname}." if node.schemaname not in {"", "public"} else ""
    return f"{prefix}{node.relname}"


def words(nodes: Sequence[pg.Node]) -> list[str]:
    return [node.string.sval for node in nodes]


def dotted(nodes: Sequence[pg.Node]) -> str:
    """A name in its parts, as `relation` writes it."""
    return ".".join(word for word in words(nodes) if word not in {"", "public"})


def tables_in(node: Message) -> set[str]:
    """Every relation that is named anywhere below, without the names that WITH makes."""
    below = list(every(node))
    made = {each.ctename for each in below if isinstance(each, pg.CommonTableExpr)}
    return {relation(each) for each in below if isinstance(each, pg.RangeVar)} - made


def every(node: Message) -> Iterator[Message]:
    """The node and all below it."""
    yield node
    for field, value in node.ListFields():
        if field.type != field.TYPE_MESSAGE:
            continue
        children = [value] if isinstance(value, Message) else value
        for child in children:
            yield from every(child)
