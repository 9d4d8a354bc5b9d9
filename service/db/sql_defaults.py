"""What a new column's definition makes Postgres do with the rows that are there."""

from collections.abc import Iterator

from postgast import pg_query_pb2 as pg

from service.db.sql_statements import every, words

# One value for all rows of a statement, so it is kept in the catalog and no row is written. Any other function counts as
# volatile: its definition may be anything, and a wrong guess writes the whole table.
ONE_VALUE = frozenset(
    {
        "current_setting",
        "date_trunc",
        "decode",
        "jsonb_build_array",
        "jsonb_build_object",
        "length",
        "lower",
        "make_interval",
        "md5",
        "now",
        "repeat",
        "statement_timestamp",
        "to_jsonb",
        "to_timestamp",
        "to_tsvector",
        "transaction_timestamp",
        "upper",
    }
)
SERIAL = frozenset({"smallserial", "serial", "bigserial", "serial2", "serial4", "serial8"})


def constraints_of(column: pg.ColumnDef) -> list[pg.Constraint]:
    return [node.constraint for node in column.constraints]


def has(column: pg.ColumnDef, *kinds: int) -> bool:
    return any(each.contype in kinds for each in constraints_of(column))


def type_name(column: pg.ColumnDef) -> str:
    """Without the schema of Postgres' own types."""
    return ".".join(word for word in words(column.type_name.names) if word != "pg_catalog")


def calls(node: pg.Node) -> Iterator[str]:
    for each in every(node):
        if isinstance(each, pg.FuncCall):
            yield words(each.funcname)[-1]


def differs_by_row(column: pg.ColumnDef) -> str | None:
    """Why every row must be written for this column; None where the catalog remembers one value for all of them."""
    if type_name(column) in SERIAL:
        return f"type {type_name(column)} numbers"
    for each in constraints_of(column):
        if each.contype == pg.CONSTR_IDENTITY:
            return "an identity numbers"
        if each.contype == pg.CONSTR_GENERATED and each.generated_kind != "v":
            return "a stored generated column computes"
        if each.contype == pg.CONSTR_DEFAULT:
            volatile = [name for name in calls(each.raw_expr) if name not in ONE_VALUE]
            if volatile:
                return f"{volatile[0]}() is asked for"
    return None
